//! A layer's tar stream to one EROFS image (OCI image specification, layer.md).
//!
//! Whiteouts become what overlayfs understands in a lower directory (kernel
//! Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0 for
//! a removed file, `trusted.overlay.opaque` for a directory that hides the ones below it. They concern the
//! layers below only, so what this layer itself brings under the same name stays, wherever it stands.

use erofs::{Device, FileType, Metadata, Special, Timestamp, WriteError, Writer, Xattr};
use std::collections::BTreeSet;
use std::io::{self, Read, Seek, Write};
use tar_stream::{ArchiveError, Entry, EntryKind, Reader};

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
    /// The temporary file for the image's tree cannot be used.
    #[error("cannot use a temporary file: {0}")]
    Scratch(#[source] io::Error),
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
    mut archive: Reader<R>,
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
    archive: &mut Reader<R>,
    entry: &Entry,
    image: &mut Writer<W>,
) -> Result<(), LayerError> {
    let metadata = metadata(entry);
    match entry.kind {
        EntryKind::Regular => {
            image.add_file(&entry.path, metadata, entry.size, &mut archive.content(entry))?;
        }
        EntryKind::Directory => image.add_directory(&entry.path, metadata)?,
        EntryKind::Symlink => {
            // Linux knows no other mode of a symbolic link, whatever the archive says.
            let metadata = Metadata {
                mode: 0o777,
                ..metadata
            };
            image.add_symlink(&entry.path, metadata, &entry.link)?;
        }
        EntryKind::HardLink => image.add_hard_link(&entry.path, &entry.link)?,
        EntryKind::CharDevice(device) => {
            image.add_special(&entry.path, metadata, Special::CharDevice(number(device)))?;
        }
        EntryKind::BlockDevice(device) => {
            image.add_special(&entry.path, metadata, Special::BlockDevice(number(device)))?;
        }
        EntryKind::Fifo => image.add_special(&entry.path, metadata, Special::Fifo)?,
    }
    Ok(())
}

fn number(device: tar_stream::Device) -> Device {
    Device {
        major: device.major,
        minor: device.minor,
    }
}

/// Owner, mode, time and attributes. `trusted.*` is left out: it is how overlayfs marks its own files, and
/// an image must not forge such marks. What EROFS cannot hold is left out as on any other file system that
/// does not support it, and an empty value, which Go reads as none: so do all container runtimes.
fn metadata(entry: &Entry) -> Metadata {
    let wanted = |xattr: &&tar_stream::Xattr| {
        !xattr.name.starts_with(b"trusted.") && !xattr.value.is_empty() && Xattr::is_storable(&xattr.name)
    };
    let xattrs = entry.xattrs.iter().filter(wanted);
    Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Timestamp {
            seconds: entry.mtime.seconds,
            nanoseconds: entry.mtime.nanoseconds,
        },
        xattrs: xattrs
            .map(|xattr| Xattr::new(xattr.name.clone(), xattr.value.clone()))
            .collect(),
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
        let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) else {
            return Ok(false);
        };
        self.bytes += path.len() + size_of::<Vec<u8>>();
        if self.bytes > MAX_WHITEOUTS {
            return Err(LayerError::TooManyWhiteouts);
        }
        if name == OPAQUE_MARKER {
            self.opaque.insert(parent.to_vec());
        } else if !name.starts_with(RESERVED_PREFIX) {
            if matches!(removed, b"" | b"." | b"..") {
                return Err(LayerError::Whiteout {
                    path: path.escape_ascii().to_string(),
                });
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
                    let metadata = Metadata {
                        mode: 0o755,
                        xattrs: vec![opaque()],
                        ..Metadata::default()
                    };
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
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use tar::{Builder, EntryType, Header};

    /// An archive with every kind of header that has a parser of its own.
    fn archive() -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut add = |kind: EntryType, name: &str, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let link: &[u8] = if kind == EntryType::Symlink {
                b"dir"
            } else {
                b"file"
            };
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
            for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
                set(&mut header, 0);
            }
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
            if kind == EntryType::GNUSparse {
                let gnu = header.as_gnu_mut().unwrap();
                gnu.set_real_size(5000);
                gnu.sparse[0].set_offset(512);
                gnu.sparse[0].set_length(content.len() as u64);
            }
            header.set_cksum();
            builder.append(&header, content).unwrap();
        };
        add(EntryType::Directory, "dir/", b"");
        add(
            EntryType::XHeader,
            "x",
            b"20 mtime=-12345.678\n25 SCHILY.xattr.user.a=\n\n",
        );
        add(EntryType::Regular, "file", &[7; 700]);
        add(EntryType::GNULongName, "L", b"dir/long\0");
        add(EntryType::Link, "short", b"");
        add(EntryType::GNUSparse, "sparse", &[8; 600]);
        add(
            EntryType::XHeader,
            "x",
            b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=9999\n",
        );
        add(
            EntryType::Regular,
            "sparse10",
            &[b"1\n0\n5\n".as_slice(), &[0; 506], b"hello"].concat(),
        );
        add(EntryType::Symlink, "link", b"");
        add(EntryType::Char, "dir/null", b"");
        add(EntryType::Regular, "link/.wh.gone", b"");
        add(EntryType::Regular, "dir/.wh..wh..opq", b"");
        builder.into_inner().unwrap()
    }

    fn convert_bytes(archive: &[u8]) -> Result<(), LayerError> {
        let limits = erofs::Limits {
            image_bytes: 16 << 20,
            ..erofs::Limits::default()
        };
        let options = erofs::Options {
            limits,
            ..erofs::Options::default()
        };
        let mut image = Writer::new(Cursor::new(Vec::new()), options);
        convert(Reader::new(archive), &mut image)?;
        image.finish()?;
        Ok(())
    }

    /// Makes every block's checksum right, so that damage reaches what lies behind the check.
    fn repair_checksums(archive: &mut [u8]) {
        for block in archive.as_chunks_mut::<512>().0 {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            if block[257..262] == *b"ustar" {
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
    }

    #[test]
    fn the_undamaged_archive_is_a_layer() {
        convert_bytes(&archive()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_damaged_archive_gives_an_error_or_a_layer_but_no_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut archive = archive();
            for (at, value) in damage {
                let at = at.index(archive.len());
                archive[at] = value;
            }
            repair_checksums(&mut archive);
            let _ = convert_bytes(&archive);
            let _ = convert_bytes(&archive[..cut.index(archive.len())]);
        }
    }
}
