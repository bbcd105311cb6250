//! Extended attributes: only the `user.` namespace passes. `security.` and `trusted.` mean something to the host, and
//! a guest must not be able to give a host file capabilities.

use std::ffi::CStr;
use std::io;

use fuse_backend_rs::api::filesystem::{GetxattrReply, ListxattrReply};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Folders;
use super::nodes::Node;

/// The largest value, and the largest list of names, that Linux keeps, in bytes.
const XATTR_SIZE_MAX: usize = 65536;

const NAMESPACE: &[u8] = b"user.";

fn passes(name: &CStr) -> bool {
    name.to_bytes().starts_with(NAMESPACE)
}

/// The names of a NUL-separated list that a guest may see.
fn visible(list: &[u8]) -> Vec<u8> {
    list.split_inclusive(|&byte| byte == 0)
        .filter(|name| name.starts_with(NAMESPACE))
        .flatten()
        .copied()
        .collect()
}

impl Folders {
    pub(super) fn xattr(&self, node: &Node, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        if !passes(name) {
            return Err(Errno::NODATA.into());
        }
        let mut value = vec![0; XATTR_SIZE_MAX];
        let file = self.open_node(node, libc::O_RDONLY)?;
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..])?;
        value.truncate(length);
        match size as usize {
            0 => Ok(GetxattrReply::Count(length as u32)),
            size if size < length => Err(Errno::RANGE.into()),
            _ => Ok(GetxattrReply::Value(value)),
        }
    }

    pub(super) fn xattr_names(&self, node: &Node, size: u32) -> io::Result<ListxattrReply> {
        let mut list = vec![0; XATTR_SIZE_MAX];
        let file = self.open_node(node, libc::O_RDONLY)?;
        let length = rustix::fs::flistxattr(&file, &mut list[..])?;
        let names = visible(&list[..length]);
        match size as usize {
            0 => Ok(ListxattrReply::Count(names.len() as u32)),
            size if size < names.len() => Err(Errno::RANGE.into()),
            _ => Ok(ListxattrReply::Names(names)),
        }
    }

    pub(super) fn set_xattr(&self, node: &Node, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        self.check_writable(node)?;
        if !passes(name) {
            return Err(Errno::OPNOTSUPP.into());
        }
        let file = self.open_node(node, libc::O_RDONLY)?;
        Ok(rustix::fs::fsetxattr(
            &file,
            name,
            value,
            XattrFlags::from_bits_retain(flags),
        )?)
    }

    pub(super) fn remove_xattr(&self, node: &Node, name: &CStr) -> io::Result<()> {
        self.check_writable(node)?;
        if !passes(name) {
            return Err(Errno::OPNOTSUPP.into());
        }
        let file = self.open_node(node, libc::O_RDONLY)?;
        Ok(rustix::fs::fremovexattr(&file, name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_attributes_are_listed() {
        assert_eq!(
            visible(b"security.selinux\0user.a\0trusted.overlay.opaque\0user.b\0"),
            b"user.a\0user.b\0"
        );
        assert_eq!(visible(b""), b"");
    }
}
