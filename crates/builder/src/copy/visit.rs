//! All files of a source, directories before what is in them.

use super::CopyError;
use super::options::{CopyOptions, Source};
use super::select::Selected;
use crate::cancellation::check;
use crate::file_tree::{FileTree, Node, printable};
use crate::paths::{MAX_PATH, join};

/// A file that is copied.
pub(super) struct Visit<'a> {
    /// Its path relative to the source; empty for the source itself.
    pub(super) path: &'a [u8],
    pub(super) node: &'a Node,
    /// It is a directory that is copied only because of what is in it.
    pub(super) is_way: bool,
}

type Visitor<'v> = &'v mut dyn FnMut(&Visit<'_>) -> Result<(), CopyError>;

/// A directory that is gone through.
struct Open {
    path: Vec<u8>,
    node: Node,
    names: std::vec::IntoIter<Vec<u8>>,
    /// Whether it was visited: one that is left out is, once something in it is not.
    is_visited: bool,
}

/// Calls `visitor` for all files that are copied. There is no recursion: a tree may be deep.
pub(super) fn visit(
    source: &Source<'_>,
    selected: &Selected,
    options: &CopyOptions<'_>,
    visitor: Visitor<'_>,
) -> Result<(), CopyError> {
    let tree = source.tree;
    let mut count = 0u64;
    let mut open: Vec<Open> = Vec::new();
    for (path, node) in &selected.way {
        open.push(Open::new(path.clone(), node.clone(), Vec::new()));
    }
    let top = match source.parents {
        true => selected.name.clone(),
        false => Vec::new(),
    };
    let is_excluded = source.parents && options.is_excluded(&top);
    enter(tree, top, &selected.node, is_excluded, &mut open, visitor)?;
    while let Some(directory) = open.last_mut() {
        check(&options.token)?;
        let Some(name) = directory.names.next() else {
            open.pop();
            continue;
        };
        let Some(node) = tree.child(&directory.node, &name)? else {
            continue;
        };
        let path = join(&directory.path, &name);
        if path.len() > MAX_PATH {
            return Err(CopyError::TooLong {
                path: printable(&path[..100]),
                length: path.len(),
                most: MAX_PATH,
            });
        }
        count += 1;
        if count > options.max_entries {
            return Err(options.too_many_entries());
        }
        let is_excluded = options.is_excluded(&path);
        if is_excluded && !has_exceptions(options, &node) {
            continue;
        }
        enter(tree, path, &node, is_excluded, &mut open, visitor)?;
    }
    Ok(())
}

fn has_exceptions(options: &CopyOptions<'_>, node: &Node) -> bool {
    let excludes = options.excludes;
    node.is_directory() && excludes.is_some_and(|excludes| excludes.has_exceptions())
}

/// Visits one file, and opens it if it is a directory.
fn enter(
    tree: &dyn FileTree,
    path: Vec<u8>,
    node: &Node,
    is_excluded: bool,
    open: &mut Vec<Open>,
    visitor: Visitor<'_>,
) -> Result<(), CopyError> {
    if !is_excluded {
        for directory in open.iter_mut().filter(|directory| !directory.is_visited) {
            visitor(&Visit {
                path: &directory.path,
                node: &directory.node,
                is_way: true,
            })?;
            directory.is_visited = true;
        }
        visitor(&Visit {
            path: &path,
            node,
            is_way: false,
        })?;
    }
    if node.is_directory() {
        let names = tree.names(node)?;
        let is_visited = !is_excluded;
        open.push(Open {
            is_visited,
            ..Open::new(path, node.clone(), names)
        });
    }
    Ok(())
}

impl Open {
    fn new(path: Vec<u8>, node: Node, names: Vec<Vec<u8>>) -> Self {
        Self {
            path,
            node,
            names: names.into_iter(),
            is_visited: false,
        }
    }
}
