//! Where a copy goes, and under which name: the rules of cp(1) as Docker has them.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The name it has in its archive: `.` for the content of a directory.
    pub(super) name: String,
    pub(super) is_directory: bool,
}

/// Where to, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_directory: bool,
}

impl Destination {
    /// What is here; links are followed.
    pub(super) fn local(path: &str) -> anyhow::Result<Self> {
        if let Ok(metadata) = fs::metadata(path) {
            let real = fs::canonicalize(path).with_context(|| format!("cannot find {path}"))?;
            return Ok(Self {
                path: text(&real)?,
                exists: true,
                is_directory: metadata.is_dir(),
            });
        }
        // A link to nothing: what it names is made.
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let Ok(target) = fs::read_link(path.trim_end_matches('/')) else {
                break;
            };
            let target = Path::new(&split_entry(&path).0).join(target);
            path = text(&target)?;
        }
        Ok(Self {
            path,
            exists: false,
            is_directory: false,
        })
    }
}

/// Linux follows as many.
const MAX_LINKS: u32 = 40;

/// The folder to unpack in and the name there. `.` as a name stands for the folder itself.
pub(super) fn place(source: &Source, destination: &Destination) -> anyhow::Result<(String, String)> {
    if destination.exists && destination.is_directory {
        return Ok((destination.path.clone(), source.name.clone()));
    }
    if destination.exists && source.is_directory {
        bail!("cannot copy directory");
    }
    if !destination.exists && !source.is_directory && asserts_directory(&destination.path) {
        bail!("no such directory");
    }
    Ok(split_entry(&destination.path))
}

/// Whether a path says that it is a directory.
fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || base_name(path) == "."
}

/// The last name of a path, as Go's `filepath.Base`: `/` for the root, `.` for nothing.
pub(super) fn base_name(path: &str) -> &str {
    match (path, path.trim_end_matches('/')) {
        ("", _) => ".",
        (_, "") => "/",
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Folder and name of a path, the name `.` where the path ends so.
pub(super) fn split_entry(path: &str) -> (String, String) {
    let mut clean = clean(path);
    if base_name(path) == "." {
        clean.push_str("/.");
    }
    match clean.rsplit_once('/') {
        Some(("", name)) => ("/".into(), name.to_owned()),
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (".".into(), clean),
    }
}

/// `.`, `..` and doubled slashes carried out on the text.
fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if !matches!(names.last(), None | Some(&"..")) => drop(names.pop()),
            ".." if path.starts_with('/') => {}
            name => names.push(name),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match format!("{root}{}", names.join("/")) {
        clean if clean.is_empty() => ".".into(),
        clean => clean,
    }
}

/// What a link stands for in place of its own path, with the slash or dot behind it; and the name that its archive is to
/// have instead of the target's, if it is another.
pub(super) fn follow(path: &str, target: &str) -> (String, Option<String>) {
    let mut target = target.to_owned();
    if base_name(path) == "." && base_name(&target) != "." {
        target.push_str("/.");
    }
    if path.ends_with('/') && !target.ends_with('/') {
        target.push('/');
    }
    let name = (base_name(path) != base_name(&target)).then(|| base_name(path).to_owned());
    (target, name)
}

/// A local path made absolute; a slash or dot at its end stays.
pub(super) fn absolute(path: &str) -> anyhow::Result<String> {
    let here = env::current_dir().context("cannot find the working directory")?;
    let joined = text(&here.join(path))?;
    let mut absolute = clean(&joined);
    if base_name(path) == "." {
        absolute.push_str("/.");
    }
    if path.ends_with('/') && !absolute.ends_with('/') {
        absolute.push('/');
    }
    Ok(absolute)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("{} cannot be used: the path is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(
        name: &str,
        is_directory: bool,
        path: &str,
        at: Option<bool>,
    ) -> Result<(String, String), String> {
        let source = Source {
            name: name.into(),
            is_directory,
        };
        let destination = Destination {
            path: path.into(),
            exists: at.is_some(),
            is_directory: at == Some(true),
        };
        place(&source, &destination).map_err(|error| error.to_string())
    }

    fn ok(folder: &str, name: &str) -> Result<(String, String), String> {
        Ok((folder.into(), name.into()))
    }

    #[test]
    fn a_copy_goes_where_docker_has_it_go() {
        assert_eq!(placed("f", false, "/d", Some(true)), ok("/d", "f"));
        assert_eq!(placed("f", false, "/d/g", Some(false)), ok("/d", "g"));
        assert_eq!(placed("f", false, "/d/g", None), ok("/d", "g"));
        assert_eq!(placed("f", false, "/d/g/", None), Err("no such directory".into()));
        assert_eq!(placed("s", true, "/d", Some(true)), ok("/d", "s"));
        assert_eq!(placed(".", true, "/d", Some(true)), ok("/d", "."));
        assert_eq!(placed("s", true, "/d/n", None), ok("/d", "n"));
        assert_eq!(placed(".", true, "/d/n/", None), ok("/d", "n"));
        assert_eq!(
            placed("s", true, "/d/f", Some(false)),
            Err("cannot copy directory".into())
        );
    }

    #[test]
    fn names_are_those_of_go() {
        for (path, name) in [
            ("/a/b", "b"),
            ("/a/b/", "b"),
            ("/a/.", "."),
            ("/", "/"),
            ("", "."),
            ("a", "a"),
        ] {
            assert_eq!(base_name(path), name, "{path}");
        }
        assert_eq!(split_entry("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split_entry("/a/."), ("/a".into(), ".".into()));
        assert_eq!(split_entry("/"), ("/".into(), String::new()));
    }

    #[test]
    fn a_followed_link_keeps_its_own_name() {
        assert_eq!(
            follow("/a/link", "/b/file"),
            ("/b/file".into(), Some("link".into()))
        );
        assert_eq!(follow("/a/link/.", "/b/dir"), ("/b/dir/.".into(), None));
        assert_eq!(follow("/a/same", "/b/same"), ("/b/same".into(), None));
    }

    #[test]
    fn text_is_cleaned_without_looking() {
        assert_eq!(clean("/a/./b/../c//"), "/a/c");
        assert_eq!(clean("/../x"), "/x");
        assert_eq!(clean("../x/.."), "..");
        assert_eq!(clean("."), ".");
    }
}
