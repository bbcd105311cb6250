//! Mounts as descriptors: made first, put in place afterwards (fsopen(2), fsmount(2), open_tree(2), move_mount(2)).
//!
//! Nothing here takes a path of the container, so that nothing in the container can lead a mount astray.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::os_error::{During, OsError};

/// A new file system. Options are in the kernel's words, separated by commas.
pub(crate) fn file_system(kind: &str, options: &str, attributes: MountAttrFlags) -> Result<OwnedFd, OsError> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during("create a file system of type", kind)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let set = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option),
        };
        set.during("set the mount option", format!("{option} of {kind}"))?;
    }
    finish(&context, attributes).during(
        "create a file system of type",
        format!("{kind} with options {options:?}"),
    )
}

/// What a configured context describes.
pub(crate) fn finish(context: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Another mount of the file or directory that `what` refers to.
pub(crate) fn bind(what: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(what, c"", flags)
}

/// Another mount of the directory that `what` refers to, with all that is mounted below it.
pub(crate) fn bind_tree(what: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(what, c"", flags)
}

/// Puts a mount over the file or directory that `target` refers to.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}
