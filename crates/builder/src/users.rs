//! `--chown=NAME:GROUP`: names in `/etc/passwd` and `/etc/group` of a tree.

use std::io::Read;

use crate::file_tree::{FileTree, NodeKind, TreeError};
use crate::lookup::{LastLink, lookup};

/// The largest file of users or groups, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// Whom files are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Why `--chown` means nobody.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// More than one colon.
    #[error("invalid chown string format: {0}")]
    Format(String),
    /// There is no such user.
    #[error("unable to find user {0}: invalid user")]
    User(String),
    /// There is no such group.
    #[error("unable to find group {0}: invalid group")]
    Group(String),
    /// A file is larger than any that is meant to be read.
    #[error("{path} has {size} bytes; {MAX_FILE} can be read")]
    TooLarge {
        /// The file.
        path: &'static str,
        /// Its size in bytes.
        size: u64,
    },
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Whom `USER[:GROUP]` means, in names or in numbers, as Docker reads it: without a group, a number stands for both, and a
/// name brings the group that `/etc/passwd` gives it. A number need not be in a file.
pub fn resolve_owner(tree: &dyn FileTree, text: &str) -> Result<Owner, OwnerError> {
    let (user, group) = match text.split_once(':') {
        None => (text, None),
        Some((_, group)) if group.contains(':') => return Err(OwnerError::Format(text.to_owned())),
        Some((user, "")) => (user, None),
        Some((user, group)) => (user, Some(group)),
    };
    let owner = match number(user) {
        _ if user.is_empty() => Owner { uid: 0, gid: 0 },
        Some(uid) => Owner { uid, gid: uid },
        None => find_user(tree, user)?.ok_or_else(|| OwnerError::User(user.to_owned()))?,
    };
    let Some(group) = group else {
        return Ok(owner);
    };
    let gid = match number(group) {
        Some(gid) => gid,
        None => find_group(tree, group)?.ok_or_else(|| OwnerError::Group(group.to_owned()))?,
    };
    Ok(Owner { gid, ..owner })
}

/// The largest is -1 to chown(2), which means no change.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| *number < u32::MAX)
}

/// `NAME:PASSWORD:UID:GID:…`, passwd(5).
fn find_user(tree: &dyn FileTree, name: &str) -> Result<Option<Owner>, OwnerError> {
    let fields = find_line(tree, "/etc/passwd", name)?;
    let field = |index: usize| fields.as_ref()?.get(index).and_then(|text| number(text));
    Ok(field(2).zip(field(3)).map(|(uid, gid)| Owner { uid, gid }))
}

/// `NAME:PASSWORD:GID:…`, group(5).
fn find_group(tree: &dyn FileTree, name: &str) -> Result<Option<u32>, OwnerError> {
    let fields = find_line(tree, "/etc/group", name)?;
    Ok(fields.and_then(|fields| number(fields.get(2)?)))
}

/// The fields of the first line of this name. A file that is not there has none.
fn find_line(tree: &dyn FileTree, path: &'static str, name: &str) -> Result<Option<Vec<String>>, OwnerError> {
    let found = lookup(tree, path.as_bytes(), LastLink::Follow)?;
    let Some(file) = found.filter(|found| found.node.kind == NodeKind::Regular) else {
        return Ok(None);
    };
    let size = file.node.size;
    if size > MAX_FILE {
        return Err(OwnerError::TooLarge { path, size });
    }
    let mut content = Vec::new();
    let read = tree.open(&file.node)?.take(MAX_FILE).read_to_end(&mut content);
    read.map_err(|source| TreeError::Content {
        path: path.to_owned(),
        source,
    })?;
    let content = String::from_utf8_lossy(&content);
    let mut lines = content.lines().map(|line| line.trim().split(':'));
    let line = lines.find(|fields| fields.clone().next() == Some(name));
    Ok(line.map(|fields| fields.map(str::to_owned).collect()))
}
