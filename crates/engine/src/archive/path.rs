//! Paths of a container as clients write them.

use crate::{EngineError, Result};

/// The longest path, in bytes: Linux has `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// The path made absolute, `.` and `..` carried out on the text, and a `/` or `/.` at its end kept: there it asks for
/// a directory.
pub(crate) fn clean(path: &str) -> Result<String> {
    if path.len() > MAX_PATH || path.contains('\0') {
        return Err(EngineError::Invalid(format!(
            "invalid path: at most {MAX_PATH} bytes are possible, and no zero byte"
        )));
    }
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let asks_for_content = path.trim_end_matches('/').rsplit('/').next() == Some(".");
    let has_slash = path.ends_with('/');
    let mut clean = format!("/{}", names.join("/"));
    if asks_for_content {
        if !clean.ends_with('/') {
            clean.push('/');
        }
        clean.push('.');
    }
    if has_slash && !clean.ends_with('/') {
        clean.push('/');
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_keep_what_asks_for_a_directory() {
        for (path, expected) in [
            ("etc", "/etc"),
            ("/etc//passwd", "/etc/passwd"),
            ("/a/./b/../c", "/a/c"),
            ("../../x", "/x"),
            ("/", "/"),
            ("/.", "/."),
            (".", "/."),
            ("/etc/", "/etc/"),
            ("/etc/.", "/etc/."),
            ("/etc/./", "/etc/./"),
            ("/etc/..", "/"),
            ("", "/"),
        ] {
            assert_eq!(clean(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn what_no_kernel_takes_is_refused() {
        assert!(clean(&"x".repeat(5000)).is_err());
        assert!(clean("a\0b").is_err());
    }
}
