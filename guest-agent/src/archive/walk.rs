//! Walking a tree that may change meanwhile.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, statat};
use rustix::io::Errno;

use super::trees::Tree;
use super::{Result, has_gone, text};
use crate::os_error::During;

/// How many directories of a path are kept open. Those further down are opened again for everything in them, so that the
/// depth of a tree costs no descriptors.
const MAX_OPEN: usize = 64;

/// Something in a directory.
pub(super) struct Found<'a> {
    /// The directory.
    pub(super) parent: &'a OwnedFd,
    /// Relative to the tree.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
}

impl Found<'_> {
    /// Its name in the directory.
    pub(super) fn name(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/');
        &self.path[start.map_or(0, |slash| slash + 1)..]
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Calls `visit` for everything in the directory at `path`, in the order of names, a directory before what is in it.
/// It is entered when `visit` says so. What vanishes on the way was never there.
pub(super) fn walk(
    tree: &Tree,
    path: &[u8],
    visit: &mut dyn FnMut(&Found<'_>) -> Result<bool>,
) -> Result<()> {
    let mut levels = vec![Level::open(tree, path.to_vec())?];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = join(&level.path, &name);
        let parent = match level.directory(tree) {
            Ok(parent) => parent,
            Err(error) if has_gone(error) => continue,
            Err(error) => return Err(error).during("open", text(&level.path))?,
        };
        let stat = match statat(&parent, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) if has_gone(error) => continue,
            Err(error) => return Err(error).during("look at", text(&path))?,
        };
        let found = Found {
            parent: &parent,
            path: &path,
            stat,
        };
        let enter = visit(&found)? && found.kind() == FileType::Directory;
        if depth <= MAX_OPEN {
            level.directory = Some(parent);
        }
        if enter {
            levels.push(Level::open(tree, path)?);
        }
    }
}

/// A directory whose names are yet to be visited.
struct Level {
    path: Vec<u8>,
    /// The next one last.
    names: Vec<Vec<u8>>,
    directory: Option<OwnedFd>,
}

impl Level {
    fn open(tree: &Tree, path: Vec<u8>) -> Result<Self> {
        let mut names = match names(tree, &path) {
            Ok(names) => names,
            Err(error) if has_gone(error) => Vec::new(),
            Err(error) => return Err(error).during("read the directory", text(&path))?,
        };
        names.reverse();
        Ok(Self {
            path,
            names,
            directory: None,
        })
    }

    fn directory(&mut self, tree: &Tree) -> Result<OwnedFd, Errno> {
        match self.directory.take() {
            Some(directory) => Ok(directory),
            None => tree.directory(&self.path),
        }
    }
}

/// The names in a directory, in their order.
pub(super) fn names(tree: &Tree, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let directory = tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    names_in(directory)
}

/// The names in an open directory, in their order.
pub(super) fn names_in(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}
