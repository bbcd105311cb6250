//! ADD of a local archive: its files, beneath the destination.
//!
//! Names are resolved as in a chroot at the destination. The archive may be hostile: what it names is looked up in the tree that the
//! layer goes on, and nowhere else.

use std::io::{BufReader, Read};

use image_store::{Limits, decompress};
use tar_stream::{Entry, EntryKind, FileId, Reader};

use super::CopyError;
use super::destination::merged;
use super::options::{CopyOptions, Source};
use super::select::Selected;
use super::staging::{SharedFile, Spot, Staged, StagedBody, StagedContent, Staging};
use crate::cancellation::{Cancellable, check};
use crate::file_tree::{Attributes, NodeKind, TreeError, printable};
use crate::lookup::{LastLink, StepKind, Walkable, walk};
use crate::paths::{components, is_whiteout, join};
use crate::spool::SpoolError;

/// Unpacks what is selected, if it is an archive; whether it was one.
pub(super) fn unpack<'a>(
    staging: &mut Staging<'a>,
    source: &Source<'a>,
    selected: &Selected,
    options: &CopyOptions<'_>,
) -> Result<bool, CopyError> {
    if selected.node.kind != NodeKind::Regular {
        return Ok(false);
    }
    // Whatever `xz` and `zstd` make with their usual options: an archive that is taken for a file is no help to anybody.
    let limits = Limits {
        zstd_window_log: 27,
        xz_memory: 128 << 20,
        ..Limits::default()
    };
    let open = || -> Result<_, CopyError> {
        // Little may become much, and much little.
        let content = Cancellable::new(source.tree.open(&selected.node)?, &options.token);
        Ok(decompress(content, &limits).map(|(_, plain)| {
            let plain = Cancellable::new(plain, &options.token);
            Reader::new(BufReader::with_capacity(128 << 10, plain))
        }))
    };
    // Whatever has no first entry is a file like any other.
    let is_archive = open()?.is_ok_and(|mut archive| matches!(archive.next(), Ok(Some(_))));
    let Some(mut archive) = open()?.ok().filter(|_| is_archive) else {
        return Ok(false);
    };
    let name = format!("/{}", printable(&selected.path));
    let walked = walk(staging, &options.destination, LastLink::Follow)?;
    let top = staging.make_directories(walked, &options.new_directory())?;
    let mut unpacking = Unpacking {
        staging,
        options,
        archive: name,
        top,
        files: 0,
    };
    loop {
        check(&options.token)?;
        let next = archive.next().map_err(|source| CopyError::Archive {
            path: unpacking.archive.clone(),
            source,
        })?;
        let Some(entry) = next else { return Ok(true) };
        unpacking.entry(&mut archive, &entry)?;
    }
}

struct Unpacking<'s, 'a, 'o> {
    staging: &'s mut Staging<'a>,
    options: &'o CopyOptions<'o>,
    /// Its path, for messages.
    archive: String,
    /// The destination.
    top: Spot,
    files: u64,
}

/// The tree beneath a directory, as in a chroot.
struct Beneath<'s, 'a> {
    staging: &'s Staging<'a>,
    top: &'s Spot,
}

impl Walkable for Beneath<'_, '_> {
    type At = Spot;

    fn top(&self) -> Result<Spot, TreeError> {
        Ok(self.top.clone())
    }

    fn step(&self, from: &Spot, name: &[u8]) -> Result<Option<(Spot, StepKind)>, TreeError> {
        self.staging.step(from, name)
    }
}

