//! Names of directory entries, as they come from a guest or from a spec.

use std::ffi::{CStr, CString};
use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// The longest name of a directory entry, in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// A name that cannot stand in a directory.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{name:?} cannot name a directory entry: it must be 1 to 255 bytes, without '/' or NUL, and not '.' or '..'"
)]
pub struct NameError {
    /// The name that was refused.
    pub name: String,
}

/// Whether `name` is one path component that leads nowhere but down.
fn is_component(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

/// Checks a name that a spec gives to an entry of a root directory.
pub(crate) fn entry_name(name: &str) -> Result<CString, NameError> {
    let refused = || NameError {
        name: name.to_owned(),
    };
    if !is_component(name.as_bytes()) {
        return Err(refused());
    }
    CString::new(name).map_err(|_| refused())
}

/// Checks a name that a guest sent, before any system call sees it.
///
/// # Errors
/// `ENAMETOOLONG` for a name over 255 bytes, as a local file system answers; `EINVAL` for any other that is not one
/// plain component. `.` and `..` are refused, too: a Linux guest resolves them by itself.
pub(crate) fn component(name: &CStr) -> io::Result<&CStr> {
    let bytes = name.to_bytes();
    if is_component(bytes) {
        Ok(name)
    } else if bytes.len() > NAME_MAX {
        Err(Errno::NAMETOOLONG.into())
    } else {
        Err(Errno::INVAL.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass() {
        for name in ["a", "...", ".hidden", "with space", "sha256:0123"] {
            assert_eq!(entry_name(name).unwrap().to_bytes(), name.as_bytes());
            assert!(component(&CString::new(name).unwrap()).is_ok());
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", "a/b", "/", "/etc/passwd", "../x", "a\0b", &long] {
            assert_eq!(
                entry_name(name),
                Err(NameError {
                    name: name.to_owned()
                }),
                "{name:?}"
            );
        }
        for name in [c"", c".", c"..", c"a/b", c"/"] {
            assert_eq!(
                component(name).unwrap_err().raw_os_error(),
                Some(libc::EINVAL),
                "{name:?}"
            );
        }
        let long = CString::new(long).unwrap();
        assert_eq!(
            component(&long).unwrap_err().raw_os_error(),
            Some(libc::ENAMETOOLONG)
        );
    }
}
