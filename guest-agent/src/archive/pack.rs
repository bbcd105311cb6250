//! From files to an archive: `export`, and `cp` out of the container.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;

use guest_protocol::{ContainerSpec, PathStat, write_frame};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat};
use rustix::io::Errno;
use tar_stream::{Device, Entry, EntryKind, FileId, HardLinks, Segment, Timestamp, Writer};

use super::owners::Owners;
use super::trees::Tree;
use super::walk::{Found, walk};
use super::{Result, TaskError, has_gone, inspect, text, xattrs};
use crate::os_error::During;
use crate::root::Root;

/// Bytes that are read of a file and written to the host at once.
const PIECE: usize = 128 * 1024;
/// A file with fewer bytes of holes is written with its zeros, which every reader of archives understands.
const MIN_HOLES: u64 = 64 << 20;
/// A file with more runs of data is written with its zeros.
const MAX_SEGMENTS: usize = 1 << 16;

/// The whole root, the names relative to it.
pub(super) fn export(container: &ContainerSpec, root: &Root, output: File) -> Result<()> {
    let tree = Tree::new(root.find("/").during("open", "/")?);
    let mut packer = Packer::new(container, output);
    packer.add_tree(&tree, b"", &mut |_| true)?;
    packer.finish()
}

/// What is at a path: its stat, and the archive.
pub(super) fn read(container: &ContainerSpec, root: &Root, path: &str, mut output: File) -> Result<()> {
    let (object, stat) = inspect::find(root, path)?;
    let described = inspect::describe(root, path, &stat)?;
    write_frame(&mut output, &described)?;
    let PathStat { name, .. } = described;
    let base = if name == "/" { "" } else { name.as_str() };
    let mut packer = Packer::new(container, output);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let opened = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        packer.add_directory(base.as_bytes(), &stat, opened.during("open", path)?)?;
        let prefix = [base.as_bytes(), b"/"].concat();
        packer.add_tree(&Tree::new(object), &prefix, &mut |_| true)?;
    } else {
        packer.add_single(root, path, base, &stat)?;
    }
    packer.finish()
}

/// Writes files into an archive.
pub(super) struct Packer {
    archive: Writer<BufWriter<File>>,
    owners: Owners,
    links: HardLinks,
    buffer: Vec<u8>,
}

