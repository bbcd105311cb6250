//! An archive of local files.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tar_stream::{Device, Entry, EntryKind, FileId, HardLinks, Timestamp, Writer};

use super::placement::{Source, base_name};

/// Bytes that are read of a file and written to the daemon at once.
const PIECE: usize = 128 << 10;

/// What is to be copied.
pub(super) struct LocalSource {
    path: PathBuf,
    name: String,
    is_directory: bool,
}

impl LocalSource {
    /// What is at an absolute path. A link at its end is followed when that is asked for, or when a slash or `/.` stands
    /// behind it.
    pub(super) fn find(path: &str, follow: bool) -> io::Result<Self> {
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot look at {path}: {error}"));
        let asks_for_directory = path.ends_with('/') || base_name(path) == ".";
        let (resolved, metadata) = if follow || asks_for_directory {
            let resolved = fs::canonicalize(path).map_err(failed)?;
            let metadata = fs::metadata(path).map_err(failed)?;
            (resolved, metadata)
        } else {
            (path.into(), fs::symlink_metadata(path).map_err(failed)?)
        };
        Ok(Self {
            path: resolved,
            name: base_name(path).to_owned(),
            is_directory: metadata.is_dir(),
        })
    }

    pub(super) fn describe(&self) -> Source {
        Source {
            name: self.name.clone(),
            is_directory: self.is_directory,
        }
    }
}

/// Writes the archive, its entries under `name`; how many bytes it had.
pub(super) fn pack(source: &LocalSource, name: &str, to: PipeWriter) -> anyhow::Result<u64> {
    let to = Counter {
        to: BufWriter::with_capacity(PIECE, to),
        count: 0,
    };
    let mut packer = Packer {
        archive: Writer::new(to),
        links: HardLinks::default(),
        buffer: vec![0; PIECE],
    };
    let name = if name == "/" { "" } else { name };
    packer.add(&source.path, name.as_bytes())?;
    Ok(packer.archive.finish()?.count)
}

struct Packer {
    archive: Writer<Counter>,
    links: HardLinks,
    buffer: Vec<u8>,
}

impl Packer {
    fn add(&mut self, path: &Path, name: &[u8]) -> anyhow::Result<()> {
        let looked = || format!("cannot look at {}", path.display());
        let metadata = fs::symlink_metadata(path).with_context(looked)?;
        let Some(kind) = kind(&metadata) else {
            return Ok(());
        };
        let mut entry = describe(name, kind, &metadata);
        match kind {
            EntryKind::Directory => {
                entry.path.push(b'/');
                self.archive.begin(&entry)?;
                return self.add_below(path, name);
            }
            EntryKind::Symlink => {
                let target = fs::read_link(path).with_context(looked)?;
                entry.link = target.as_os_str().as_bytes().to_vec();
            }
            _ => {}
        }
        let file = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        if self.links.link(&mut entry, file, metadata.nlink()) {
            return Ok(self.archive.begin(&entry)?);
        }
        match kind {
            EntryKind::Regular => self.add_file(path, entry),
            _ => Ok(self.archive.begin(&entry)?),
        }
    }

    fn add_below(&mut self, path: &Path, name: &[u8]) -> anyhow::Result<()> {
        let cannot = || format!("cannot read the directory {}", path.display());
        let entries = fs::read_dir(path).with_context(cannot)?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .with_context(cannot)?;
        names.sort_unstable();
        for below in names {
            let inside = [name, b"/", below.as_bytes()].concat();
            self.add(&path.join(below), &inside)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, mut entry: Entry) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(cannot)?;
        entry.size = file.metadata().with_context(cannot)?.len();
        self.archive.begin(&entry)?;
        while self.archive.left() > 0 {
            let room = self
                .buffer
                .len()
                .min(usize::try_from(self.archive.left()).unwrap_or(usize::MAX));
            let count = match file.read(&mut self.buffer[..room]).with_context(cannot)? {
                // It has become shorter: what it lacks is zero.
                0 => {
                    self.buffer[..room].fill(0);
                    room
                }
                count => count,
            };
            self.archive.write(&self.buffer[..count])?;
        }
        Ok(())
    }
}

/// What an entry makes; `None` for a socket, which is of no use without its process.
fn kind(metadata: &Metadata) -> Option<EntryKind> {
    let kind = metadata.file_type();
    let device = || Device {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    };
    Some(match () {
        () if kind.is_file() => EntryKind::Regular,
        () if kind.is_dir() => EntryKind::Directory,
        () if kind.is_symlink() => EntryKind::Symlink,
        () if kind.is_char_device() => EntryKind::CharDevice(device()),
        () if kind.is_block_device() => EntryKind::BlockDevice(device()),
        () if kind.is_fifo() => EntryKind::Fifo,
        () => return None,
    })
}

fn describe(name: &[u8], kind: EntryKind, metadata: &Metadata) -> Entry {
    let mut entry = Entry::new(name, kind);
    entry.mode = (metadata.mode() & 0o7777) as u16;
    entry.uid = metadata.uid();
    entry.gid = metadata.gid();
    entry.mtime = Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    };
    entry
}

/// Counts what goes through.
struct Counter {
    to: BufWriter<PipeWriter>,
    count: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
