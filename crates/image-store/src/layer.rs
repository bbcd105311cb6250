//! A layer's tar stream to one EROFS image (OCI image specification, layer.md).
//!
//! Whiteouts become what overlayfs understands in a lower directory (kernel
//! Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0 for
//! a removed file, `trusted.overlay.opaque` for a directory that hides the ones below it. They concern the
//! layers below only, so what this layer itself brings under the same name stays, wherever it stands.

use crate::archive::{Archive, ArchiveError, Entry, EntryKind};
use erofs::{Device, FileType, Metadata, Special, WriteError, Writer, Xattr};
use std::collections::BTreeSet;
use std::io::{Read, Seek, Write};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Names that begin so are aufs's own; only the opaque marker means something here.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";
/// Memory for the paths of whiteouts, in bytes.
const MAX_WHITEOUTS: usize = 64 << 20;

/// Why a layer's archive cannot become an image.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive is malformed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry cannot be in an image.
    #[error(transparent)]
    Image(#[from] WriteError),
    /// A whiteout names nothing that could be removed.
    #[error("entry `{path}` is a whiteout without the name of a file")]
    Whiteout {
        /// The entry, unprintable bytes escaped.
        path: String,
    },
    /// There are too many whiteouts.
    #[error("the paths of the layer's whiteouts exceed {MAX_WHITEOUTS} bytes")]
    TooManyWhiteouts,
}

/// What whiteout entries ask for, applied when all other entries are known.
#[derive(Default)]
struct Whiteouts {
    removed: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    bytes: usize,
}

/// Adds all entries of `archive` to `image`.
pub(crate) fn convert<R: Read, W: Write + Seek>(
    mut archive: Archive<R>,
    image: &mut Writer<W>,
) -> Result<(), LayerError> {
    let mut whiteouts = Whiteouts::default();
    while let Some(entry) = archive.next()? {
        if !whiteouts.take(&entry.path)? {
            add(&mut archive, &entry, image)?;
        }
    }
    whiteouts.apply(image)
}

fn add<R: Read, W: Write + Seek>(
    archive: &mut Archive<R>,
    entry: &Entry,
    image: &mut Writer<W>,
) -> Result<(), LayerError> {
    let metadata = metadata(entry);
    match entry.kind {
        EntryKind::Regular => {
            image.add_file(&entry.path, metadata, entry.size, &mut archive.content(entry))?;
        }
        EntryKind::Directory => image.add_directory(&entry.path, metadata)?,
        EntryKind::Symlink => image.add_symlink(&entry.path, metadata, &entry.link)?,
        EntryKind::HardLink => image.add_hard_link(&entry.path, &entry.link)?,
        EntryKind::CharDevice(device) => {
            image.add_special(&entry.path, metadata, Special::CharDevice(device))?;
        }
        EntryKind::BlockDevice(device) => {
            image.add_special(&entry.path, metadata, Special::BlockDevice(device))?;
        }
        EntryKind::Fifo => image.add_special(&entry.path, metadata, Special::Fifo)?,
    }
    Ok(())
}

/// Owner, mode, time and attributes. `trusted.*` is left out: it is how overlayfs marks its own files, and
/// an image must not forge such marks. What EROFS cannot hold is left out as on any other file system that
/// does not support it.
fn metadata(entry: &Entry) -> Metadata {
    let wanted = |xattr: &&Xattr| !xattr.name.starts_with(b"trusted.") && Xattr::is_storable(&xattr.name);
    Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().filter(wanted).cloned().collect(),
    }
}

impl Whiteouts {
    /// Remembers `path` if it is a whiteout; whether it was one.
    fn take(&mut self, path: &[u8]) -> Result<bool, LayerError> {
        let path = without_trailing_slashes(path);
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) else { return Ok(false) };
        self.bytes += path.len() + size_of::<Vec<u8>>();
        if self.bytes > MAX_WHITEOUTS {
            return Err(LayerError::TooManyWhiteouts);
        }
        if name == OPAQUE_MARKER {
            self.opaque.insert(parent.to_vec());
        } else if !name.starts_with(RESERVED_PREFIX) {
            if matches!(removed, b"" | b"." | b"..") {
                return Err(LayerError::Whiteout { path: path.escape_ascii().to_string() });
            }
            self.removed.insert([parent, b"/", removed].concat());
        }
        Ok(true)
    }

    fn apply<W: Write + Seek>(self, image: &mut Writer<W>) -> Result<(), LayerError> {
        for path in self.removed {
            match image.file_type(&path)? {
                None => {
                    let device = Special::CharDevice(Device { major: 0, minor: 0 });
                    image.add_special(&path, Metadata::default(), device)?;
                }
                Some(FileType::Directory) => image.set_xattr(&path, opaque())?,
                Some(_) => {}
            }
        }
        for path in self.opaque {
            match image.file_type(&path)? {
                None => {
                    let metadata = Metadata { mode: 0o755, xattrs: vec![opaque()], ..Metadata::default() };
                    image.add_directory(&path, metadata)?;
                }
                Some(FileType::Directory) => image.set_xattr(&path, opaque())?,
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn opaque() -> Xattr {
    Xattr::new(OPAQUE_XATTR, *b"y")
}

fn without_trailing_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}
