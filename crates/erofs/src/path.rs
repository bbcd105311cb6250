//! Paths of entries: made canonical, refused when they try to leave the image.

use std::fmt;

/// The longest name of one file, in bytes (`EROFS_NAME_LEN`).
pub const MAX_NAME: usize = 255;
/// The longest path of an entry, in bytes (one less than the kernel's `PATH_MAX`, which counts the NUL).
pub const MAX_PATH: usize = 4095;

/// Why a path cannot name an entry. `path` is printed with everything unprintable escaped.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A component is `..`.
    #[error("entry `{path}` climbs with `..`, which could leave the image; it is refused")]
    ParentComponent {
        /// The path as it was given.
        path: String,
    },
    /// A component holds a NUL byte.
    #[error("entry `{path}` has a NUL byte in its name")]
    NulByte {
        /// The path as it was given.
        path: String,
    },
    /// A component is longer than [`MAX_NAME`].
    #[error("entry `{path}` has a name of {length} bytes; {MAX_NAME} are possible")]
    NameTooLong {
        /// The path as it was given.
        path: String,
        /// The name's length in bytes.
        length: usize,
    },
    /// The path is longer than [`MAX_PATH`].
    #[error("entry `{path}…` has a path of {length} bytes; {MAX_PATH} are possible")]
    PathTooLong {
        /// The first bytes of the path as it was given.
        path: String,
        /// The path's length in bytes.
        length: usize,
    },
    /// The path means the root directory, where only a directory may be.
    #[error("entry `{path}` names the root of the image, which can only be a directory")]
    Root {
        /// The path as it was given.
        path: String,
    },
}

/// A path beneath the image's root: borrowed components, none empty, `.` or `..`.
pub(crate) struct EntryPath<'a> {
    given: &'a [u8],
    components: Vec<&'a [u8]>,
}

impl<'a> EntryPath<'a> {
    /// Reads `/a//./b/` as `a`, `b`; an empty path or `.` is the root.
    pub(crate) fn parse(given: &'a [u8]) -> Result<Self, PathError> {
        if given.len() > MAX_PATH {
            return Err(PathError::PathTooLong {
                path: printable(&given[..64]),
                length: given.len(),
            });
        }
        let mut components = Vec::new();
        for component in given.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => {
                    return Err(PathError::ParentComponent {
                        path: printable(given),
                    });
                }
                name => check_name(name, given)?,
            }
            components.push(component);
        }
        Ok(Self { given, components })
    }

    /// All components, outermost first.
    pub(crate) fn components(&self) -> &[&'a [u8]] {
        &self.components
    }

    /// The directory's components and the last name; an error for the root, which has neither.
    pub(crate) fn split_last(&self) -> Result<(&'a [u8], &[&'a [u8]]), PathError> {
        match self.components.split_last() {
            Some((name, parents)) => Ok((name, parents)),
            None => Err(PathError::Root {
                path: self.to_string(),
            }),
        }
    }
}

impl fmt::Display for EntryPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.given.escape_ascii())
    }
}

/// Checks that `name` can be the name of one file; `path` is for the message.
pub(crate) fn check_name(name: &[u8], path: &[u8]) -> Result<(), PathError> {
    if name.len() > MAX_NAME {
        return Err(PathError::NameTooLong {
            path: printable(path),
            length: name.len(),
        });
    }
    if name.contains(&0) {
        return Err(PathError::NulByte {
            path: printable(path),
        });
    }
    Ok(())
}

/// `bytes` as text for a message, safe for a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_slashes_dots_and_empty_components_vanish() {
        let path = EntryPath::parse(b"/./usr//lib/./x/").unwrap();
        assert_eq!(path.components(), [b"usr".as_slice(), b"lib", b"x"]);
        for root in [b"".as_slice(), b"/", b".", b"./"] {
            assert!(EntryPath::parse(root).unwrap().components().is_empty());
        }
    }

    #[test]
    fn parent_components_are_refused_wherever_they_stand() {
        for path in [b"..".as_slice(), b"../etc/passwd", b"a/../b", b"/..", b"a/.."] {
            assert!(
                matches!(EntryPath::parse(path), Err(PathError::ParentComponent { .. })),
                "{path:?}"
            );
        }
        assert_eq!(EntryPath::parse(b"..a/b..").unwrap().components().len(), 2);
    }

    #[test]
    fn names_and_paths_have_the_kernels_limits() {
        assert!(EntryPath::parse(&[b'a'; MAX_NAME]).is_ok());
        assert!(matches!(
            EntryPath::parse(&[b'a'; MAX_NAME + 1]),
            Err(PathError::NameTooLong { length: 256, .. })
        ));
        assert!(matches!(
            EntryPath::parse(&b"a/".repeat(2048)),
            Err(PathError::PathTooLong { .. })
        ));
        assert!(matches!(
            EntryPath::parse(b"a\0b"),
            Err(PathError::NulByte { .. })
        ));
    }

    #[test]
    fn messages_escape_what_could_move_a_cursor() {
        let error = EntryPath::parse(b"\x1b[2J/../x").err().unwrap();
        assert!(error.to_string().contains("\\x1b[2J/../x"), "{error}");
    }
}
