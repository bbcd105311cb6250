//! What a command has changed, without what only its microVM has brought.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use tar_stream::{ArchiveError, Entry, EntryKind, Reader, Timestamp, WriteError, Writer};

use crate::file_tree::{FileTree, TreeError};
use crate::lookup::{LastLink, lookup};

/// What every container has mounted over its root.
const STANDARD: [&str; 6] = [
    "proc",
    "sys",
    "dev",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
];

/// Why the changes of a command cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// What the guest sends is no archive.
    #[error("cannot read what the command changed: {0}")]
    Read(#[from] ArchiveError),
    /// Or ends too early.
    #[error("cannot read what the command changed: {0}")]
    Content(#[source] io::Error),
    /// The layer does not go where it is to go.
    #[error("cannot write the layer: {0}")]
    Write(#[from] WriteError),
    /// The image below.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file would be in the layer that is only another name of one that was mounted.
    #[error(
        "the command made /{path} a hard link to /{target}, which is only mounted for it: copy the file instead"
    )]
    Mounted {
        /// The new name.
        path: String,
        /// The file.
        target: String,
    },
}

/// What is left out of the changes of a command: the places that something was mounted at, which a container without them has empty
/// files and folders for.
pub(super) struct Filter<'a> {
    below: &'a dyn FileTree,
    mounted: BTreeSet<Vec<u8>>,
    /// The latest time that a file may have.
    latest: Option<Timestamp>,
    /// Folders on the way to such places, until something else in them is found to have changed.
    held: Vec<(Vec<u8>, Entry)>,
}

impl<'a> Filter<'a> {
    /// For a command on the files of `below`, with these places beside the standard ones.
    pub(super) fn new(
        below: &'a dyn FileTree,
        mounted: impl IntoIterator<Item = String>,
        latest: Option<Timestamp>,
    ) -> Result<Self, ChangesError> {
        let standard = STANDARD.map(str::to_owned);
        let all = mounted.into_iter().chain(standard);
        let resolved = all.map(|path| resolved(below, &plain(path.as_bytes())));
        Ok(Self {
            below,
            mounted: resolved.collect::<Result<_, _>>()?,
            latest,
            held: Vec::new(),
        })
    }

    /// Copies the archive.
    pub(super) fn copy(mut self, input: impl Read, output: impl Write) -> Result<(), ChangesError> {
        let mut reader = Reader::new(input);
        let mut writer = Writer::new(output);
        let mut buffer = vec![0; 64 << 10];
        while let Some(mut entry) = reader.next()? {
            if let Some(latest) = self.latest {
                entry.mtime = entry.mtime.min(latest);
            }
            let path = plain(&entry.path);
            self.held.retain(|(held, _)| is_beneath(&path, held));
            if self.is_mounted(&path) {
                continue;
            }
            if entry.kind == EntryKind::HardLink && self.is_mounted(&plain(&entry.link)) {
                let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
                return Err(ChangesError::Mounted {
                    path: text(&path),
                    target: text(&plain(&entry.link)),
                });
            }
            if self.is_only_on_the_way(&path, &entry)? {
                self.held.push((path, entry));
                continue;
            }
            for (_, folder) in self.held.drain(..) {
                writer.begin(&folder)?;
            }
            writer.begin(&entry)?;
            if entry.kind == EntryKind::Regular {
                let mut content = reader.content(&entry);
                while let Some((_, bytes)) = content.next_data(&mut buffer).map_err(ChangesError::Content)? {
                    writer.write(bytes)?;
                }
            }
        }
        writer.finish()?;
        Ok(())
    }

    /// Whether it is a place that something was mounted at, or in one.
    fn is_mounted(&self, path: &[u8]) -> bool {
        self.mounted
            .iter()
            .any(|mounted| path == mounted || is_beneath(path, mounted))
    }