impl Packer {
    pub(super) fn new(container: &ContainerSpec, output: File) -> Self {
        Self {
            archive: Writer::new(BufWriter::with_capacity(PIECE, output)),
            owners: Owners::of(container),
            links: HardLinks::default(),
            buffer: vec![0; PIECE],
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        self.archive.finish()?;
        Ok(())
    }

    /// Adds all that is in a tree and that is `wanted`, with a prefix before the names.
    pub(super) fn add_tree(
        &mut self,
        tree: &Tree,
        prefix: &[u8],
        wanted: &mut dyn FnMut(&Found<'_>) -> bool,
    ) -> Result<()> {
        walk(tree, b"", &mut |found| {
            if !wanted(found) {
                return Ok(false);
            }
            self.add(found, prefix)?;
            Ok(true)
        })
    }

    /// Adds one thing of a tree.
    pub(super) fn add(&mut self, found: &Found<'_>, prefix: &[u8]) -> Result<()> {
        let path = [prefix, found.path].concat();
        if found.kind() == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return match openat(found.parent, found.name(), flags, Mode::empty()) {
                Ok(directory) => self.add_directory(&path, &found.stat, directory),
                Err(error) if has_gone(error) => Ok(()),
                Err(error) => Err(error).during("open", text(&path))?,
            };
        }
        self.add_other(path, &found.stat, found.parent, found.name())
    }

    /// Adds a name that stands for nothing but itself.
    pub(super) fn add_marker(&mut self, path: Vec<u8>) -> Result<()> {
        let mut entry = Entry::new(path, EntryKind::Regular);
        entry.mode = 0o644;
        Ok(self.archive.begin(&entry)?)
    }

    fn add_directory(&mut self, path: &[u8], stat: &Stat, directory: OwnedFd) -> Result<()> {
        let mut entry = self.entry([path, b"/"].concat(), EntryKind::Directory, stat);
        entry.xattrs = xattrs::read(&directory);
        Ok(self.archive.begin(&entry)?)
    }

    /// Adds one thing that is no directory, by its path.
    fn add_single(&mut self, root: &Root, path: &str, base: &str, stat: &Stat) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = root
            .open(
                if parent.is_empty() { "/" } else { parent },
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .during("open", parent)?;
        self.add_other(base.as_bytes().to_vec(), stat, &parent, name.as_bytes())
    }

    /// Adds anything but a directory.
    fn add_other(&mut self, path: Vec<u8>, stat: &Stat, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let device = || Device {
            major: major(stat.st_rdev),
            minor: minor(stat.st_rdev),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::Regular,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice(device()),
            FileType::BlockDevice => EntryKind::BlockDevice(device()),
            FileType::Fifo => EntryKind::Fifo,
            // A socket is of no use without its process.
            _ => return Ok(()),
        };
        let mut entry = self.entry(path, kind, stat);
        let file = FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        if self.links.link(&mut entry, file, stat.st_nlink) {
            return Ok(self.archive.begin(&entry)?);
        }
        match kind {
            EntryKind::Regular => return self.add_file(entry, parent, name),
            EntryKind::Symlink => match readlinkat(parent, name, Vec::new()) {
                Ok(target) => entry.link = target.into_bytes(),
                Err(error) if has_gone(error) || error == Errno::INVAL => return Ok(()),
                Err(error) => return Err(error).during("read the link", text(&entry.path))?,
            },
            _ => {}
        }
        Ok(self.archive.begin(&entry)?)
    }

    fn add_file(&mut self, mut entry: Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        // Whatever has come in its place meanwhile, opening it must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(parent, name, flags, Mode::empty());
        let file = match opened {
            Ok(file) => file,
            Err(error) if has_gone(error) || error == Errno::NXIO => return Ok(()),
            Err(error) => return Err(error).during("open", text(&entry.path))?,
        };
        let stat = fstat(&file).during("look at", text(&entry.path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        entry.size = stat.st_size as u64;
        entry.xattrs = xattrs::read(&file);
        let mut file = File::from(file);
        let failed = |path: &[u8]| {
            let path = text(path);
            move |source| TaskError::Read { path, source }
        };
        match segments(&mut file, &stat).map_err(failed(&entry.path))? {
            Some(segments) if entry.set_segments(segments.clone()) => {
                self.archive.begin(&entry)?;
                for segment in segments {
                    file.seek(SeekFrom::Start(segment.offset))
                        .map_err(failed(&entry.path))?;
                    self.copy(&mut file, segment.length)
                        .map_err(failed(&entry.path))?;
                }
                Ok(())
            }
            _ => {
                file.rewind().map_err(failed(&entry.path))?;
                self.archive.begin(&entry)?;
                self.copy(&mut file, entry.size).map_err(failed(&entry.path))
            }
        }
    }

    /// Copies that many bytes. What a file that has become shorter lacks is zero.
    fn copy(&mut self, file: &mut File, length: u64) -> std::io::Result<()> {
        let mut left = length;
        while left > 0 {
            let room = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match file.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    self.buffer[..room].fill(0);
                    room
                }
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.archive
                .write(&self.buffer[..count])
                .map_err(std::io::Error::other)?;
            left -= count as u64;
        }
        Ok(())
    }

    fn entry(&self, path: Vec<u8>, kind: EntryKind, stat: &Stat) -> Entry {
        let mut entry = Entry::new(path, kind);
        entry.mode = (stat.st_mode & 0o7777) as u16;
        entry.uid = self.owners.inside(stat.st_uid);
        entry.gid = self.owners.inside(stat.st_gid);
        entry.mtime = Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
        };
        entry
    }
}

/// The runs of data of a file with large holes, lseek(2); `None` for one that is better written as it reads.
fn segments(file: &mut File, stat: &Stat) -> std::io::Result<Option<Vec<Segment>>> {
    let (size, allocated) = (stat.st_size as u64, (stat.st_blocks as u64).saturating_mul(512));
    if size.saturating_sub(allocated) < MIN_HOLES {
        return Ok(None);
    }
    let (mut segments, mut offset) = (Vec::new(), 0);
    while offset < size && segments.len() < MAX_SEGMENTS {
        let begin = match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(begin) => begin,
            // No more data.
            Err(Errno::NXIO) => return Ok(Some(segments)),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*file, rustix::fs::SeekFrom::Hole(begin))?.min(size);
        if begin >= end {
            break;
        }
        segments.push(Segment {
            offset: begin,
            length: end - begin,
        });
        offset = end;
    }
    Ok((offset >= size).then_some(segments))
}
