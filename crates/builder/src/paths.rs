//! Paths as bytes, taken apart and made clean. None is ever given to the host's file system.

/// The longest path in bytes (`PATH_MAX` of Linux without its NUL).
pub(crate) const MAX_PATH: usize = 4095;
/// The longest name in bytes (`NAME_MAX`).
pub(crate) const MAX_NAME: usize = 255;

/// The components of a path; `.` and empty ones vanish, and `..` takes the one before it. At the root it vanishes, too.
pub(crate) fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components
}

/// `directory/name`, or `name` at the root, which is the empty path.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// The path of the directory that a clean path is in; `None` for the root.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some(&path[..slash]),
        None if path.is_empty() => None,
        None => Some(b""),
    }
}

/// The last name of a clean path.
pub(crate) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a path means a directory by the way it is written: it ends in `/` or in `.`.
pub(crate) fn is_directory_path(path: &[u8]) -> bool {
    matches!(last_name(path), b"" | b"." | b"..")
}

/// Names that begin so are whiteouts in a layer (OCI image specification, layer.md): they remove a file instead of making
/// one.
pub(crate) fn is_whiteout(name: &[u8]) -> bool {
    name.starts_with(b".wh.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_clean_and_stays_beneath_the_root() {
        let clean = |path: &str| components(path.as_bytes()).join(&b'/');
        for (path, expected) in [
            ("/a/./b//c/", "a/b/c"),
            ("a/../b", "b"),
            ("../../b", "b"),
            ("/", ""),
            ("", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(clean(path), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn the_parts_of_a_path() {
        assert_eq!(parent(b"a/b"), Some(&b"a"[..]));
        assert_eq!(parent(b"a"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
        assert_eq!(last_name(b"a/b"), b"b");
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b"b"), b"a/b");
        for (path, expected) in [
            ("/a/", true),
            ("/a", false),
            (".", true),
            ("a/.", true),
            ("a/..", true),
        ] {
            assert_eq!(is_directory_path(path.as_bytes()), expected, "{path}");
        }
    }
}
