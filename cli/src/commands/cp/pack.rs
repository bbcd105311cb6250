//! An archive of local files.

use std::fs::{self, File};
use std::io::{self, BufWriter, PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tar_stream::{Entry, EntryKind, FileId, HardLinks, Writer};

use super::placement::{Source, base_name};
use crate::commands::local_file::{describe, fill, kind, sorted_names};

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
        for below in sorted_names(path)? {
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
        fill(&mut self.archive, &mut file, path, &mut self.buffer)
    }
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