impl<'a> Unpacking<'_, 'a, '_> {
    fn entry<R: Read>(&mut self, archive: &mut Reader<R>, entry: &Entry) -> Result<(), CopyError> {
        // An archive is no layer: a name that means a whiteout there is refused, not obeyed.
        if components(&entry.path).iter().any(|name| is_whiteout(name)) {
            let path = printable(&entry.path);
            return Err(CopyError::WhiteoutName { path });
        }
        let names = self.clean(entry, &entry.path)?;
        let Some((name, parents)) = names.split_last() else {
            return Ok(());
        };
        // As BuildKit: they are left out, and what is in their place stays.
        if let EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) | EntryKind::Fifo = entry.kind {
            return Ok(());
        }
        let beneath = Beneath {
            staging: self.staging,
            top: &self.top,
        };
        let walked = walk(&beneath, &parents.join(&b'/'), LastLink::Follow)?;
        let implied = Attributes {
            uid: 0,
            gid: 0,
            ..self.options.new_directory()
        };
        let directory = self.staging.make_directories(walked, &implied)?;
        let attributes = self.attributes(entry);
        match entry.kind {
            EntryKind::Directory => self.directory(&directory, name, attributes),
            EntryKind::HardLink => {
                let target = self.link_target(entry)?;
                self.replace(&directory, name, target)
            }
            EntryKind::Symlink => {
                let body = StagedBody::Symlink(entry.link.clone());
                self.replace(&directory, name, Staged { attributes, body })
            }
            _ => {
                let body = self.content(archive, entry)?;
                self.replace(&directory, name, Staged { attributes, body })
            }
        }
    }

    fn directory(&mut self, directory: &Spot, name: &[u8], attributes: Attributes) -> Result<(), CopyError> {
        let (attributes, is_opaque) = match self.staging.look(directory, name)? {
            Some((spot, StepKind::Directory)) => (merged(attributes, self.staging.attributes(&spot)?), false),
            // A file has taken the place of a directory below, which must not show again.
            Some((spot, _)) => {
                let is_opaque = spot.below.is_some_and(|node| node.is_directory());
                self.staging.take_back(&spot.path);
                (attributes, is_opaque)
            }
            None => (attributes, false),
        };
        self.staging
            .put_directory(directory, name, attributes, is_opaque)
            .map(drop)
    }

    /// Puts something that is no directory in the place of whatever is there.
    fn replace(&mut self, directory: &Spot, name: &[u8], staged: Staged<'a>) -> Result<(), CopyError> {
        let path = join(&directory.path, name);
        self.staging.take_back(&path);
        self.staging.put(&path, staged)
    }

    fn content<R: Read>(
        &mut self,
        archive: &mut Reader<R>,
        entry: &Entry,
    ) -> Result<StagedBody<'a>, CopyError> {
        let left = self.options.max_unpacked.saturating_sub(self.staging.unpacked);
        let too_much = || CopyError::TooMuch {
            instruction: self.options.instruction,
            what: "bytes from archives",
            limit: self.options.max_unpacked,
        };
        // Holes cost nothing to store, so that their size is looked at first.
        if entry.size > left {
            return Err(too_much());
        }
        let spool = self.staging.spool()?;
        let appended = spool
            .append(&mut archive.content(entry), left)
            .map_err(|error| match error {
                SpoolError::Read(source) => self.refused(entry, &source.to_string()),
                SpoolError::Write(source) => self.staging.temporary_error(source),
            })?;
        let extent = appended.ok_or_else(too_much)?;
        self.staging.unpacked += extent.length;
        Ok(StagedBody::Regular {
            size: extent.length,
            content: StagedContent::Spool(extent),
            file: Some(self.next_file()),
        })
    }

    /// What a hard link is another name of. It may be a file below: then that becomes one of the layer, for two names of one file
    /// have to be in one layer.
    fn link_target(&mut self, entry: &Entry) -> Result<Staged<'a>, CopyError> {
        let target = printable(&entry.link);
        let no_file = |unpacking: &Self| {
            let why = format!("is a hard link to {target}, which is no file beneath the destination");
            unpacking.refused(entry, &why)
        };
        let names = self.clean(entry, &entry.link)?;
        let beneath = Beneath {
            staging: self.staging,
            top: &self.top,
        };
        let walked = walk(&beneath, &names.join(&b'/'), LastLink::Keep)?;
        if !walked.missing.is_empty() {
            return Err(no_file(self));
        }
        let found = self.staging.staged(&walked.end)?;
        let is_file = |staged: &Staged<'_>| !matches!(staged.body, StagedBody::Directory { .. });
        let mut found = found.filter(is_file).ok_or_else(|| no_file(self))?;
        if let StagedBody::Regular { file, .. } = &mut found.body {
            file.get_or_insert_with(|| self.next_file());
        }
        self.staging.put(&walked.end.path, found.clone())?;
        Ok(found)
    }

    /// A file that any later entry may be another name of.
    fn next_file(&mut self) -> SharedFile {
        self.files += 1;
        let (device, inode) = (0, self.files);
        (self.staging.copies, FileId { device, inode })
    }

    /// The names of a path; an error if it leads out of the destination.
    fn clean<'e>(&self, entry: &Entry, path: &'e [u8]) -> Result<Vec<&'e [u8]>, CopyError> {
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." if names.pop().is_none() => {
                    let why = format!("leads out of the destination ({})", printable(path));
                    return Err(self.refused(entry, &why));
                }
                b".." => {}
                name => names.push(name),
            }
        }
        Ok(names)
    }

    fn attributes(&self, entry: &Entry) -> Attributes {
        let owner = self.options.owner;
        let mut xattrs = entry.xattrs.clone();
        // Overlayfs's own marks are not for an archive to make; an empty value is none, as in Go.
        xattrs.retain(|xattr| !xattr.name.starts_with(b"trusted.") && !xattr.value.is_empty());
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Attributes {
            mode: entry.mode,
            uid: owner.map_or(entry.uid, |owner| owner.uid),
            gid: owner.map_or(entry.gid, |owner| owner.gid),
            mtime: entry.mtime,
            xattrs,
        }
    }

    fn refused(&self, entry: &Entry, why: &str) -> CopyError {
        CopyError::ArchiveEntry {
            archive: self.archive.clone(),
            entry: printable(&entry.path),
            why: why.to_owned(),
        }
    }
}
