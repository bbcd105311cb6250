//! Extended attributes that belong into an archive: what users set, and file capabilities. All others mean something to
//! one file system or one machine only.

use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use tar_stream::Xattr;

/// The longest list of names, and the longest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX: usize = 65_536;

pub(super) fn is_portable(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// Those of an open file or directory. A file system that has none is one with no attributes.
pub(super) fn read(file: impl AsFd) -> Vec<Xattr> {
    let mut names = vec![0; 4096];
    let length = loop {
        match flistxattr(&file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < MAX => names.resize(MAX, 0),
            Err(_) => return Vec::new(),
        }
    };
    let portable = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| is_portable(name));
    let read = |name: &[u8]| {
        let mut value = vec![0; MAX];
        // It may be gone by now.
        let length = fgetxattr(&file, name, value.as_mut_slice()).ok()?;
        value.truncate(length);
        let name = name.to_vec();
        Some(Xattr { name, value })
    };
    portable.filter_map(read).collect()
}

/// Sets what is portable. A file system that has no attributes gets none.
pub(super) fn write(file: impl AsFd, xattrs: &[Xattr]) -> Result<(), Errno> {
    for xattr in xattrs.iter().filter(|xattr| is_portable(&xattr.name)) {
        match fsetxattr(&file, xattr.name.as_slice(), &xattr.value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether overlayfs marks the directory as hiding the one below it (`trusted.overlay.opaque`, the kernel's
/// Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
pub(super) fn is_opaque(directory: impl AsFd) -> bool {
    let mut value = [0; 8];
    matches!(fgetxattr(directory, c"trusted.overlay.opaque", &mut value), Ok(1) if value[0] == b'y')
}