    /// Whether it is a folder above such a place, and is as it was below, or was not there.
    fn is_only_on_the_way(&self, path: &[u8], entry: &Entry) -> Result<bool, ChangesError> {
        let leads_there = self.mounted.iter().any(|mounted| is_beneath(mounted, path));
        if entry.kind != EntryKind::Directory || !leads_there {
            return Ok(false);
        }
        let Some(found) = lookup(self.below, path, LastLink::Keep)? else {
            return Ok(true);
        };
        let was = &found.node.attributes;
        Ok(found.node.is_directory()
            && (was.mode, was.uid, was.gid) == (entry.mode, entry.uid, entry.gid)
            && was.xattrs == entry.xattrs)
    }
}

/// Where a path leads: links on the way to what is there are followed, as they are when something is mounted.
fn resolved(tree: &dyn FileTree, path: &[u8]) -> Result<Vec<u8>, TreeError> {
    let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    let ends = std::iter::once(path.len()).chain(ends.map(|(end, _)| end));
    for end in ends {
        let (above, rest) = path.split_at(end);
        if let Some(found) = lookup(tree, above, LastLink::Follow)? {
            return Ok(plain(&[found.path.as_slice(), rest].concat()));
        }
    }
    Ok(path.to_owned())
}

/// A path without slashes at its ends, and without `.`.
fn plain(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

fn is_beneath(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() && !path.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerTree;

    fn archive(entries: &[(&str, EntryKind)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, kind) in entries {
            let mut entry = Entry::new(*path, *kind);
            entry.mode = 0o755;
            entry.mtime.seconds = 100;
            writer.begin(&entry).unwrap();
        }
        writer.finish().unwrap()
    }

    fn left(entries: &[(&str, EntryKind)], mounted: &[&str]) -> Vec<(String, i64)> {
        let tree = LayerTree::new(Vec::new());
        let mounted = mounted.iter().map(|path| (*path).to_owned());
        let latest = Timestamp {
            seconds: 50,
            nanoseconds: 0,
        };
        let mut out = Vec::new();
        let filter = Filter::new(&tree, mounted, Some(latest)).unwrap();
        filter.copy(archive(entries).as_slice(), &mut out).unwrap();
        let mut reader = Reader::new(out.as_slice());
        let mut found = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            found.push((String::from_utf8(entry.path).unwrap(), entry.mtime.seconds));
        }
        found
    }

    #[test]
    fn what_was_mounted_leaves_nothing_and_all_else_stays() {
        use EntryKind::{Directory, Regular};
        let entries = [
            ("dev", Directory),
            ("etc", Directory),
            ("etc/hosts", Regular),
            ("etc/hostsfile", Regular),
            ("proc", Directory),
            ("root", Directory),
            ("root/.cache", Directory),
            ("root/.cache/pip", Directory),
            ("root/.cache/pip/x", Regular),
            ("run", Directory),
            ("run/secrets", Directory),
            ("run/secrets/key", Regular),
            ("srv", Directory),
        ];
        let mounted = ["/root/.cache/pip/", "/run/secrets/key"];
        let expected = [("etc", 50), ("etc/hostsfile", 50), ("srv", 50)];
        assert_eq!(
            left(&entries, &mounted),
            expected.map(|(path, time)| (path.to_owned(), time))
        );
        assert_eq!(left(&entries[..3], &mounted), []);
    }

    #[test]
    fn a_hard_link_to_what_is_only_mounted_is_an_error() {
        let mut writer = Writer::new(Vec::new());
        let mut entry = Entry::new("kept", EntryKind::HardLink);
        entry.link = b"mounted/file".to_vec();
        writer.begin(&entry).unwrap();
        let tree = LayerTree::new(Vec::new());
        let filter = Filter::new(&tree, ["/mounted".to_owned()], None).unwrap();
        let error = filter
            .copy(writer.finish().unwrap().as_slice(), Vec::new())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the command made /kept a hard link to /mounted/file, which is only mounted for it: copy the file instead"
        );
    }
}
