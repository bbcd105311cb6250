//! Taking away what something else comes in the place of.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::walk::names_in;
use super::{Result, TaskError, text};
use crate::os_error::During;

/// Each level costs a descriptor.
pub(super) const MAX_DEPTH: usize = 512;

/// Removes what `name` is in a directory, with everything below it. Links are removed, never followed.
pub(super) fn remove_all(parent: impl AsFd, name: &[u8]) -> Result<()> {
    remove(parent.as_fd(), name, MAX_DEPTH)
}

fn remove(parent: std::os::fd::BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error).during("remove", text(name))?,
    }
    if depth == 0 {
        return Err(TaskError::TooDeep(text(name)));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty()).during("open", text(name))?;
    for below in names_in(&directory).during("read the directory", text(name))? {
        remove(directory.as_fd(), &below, depth - 1)?;
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR).during("remove", text(name))?)
}
