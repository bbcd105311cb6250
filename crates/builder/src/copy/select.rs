//! From a source to the files that it names.

use super::CopyError;
use super::options::{CopyOptions, Source, What};
use crate::cancellation::check;
use crate::file_tree::{Node, printable};
use crate::lookup::{LastLink, lookup};
use crate::paths::{components, join, last_name};

/// Something that a source names.
pub(super) struct Selected {
    /// Its path in the tree, for messages.
    pub(super) path: Vec<u8>,
    /// The name that it gets in a directory; with `--parents` its path beneath the base.
    pub(super) name: Vec<u8>,
    /// The file; of a link, what it leads to, but for `--parents`.
    pub(super) node: Node,
    /// With `--parents`: the directories from the base to it, the base not among them.
    pub(super) way: Vec<(Vec<u8>, Node)>,
}

/// All that `source` names, in order.
pub(super) fn select(source: &Source<'_>, options: &CopyOptions<'_>) -> Result<Vec<Selected>, CopyError> {
    let selected = match (&source.what, source.parents) {
        (What::Path(path), false) => select_path(source, path)?,
        (What::Path(path), true) => select_way(source, path)?,
        (What::Pattern { matches, depth }, parents) => {
            let found = search(source, *matches, *depth, options)?;
            match parents {
                true => found,
                false => follow(source, found, options)?,
            }
        }
    };
    // What is named is left out like anything else; a directory that is named is what the patterns are relative to.
    let is_kept = |one: &Selected| {
        let is_base = one.node.is_directory() && matches!(source.what, What::Path(_)) && !source.parents;
        is_base || !options.is_excluded(&one.name) || has_exceptions(options, one)
    };
    Ok(selected.into_iter().filter(is_kept).collect())
}

fn has_exceptions(options: &CopyOptions<'_>, one: &Selected) -> bool {
    let excludes = options.excludes;
    one.node.is_directory() && excludes.is_some_and(|excludes| excludes.has_exceptions())
}

fn not_found(path: &[u8]) -> CopyError {
    CopyError::NotFound {
        path: printable(&components(path).join(&b'/')),
    }
}

fn select_path(source: &Source<'_>, path: &[u8]) -> Result<Vec<Selected>, CopyError> {
    let path = [source.base.as_slice(), b"/", path].concat();
    let found = lookup(source.tree, &path, LastLink::Follow)?;
    let found = found.ok_or_else(|| not_found(&path))?;
    let path = components(&path).join(&b'/');
    Ok(vec![Selected {
        name: last_name(&path).to_vec(),
        path,
        node: found.node,
        way: Vec::new(),
    }])
}

/// A path below the base, with all directories on the way. None of them may be a link: the way would not be the path.
fn select_way(source: &Source<'_>, path: &[u8]) -> Result<Vec<Selected>, CopyError> {
    let whole = [source.base.as_slice(), b"/", path].concat();
    let mut node = base(source)?.ok_or_else(|| not_found(&whole))?;
    let mut way = Vec::new();
    let mut name = Vec::new();
    for component in components(path) {
        let child = source.tree.child(&node, component)?;
        let child = child.ok_or_else(|| not_found(&whole))?;
        if !name.is_empty() {
            way.push((name.clone(), node));
        }
        name = join(&name, component);
        node = child;
    }
    let path = components(&whole).join(&b'/');
    Ok(vec![Selected {
        path,
        name,
        node,
        way,
    }])
}

fn base(source: &Source<'_>) -> Result<Option<Node>, CopyError> {
    let found = lookup(source.tree, &source.base, LastLink::Follow)?;
    Ok(found.map(|found| found.node))
}

/// A directory whose names are looked through.
struct Searched {
    path: Vec<u8>,
    node: Node,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// All files below the base that match.
fn search(
    source: &Source<'_>,
    matches: &dyn Fn(&[u8]) -> bool,
    depth: Option<usize>,
    options: &CopyOptions<'_>,
) -> Result<Vec<Selected>, CopyError> {
    let tree = source.tree;
    let base_path = components(&source.base).join(&b'/');
    let node = base(source)?.ok_or_else(|| not_found(&source.base))?;
    if !node.is_directory() {
        let path = printable(&base_path);
        return Err(CopyError::Pivot { path });
    }
    let names = tree.names(&node)?.into_iter();
    let path = Vec::new();
    let mut open = vec![Searched { path, node, names }];
    let mut selected = Vec::new();
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
        if matches(&path) {
            let on_the_way = open.iter().skip(1).map(|it| (it.path.clone(), it.node.clone()));
            selected.push(Selected {
                path: join(&base_path, &path),
                way: if source.parents {
                    on_the_way.collect()
                } else {
                    Vec::new()
                },
                name: path,
                node,
            });
            if selected.len() as u64 > options.max_entries {
                return Err(options.too_many_entries());
            }
        } else if node.is_directory() && depth.is_none_or(|depth| open.len() <= depth) {
            let names = tree.names(&node)?.into_iter();
            open.push(Searched { path, node, names });
        }
    }
    Ok(selected)
}

/// What the links among the matches lead to; names without the directories before them.
fn follow(
    source: &Source<'_>,
    found: Vec<Selected>,
    options: &CopyOptions<'_>,
) -> Result<Vec<Selected>, CopyError> {
    let followed = found.into_iter().map(|one| {
        check(&options.token)?;
        // The base may be a link, so that the path is walked from the root.
        let path = [source.base.as_slice(), b"/", &one.name].concat();
        let node = lookup(source.tree, &path, LastLink::Follow)?
            .ok_or_else(|| not_found(&path))?
            .node;
        let name = last_name(&one.name).to_vec();
        Ok(Selected { name, node, ..one })
    });
    followed.collect()
}
