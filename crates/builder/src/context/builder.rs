//! A context that is being put together. What says what is in it may be hostile.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use image_store::Digest;
use tar_stream::{Timestamp, Xattr};

use super::error::ContextError;
use super::store::{ContextStore, Lease};
use super::{Body, Context, Entry, ROOT};
use crate::file_tree::{NodeKind, printable};
use crate::layer::next_serial;
use crate::paths::{MAX_NAME, MAX_PATH};
use crate::spool::{SpoolError, SpoolWriter};

/// What a context may grow to.
#[derive(Debug, Clone, Copy)]
pub struct ContextLimits {
    /// Files of all kinds.
    pub entries: u32,
    /// Names, targets of links and extended attributes, in bytes: they are kept in memory.
    pub metadata_bytes: u64,
    /// Contents of all files, holes included, in bytes.
    pub content_bytes: u64,
}

impl Default for ContextLimits {
    /// A million files, 128 MiB of names, 64 GiB of contents.
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            metadata_bytes: 128 << 20,
            content_bytes: 64 << 30,
        }
    }
}

/// What is kept of a file besides its kind: a context has no owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextAttributes {
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes. `trusted.*` is left out: it is overlayfs's own.
    pub xattrs: Vec<Xattr>,
}

/// Puts a context together. Of two files with one path the later counts; directories that are not named are 0755.
#[derive(Debug)]
pub struct ContextBuilder {
    entries: Vec<Entry>,
    limits: ContextLimits,
    metadata_bytes: u64,
    content_bytes: u64,
    folder: String,
    spool: SpoolWriter,
    leases: Vec<Lease>,
}

impl ContextBuilder {
    /// Nothing yet. Contents go to a temporary file without a name in `folder`.
    pub fn new(folder: &Path, limits: ContextLimits) -> Result<Self, ContextError> {
        let spool = SpoolWriter::new(folder).map_err(|source| ContextError::Spool {
            folder: folder.display().to_string(),
            source,
        })?;
        let root = Entry {
            mode: 0o755,
            mtime: Timestamp::default(),
            xattrs: Box::default(),
            links: 1,
            body: Body::Directory(BTreeMap::new()),
        };
        Ok(Self {
            entries: vec![root],
            limits,
            metadata_bytes: 0,
            content_bytes: 0,
            folder: folder.display().to_string(),
            spool,
            leases: Vec::new(),
        })
    }

    /// Adds a directory, or changes the attributes of one that is there.
    pub fn directory(&mut self, path: &[u8], attributes: ContextAttributes) -> Result<(), ContextError> {
        let names = clean(path)?;
        let mut at = ROOT;
        for name in &names {
            at = self.enter(at, name, path)?;
        }
        let xattrs = self.charge(&attributes, 0)?;
        let entry = &mut self.entries[at as usize];
        (entry.mode, entry.mtime, entry.xattrs) = (attributes.mode & 0o7777, attributes.mtime, xattrs);
        Ok(())
    }

    /// Adds a regular file with all of `content`; its digest.
    pub fn file(
        &mut self,
        path: &[u8],
        attributes: ContextAttributes,
        content: &mut dyn Read,
    ) -> Result<Digest, ContextError> {
        let left = self.limits.content_bytes - self.content_bytes;
        let appended = self.spool.append(content, left).map_err(|error| match error {
            SpoolError::Read(source) => ContextError::Read(source),
            SpoolError::Write(source) => self.spool_error(source),
        })?;
        let extent = appended.ok_or_else(|| self.too_much_content())?;
        self.content_bytes += extent.length;
        let body = Body::Regular {
            size: extent.length,
            digest: extent.digest,
            spooled: Some(extent.offset),
        };
        self.add(path, attributes, body)?;
        Ok(extent.digest)
    }

    /// Adds a regular file whose content is in the store already, and holds it there.
    pub fn stored_file(
        &mut self,
        path: &[u8],
        attributes: ContextAttributes,
        (digest, size): (Digest, u64),
        store: &ContextStore,
    ) -> Result<(), ContextError> {
        self.check_content(size)?;
        let lease = store.lease(&digest, size).ok_or_else(|| ContextError::Missing {
            path: printable(path),
            digest,
        })?;
        self.leases.push(lease);
        self.content_bytes += size;
        let body = Body::Regular {
            size,
            digest,
            spooled: None,
        };
        self.add(path, attributes, body)
    }

