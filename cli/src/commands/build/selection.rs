//! Which files of a folder are sent.

use std::collections::BTreeSet;

use dockerfile::ContextFiles;
use dockerfile::pattern::{Ignore, Walk};

/// What is known of the files that a build needs.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// What the ignore file leaves out.
    pub(super) ignore: Ignore,
    /// Sent in any case.
    pub(super) always: BTreeSet<String>,
    /// Not taken from the folder, because something else has these names.
    pub(super) replaced: BTreeSet<String>,
    /// What the Dockerfile reads; none where nobody knows.
    pub(super) needed: Option<ContextFiles>,
}

impl Selection {
    /// Whether a file or folder is sent. Its path has no slash in front; `walk` is at the folder that it is in.
    pub(super) fn takes(&self, walk: &Walk<'_>, path: &str) -> bool {
        if self.replaced.contains(path) {
            return false;
        }
        let is_needed = || self.needed.as_ref().is_none_or(|needed| needed.contains(path));
        self.always.contains(path) || (is_needed() && !walk.ignores(path))
    }

    /// Whether something in a folder may be sent, so that it has to be read. `walk` is in the folder.
    pub(super) fn reads(&self, walk: &Walk<'_>, folder: &str) -> bool {
        let is_below = |path: &String| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        self.always.iter().any(is_below) || (self.may_need(folder) && !walk.skips_all(folder))
    }

    fn may_need(&self, folder: &str) -> bool {
        self.needed.as_ref().is_none_or(|needed| {
            needed.contains(folder) || needed.names().any(|name| may_lead_into(name, folder))
        })
    }
}

/// Whether a part of a path has a meaning in patterns.
pub(super) fn is_wild(part: &str) -> bool {
    part.contains(['*', '?', '[', '\\'])
}

/// Whether what a path or pattern names may be in a folder. It says yes too often rather than too seldom.
fn may_lead_into(name: &str, folder: &str) -> bool {
    for (part, above) in name.split('/').zip(folder.split('/')) {
        match part {
            "**" => return true,
            part if part == above || is_wild(part) => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_for_what_may_be_in_it() {
        for (name, folder, expected) in [
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/x", false),
            ("a/*/c", "a/x", true),
            ("*.txt", "a", true),
            ("a/**/c", "a/x/y/z", true),
            ("a/[bc]/d", "a/b", true),
        ] {
            assert_eq!(may_lead_into(name, folder), expected, "{name} in {folder}");
        }
    }
}
