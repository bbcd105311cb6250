//! What is copied, where to, and how.

use dockerfile::Mode;
use tar_stream::Timestamp;
use tokio_util::sync::CancellationToken;

use super::CopyError;
use crate::file_tree::{Attributes, FileTree, Node, NodeKind};
use crate::users::Owner;

/// One source of a COPY or ADD. A downloaded file or a here-document is a [`Context`](crate::Context) of one file.
pub struct Source<'a> {
    /// Where it is.
    pub tree: &'a dyn FileTree,
    /// The directory in it that the source's path is relative to: `/`, or with `--parents` what stands before the pivot `/./`.
    pub base: Vec<u8>,
    /// What of it.
    pub what: What<'a>,
    /// `--parents`: the directories between `base` and what is copied are made at the destination, too.
    pub parents: bool,
    /// ADD of a local source: archives are unpacked.
    pub unpack: bool,
}

/// What of a tree is copied.
pub enum What<'a> {
    /// The file at this path, which has to be there.
    Path(Vec<u8>),
    /// All files that match, if any. A directory that matches is not searched further.
    Pattern {
        /// Whether the file at this path, relative to the base and without a leading slash, matches.
        matches: &'a dyn Fn(&[u8]) -> bool,
        /// How many directories deep a match can be: the number of `/` in the pattern. `None` is any (`**`).
        depth: Option<usize>,
    },
}

/// `--exclude`.
pub trait Excludes {
    /// Whether the file at this path, relative to the source, is left out, also because of a directory that it is in.
    fn is_excluded(&self, path: &[u8]) -> bool;

    /// Whether something may be copied beneath a directory that is left out (a pattern with `!`).
    fn has_exceptions(&self) -> bool {
        false
    }
}

/// Modification times of what is copied. Directories on the way that are there keep theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Those of the sources.
    Kept {
        /// That of directories that are made.
        created: Timestamp,
    },
    /// One for all (`SOURCE_DATE_EPOCH`).
    All(Timestamp),
}

/// Where to, and how.
pub struct CopyOptions<'a> {
    /// `COPY` or `ADD`, for messages.
    pub instruction: &'static str,
    /// An absolute path; a slash at its end says that it is a directory.
    pub destination: Vec<u8>,
    /// `--chown`, see [`resolve_owner`](crate::resolve_owner).
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub chmod: Option<Mode>,
    /// `--exclude`.
    pub excludes: Option<&'a dyn Excludes>,
    /// The destination shows nothing but the contents of the one source, a directory: as if that was mounted there.
    pub covers: bool,
    /// Modification times.
    pub times: Times,
    /// Files of all kinds that may be copied.
    pub max_entries: u64,
    /// Bytes that archives may unpack to.
    pub max_unpacked: u64,
    /// Ends the work on it, wherever it is.
    pub token: CancellationToken,
}

impl CopyOptions<'_> {
    /// COPY to `destination` without options: a million files, 64 GiB from archives.
    pub fn to(destination: &[u8], times: Times) -> Self {
        Self {
            instruction: "COPY",
            destination: destination.to_vec(),
            owner: None,
            chmod: None,
            excludes: None,
            covers: false,
            times,
            max_entries: 1 << 20,
            max_unpacked: 64 << 30,
            token: CancellationToken::new(),
        }
    }

    /// What the copy of a file has.
    pub(super) fn attributes(&self, node: &Node) -> Attributes {
        let old = &node.attributes;
        let owner = self.owner.unwrap_or(Owner {
            uid: old.uid,
            gid: old.gid,
        });
        let mode = match &self.chmod {
            Some(chmod) if node.kind != NodeKind::Symlink => {
                let mode = chmod.apply(old.mode.into(), node.is_directory());
                // There are no other bits.
                (mode & 0o7777) as u16
            }
            _ => old.mode,
        };
        Attributes {
            mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime: match self.times {
                Times::Kept { .. } => old.mtime,
                Times::All(time) => time,
            },
            xattrs: old.xattrs.clone(),
        }
    }

    /// What a directory has that is made on the way.
    pub(super) fn new_directory(&self) -> Attributes {
        let time = match self.times {
            Times::Kept { created } => created,
            Times::All(time) => time,
        };
        let owner = self.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        Attributes {
            uid: owner.uid,
            gid: owner.gid,
            ..Attributes::of_new_directory(time)
        }
    }

    pub(super) fn too_many_entries(&self) -> CopyError {
        CopyError::TooMuch {
            instruction: self.instruction,
            what: "files",
            limit: self.max_entries,
        }
    }

    /// Whether `--exclude` leaves this path out.
    pub(super) fn is_excluded(&self, path: &[u8]) -> bool {
        self.excludes.is_some_and(|excludes| excludes.is_excluded(path))
    }
}