    /// Adds a symbolic link. Its target is kept as it is: whoever follows it stays within the context.
    pub fn symlink(
        &mut self,
        path: &[u8],
        attributes: ContextAttributes,
        target: &[u8],
    ) -> Result<(), ContextError> {
        let attributes = ContextAttributes {
            // Linux knows no other mode of a symbolic link.
            mode: 0o777,
            ..attributes
        };
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return Err(refused(
                path,
                "is a symbolic link with a target that no link can have",
            ));
        }
        self.add(path, attributes, Body::Symlink(target.into()))
    }

    /// Adds a device or a named pipe; nothing for a socket, which means nothing without the process behind it.
    pub fn special(
        &mut self,
        path: &[u8],
        attributes: ContextAttributes,
        kind: NodeKind,
    ) -> Result<(), ContextError> {
        let body = match kind {
            NodeKind::CharDevice(device) => Body::CharDevice(device),
            NodeKind::BlockDevice(device) => Body::BlockDevice(device),
            NodeKind::Fifo => Body::Fifo,
            _ => return Ok(()),
        };
        self.add(path, attributes, body)
    }

    /// Adds another name for a file that is there.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ContextError> {
        let no_file = || ContextError::HardLink {
            path: printable(path),
            target: printable(target),
        };
        let mut found = ROOT;
        for name in clean(target)? {
            let Body::Directory(children) = &self.entries[found as usize].body else {
                return Err(no_file());
            };
            found = *children.get(name).ok_or_else(no_file)?;
        }
        if matches!(self.entries[found as usize].body, Body::Directory(_)) {
            return Err(no_file());
        }
        self.charge(&ContextAttributes::default(), path.len())?;
        self.entries[found as usize].links += 1;
        self.link(path, found)
    }

    /// The context. No more can be added.
    pub fn finish(self) -> Result<Context, ContextError> {
        let Self {
            entries,
            folder,
            spool,
            leases,
            ..
        } = self;
        let spool = spool
            .finish()
            .map_err(|source| ContextError::Spool { folder, source })?;
        let stored = leases.first().map(Lease::store);
        Ok(Context {
            serial: next_serial(),
            entries,
            spool: Some(spool),
            stored: stored.map(|store| (store, leases)),
        })
    }

    /// Whether so much content fits, before any of it is read: an archive's holes cost nothing to send.
    pub(super) fn check_content(&self, size: u64) -> Result<(), ContextError> {
        match size > self.limits.content_bytes - self.content_bytes {
            true => Err(self.too_much_content()),
            false => Ok(()),
        }
    }

    fn add(&mut self, path: &[u8], attributes: ContextAttributes, body: Body) -> Result<(), ContextError> {
        let extra = match &body {
            Body::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs = self.charge(&attributes, extra)?;
        let index = self.push(Entry {
            mode: attributes.mode & 0o7777,
            mtime: attributes.mtime,
            xattrs,
            links: 1,
            body,
        })?;
        self.link(path, index)
    }

    fn push(&mut self, entry: Entry) -> Result<u32, ContextError> {
        let limit = self.limits.entries;
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if index > limit {
            let (what, limit) = ("files", limit.into());
            return Err(ContextError::TooLarge { what, limit });
        }
        self.entries.push(entry);
        Ok(index)
    }

    /// Gives an entry its name, in the place of whatever has it.
    fn link(&mut self, path: &[u8], index: u32) -> Result<(), ContextError> {
        let names = clean(path)?;
        let Some((last, parents)) = names.split_last() else {
            return Err(refused(path, "is that of the context itself, and no directory"));
        };
        let mut at = ROOT;
        for name in parents {
            at = self.enter(at, name, path)?;
        }
        self.charge_bytes(last.len() as u64)?;
        if let Body::Directory(children) = &mut self.entries[at as usize].body {
            children.insert((*last).into(), index);
        }
        Ok(())
    }

    /// The directory with this name, which is made if there is none.
    fn enter(&mut self, at: u32, name: &[u8], path: &[u8]) -> Result<u32, ContextError> {
        let found = match &self.entries[at as usize].body {
            Body::Directory(children) => children.get(name).copied(),
            _ => None,
        };
        if let Some(found) = found {
            return match self.entries[found as usize].body {
                Body::Directory(_) => Ok(found),
                // A symbolic link, too: a context is sent without going through any.
                _ => Err(refused(path, "lies beneath something that is no directory")),
            };
        }
        self.charge_bytes(name.len() as u64)?;
        let made = self.push(Entry {
            mode: 0o755,
            mtime: Timestamp::default(),
            xattrs: Box::default(),
            links: 1,
            body: Body::Directory(BTreeMap::new()),
        })?;
        if let Body::Directory(children) = &mut self.entries[at as usize].body {
            children.insert(name.into(), made);
        }
        Ok(made)
    }

    /// The attributes to keep, counted.
    fn charge(&mut self, attributes: &ContextAttributes, more: usize) -> Result<Box<[Xattr]>, ContextError> {
        let kept = attributes
            .xattrs
            .iter()
            .filter(|xattr| !xattr.name.starts_with(b"trusted."));
        let mut xattrs: Vec<Xattr> = kept.cloned().collect();
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        let bytes: usize = xattrs
            .iter()
            .map(|xattr| xattr.name.len() + xattr.value.len())
            .sum();
        self.charge_bytes((bytes + more) as u64)?;
        Ok(xattrs.into())
    }

    fn charge_bytes(&mut self, bytes: u64) -> Result<(), ContextError> {
        let limit = self.limits.metadata_bytes;
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes);
        let what = "bytes of names";
        match self.metadata_bytes > limit {
            true => Err(ContextError::TooLarge { what, limit }),
            false => Ok(()),
        }
    }

    fn too_much_content(&self) -> ContextError {
        let limit = self.limits.content_bytes;
        let what = "bytes";
        ContextError::TooLarge { what, limit }
    }

    fn spool_error(&self, source: io::Error) -> ContextError {
        let folder = self.folder.clone();
        ContextError::Spool { folder, source }
    }
}

fn refused(path: &[u8], why: &str) -> ContextError {
    let shown = &path[..path.len().min(300)];
    ContextError::Path {
        path: printable(shown),
        why: why.to_owned(),
    }
}

/// The names of a path beneath the context. A leading slash means nothing, and `..` may go back, but not out.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, ContextError> {
    if path.len() > MAX_PATH {
        let why = format!("has {} bytes; {MAX_PATH} are possible", path.len());
        return Err(refused(path, &why));
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.pop().is_none() => return Err(refused(path, "leads out of it")),
            b".." => {}
            _ if name.len() > MAX_NAME => {
                let why = format!("has a name of {} bytes; {MAX_NAME} are possible", name.len());
                return Err(refused(path, &why));
            }
            _ if name.contains(&0) => return Err(refused(path, "has a NUL byte")),
            _ => names.push(name),
        }
    }
    Ok(names)
}
