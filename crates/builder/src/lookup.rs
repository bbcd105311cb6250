//! From a path to a file, as in a chroot: symbolic links are resolved beneath the root of the tree, and `..` never leaves it.

use crate::file_tree::{FileTree, Node, NodeKind, TreeError, printable};
use crate::paths::components;

/// Symbolic links on the way to one file (`MAXSYMLINKS` in the kernel's include/linux/namei.h).
const MAX_LINKS: usize = 40;

/// What becomes of a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed.
    Follow,
    /// It is what was looked for.
    Keep,
}

/// A file that a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path without symbolic links on the way, relative to the root and without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// The file.
    pub node: Node,
}

/// The file at `path`; `None` if there is none. The path itself is cleaned first (`a/../b` is `b`, even if `a` is a link), as
/// BuildKit does; what links name is walked step by step, as the kernel does.
///
/// # Errors
/// A tree that cannot be read, and more than 40 symbolic links.
pub fn lookup(tree: &dyn FileTree, path: &[u8], last: LastLink) -> Result<Option<Found>, TreeError> {
    match walk(&tree, path, last) {
        Ok(walked) if walked.missing.is_empty() => Ok(Some(Found {
            path: walked.path(),
            node: walked.end,
        })),
        Ok(_) | Err(TreeError::NotADirectory { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a step leads to.
pub(crate) enum StepKind {
    Directory,
    Symlink(Vec<u8>),
    Other,
}

/// What can be walked: a tree, or what is to become one.
pub(crate) trait Walkable {
    /// A file in it.
    type At: Clone;

    fn top(&self) -> Result<Self::At, TreeError>;

    /// From a directory to the file with this name in it.
    fn step(&self, from: &Self::At, name: &[u8]) -> Result<Option<(Self::At, StepKind)>, TreeError>;
}

impl Walkable for &dyn FileTree {
    type At = Node;

    fn top(&self) -> Result<Node, TreeError> {
        self.root()
    }

    fn step(&self, from: &Node, name: &[u8]) -> Result<Option<(Node, StepKind)>, TreeError> {
        let Some(node) = self.child(from, name)? else {
            return Ok(None);
        };
        let kind = match node.kind {
            NodeKind::Directory => StepKind::Directory,
            NodeKind::Symlink => StepKind::Symlink(self.link_target(&node)?),
            _ => StepKind::Other,
        };
        Ok(Some((node, kind)))
    }
}

/// Where a walk ended.
pub(crate) struct Walked<At> {
    /// The names from the root to the last file that is there.
    pub(crate) names: Vec<Vec<u8>>,
    /// That file.
    pub(crate) end: At,
    /// The names behind it, which are not there. It is a directory, if there are any.
    pub(crate) missing: Vec<Vec<u8>>,
}

impl<At> Walked<At> {
    /// The path of the last file that is there.
    pub(crate) fn path(&self) -> Vec<u8> {
        self.names.join(&b'/')
    }
}

/// Walks along `path` as far as it goes.
pub(crate) fn walk<T: Walkable>(tree: &T, path: &[u8], last: LastLink) -> Result<Walked<T::At>, TreeError> {
    let top = tree.top()?;
    let mut pending: Vec<Vec<u8>> = components(path).into_iter().rev().map(<[u8]>::to_vec).collect();
    // The directories from the root to where the walk is, for `..`.
    let mut way: Vec<(Vec<u8>, T::At)> = Vec::new();
    let mut missing: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut is_file = false;
    while let Some(name) = pending.pop() {
        if is_file {
            let names: Vec<Vec<u8>> = way.into_iter().map(|(name, _)| name).collect();
            let path = format!("/{}", printable(&names.join(&b'/')));
            return Err(TreeError::NotADirectory { path });
        }
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                if missing.pop().is_none() {
                    way.pop();
                }
                continue;
            }
            _ if !missing.is_empty() => {
                missing.push(name);
                continue;
            }
            _ => {}
        }
        let from = way.last().map_or(&top, |(_, at)| at);
        match tree.step(from, &name)? {
            None => missing.push(name),
            Some((at, StepKind::Directory)) => way.push((name, at)),
            Some((_, StepKind::Symlink(target))) if last == LastLink::Follow || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(TreeError::TooManyLinks {
                        path: format!("/{}", printable(&components(path).join(&b'/'))),
                    });
                }
                if target.starts_with(b"/") {
                    way.clear();
                }
                pending.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
            }
            Some((at, _)) => {
                is_file = true;
                way.push((name, at));
            }
        }
    }
    let end = way.last().map_or(top, |(_, at)| at.clone());
    let names = way.into_iter().map(|(name, _)| name).collect();
    Ok(Walked { names, end, missing })
}
