//! From an archive to files: `cp` into the container. The archive is anybody's, and so is the tree it goes into.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use guest_protocol::{ContainerSpec, MountSource, UnpackSpec};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fchmod, fchown, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;
use tar_stream::{Content, Entry, EntryKind, Reader, Timestamp};

use super::owners::Owners;
use super::remove::remove_all;
use super::{Result, TaskError, inspect, text, xattrs};
use crate::os_error::{During, OsError};
use crate::root::Root;
use crate::user::{self, Identity};

/// Bytes that are read of the archive and written to a file at once.
const PIECE: usize = 128 * 1024;
/// Directories that an archive implies and does not tell of.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);

/// Answers [`guest_protocol::Task::Write`].
pub(super) fn unpack(container: &ContainerSpec, root: &Root, spec: &UnpackSpec, input: File) -> Result<()> {
    let destination = destination(container, root, &spec.path)?;
    let owner = match &spec.owner {
        Some(owner) => Some(user::resolve(
            owner,
            &[],
            &root.text("/etc/passwd")?,
            &root.text("/etc/group")?,
        )?),
        None => None,
    };
    unpack_with(
        Unpacker {
            root,
            destination,
            keep_kinds: spec.keep_kinds,
            owner,
            owners: Owners::of(container),
            parent: None,
            directory_times: BTreeMap::new(),
            buffer: vec![0; PIECE],
        },
        input,
    )
}

/// Unpacks an archive at the top of a tree; what is there already is replaced.
pub(super) fn unpack_whole(container: &ContainerSpec, root: &Root, input: File) -> Result<()> {
    unpack_with(
        Unpacker {
            root,
            destination: String::new(),
            keep_kinds: false,
            owner: None,
            owners: Owners::of(container),
            parent: None,
            directory_times: BTreeMap::new(),
            buffer: vec![0; PIECE],
        },
        input,
    )
}

fn unpack_with(mut unpacker: Unpacker<'_>, input: File) -> Result<()> {
    let mut input = BufReader::with_capacity(PIECE, input);
    if let Some(compression) = compression(&mut input) {
        return Err(TaskError::Compressed(compression));
    }
    let mut archive = Reader::new(&mut input);
    while let Some(entry) = archive.next()? {
        unpacker.add(&entry, archive.content(&entry))?;
    }
    unpacker.finish()?;
    drain(&mut input, &mut unpacker.buffer);
    Ok(())
}

/// The compression of an archive, by its first bytes: a tar header begins with a name, and these are none.
fn compression(input: &mut impl BufRead) -> Option<&'static str> {
    // What cannot be read is told when it is read.
    match input.fill_buf().ok()? {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// Reads what stands behind the end mark: who sends it is not to find the pipe broken.
fn drain(input: &mut impl Read, buffer: &mut [u8]) {
    while matches!(input.read(buffer), Ok(1..)) {}
}

/// The directory to unpack into, without links.
fn destination(container: &ContainerSpec, root: &Root, path: &str) -> Result<String> {
    let stat = match root.find(path) {
        Err(Errno::NOENT) => return Err(TaskError::NotFound(path.into())),
        Err(Errno::NOTDIR) => return Err(TaskError::NotDirectory),
        found => rustix::fs::fstat(found.during("find", path)?).during("look at", path)?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(TaskError::NotDirectory);
    }
    let resolved = inspect::resolve(root, path)?;
    let is_below = |target: &str| {
        let rest = resolved.strip_prefix(target.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let volumes = container
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Shared { .. }));
    match volumes
        .filter(|mount| is_below(&mount.target))
        .max_by_key(|mount| mount.target.len())
    {
        Some(volume) if volume.read_only => Err(TaskError::ReadOnlyVolume),
        None if container.rootfs.read_only => Err(TaskError::ReadOnlyRoot),
        _ => Ok(resolved),
    }
}

/// Makes files of entries.
struct Unpacker<'a> {
    root: &'a Root,
    destination: String,
    keep_kinds: bool,
    /// Who everything belongs to, if not who the archive says.
    owner: Option<Identity>,
    owners: Owners,
    /// The directory of the last entry: the next one is often in the same.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Set at the end, as what is made in a directory changes its time.
    directory_times: BTreeMap<Vec<u8>, Timestamp>,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Target<'a> {
    parent: &'a OwnedFd,
    name: &'a [u8],
    path: String,
}

impl Target<'_> {
    fn during<T>(&self, action: &'static str, result: Result<T, Errno>) -> Result<T, OsError> {
        result.during(action, self.path.as_str())
    }

    fn stat(&self) -> Result<Option<Stat>> {
        match statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Ok(self.during("look at", Err(error))?),
        }
    }
}

impl Unpacker<'_> {
    fn add<R: Read>(&mut self, entry: &Entry, content: Content<'_, R>) -> Result<()> {
        let names = self.clean(&entry.path)?;
        let Some((name, above)) = names.split_last() else {
            // The destination itself, which stays what it is.
            return Ok(());
        };
        let parent = self.open_parent(above.join(&b'/'))?;
        let target = Target {
            parent: &parent.1,
            name,
            path: text(&names.join(&b'/')),
        };
        let is_there = self.make_room(entry, &target)?;
        let made = match entry.kind {
            EntryKind::Directory => self.make_directory(entry, &target, is_there),
            EntryKind::Regular => self.make_file(entry, &target, content),
            EntryKind::HardLink => self.make_link(entry, &target),
            EntryKind::Symlink => self.make_symlink(entry, &target),
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) | EntryKind::Fifo => {
                self.make_node(entry, &target)
            }
        };
        if entry.kind == EntryKind::Directory {
            self.directory_times.insert(names.join(&b'/'), entry.mtime);
        }
        self.parent = Some(parent);
        made
    }

    /// Sets the times of directories, those below before those above.
    fn finish(&mut self) -> Result<()> {
        for (path, mtime) in std::mem::take(&mut self.directory_times).into_iter().rev() {
            let full = self.below(&path);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            match self.root.open(full.as_slice(), flags, Mode::empty()) {
                Ok(directory) => {
                    futimens(&directory, &times(mtime)).during("set the times of", text(&full))?
                }
                // Replaced by a later entry, or by the container.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error).during("open", text(&full))?,
            }
        }
        Ok(())
    }

    /// The names of a path, `.` and `..` carried out on the text as Docker does, before anything is looked up.
    fn clean<'b>(&self, path: &'b [u8]) -> Result<Vec<&'b [u8]>> {
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop().ok_or_else(|| TaskError::Outside {
                        path: text(path),
                        destination: self.destination.clone(),
                    })?;
                }
                name => names.push(name),
            }
        }
        Ok(names)
    }

    fn below(&self, path: &[u8]) -> Vec<u8> {
        [self.destination.as_bytes(), b"/", path].concat()
    }

    /// The directory at a path below the destination. Links in it lead wherever they lead within the container's root.
    fn open_parent(&mut self, path: Vec<u8>) -> Result<(Vec<u8>, OwnedFd)> {
        if let Some(parent) = self.parent.take_if(|(known, _)| *known == path) {
            return Ok(parent);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let full = self.below(&path);
        let opened = match self.root.open(full.as_slice(), flags, Mode::empty()) {
            Err(Errno::NOENT) => self.make_implied(&full),
            opened => opened,
        };
        let directory = opened.during("open the directory", text(&full))?;
        Ok((path, directory))
    }

    /// Makes the directories of a path that are missing.
    fn make_implied(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let names: Vec<&[u8]> = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        let mut directory = self.root.open("/", flags, Mode::empty())?;
        for count in 1..=names.len() {
            let below = names[..count].join(&b'/');
            directory = match self.root.open(below.as_slice(), flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    mkdirat(&directory, names[count - 1], IMPLIED_MODE)?;
                    let (uid, gid) = self.implied_owner();
                    chownat(&directory, names[count - 1], uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                    self.root.open(below.as_slice(), flags, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    fn implied_owner(&self) -> (Option<Uid>, Option<Gid>) {
        let root = self.owners.outside(0).unwrap_or(0);
        (Some(Uid::from_raw(root)), Some(Gid::from_raw(root)))
    }

    /// Takes away what is in the place of an entry; whether a directory stays that the entry describes.
    fn make_room(&self, entry: &Entry, target: &Target<'_>) -> Result<bool> {
        let Some(stat) = target.stat()? else {
            return Ok(false);
        };
        let was_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_directory = entry.kind == EntryKind::Directory;
        if was_directory && is_directory {
            return Ok(true);
        }
        if self.keep_kinds && was_directory != is_directory {
            let word = |directory| if directory { "directory" } else { "non-directory" };
            return Err(TaskError::Kind {
                path: target.path.clone(),
                old: word(was_directory),
                new: word(is_directory),
            });
        }
        remove_all(target.parent, target.name)?;
        Ok(false)
    }

    fn make_directory(&self, entry: &Entry, target: &Target<'_>, is_there: bool) -> Result<()> {
        if !is_there {
            target.during(
                "make the directory",
                mkdirat(target.parent, target.name, Mode::from_raw_mode(0o700)),
            )?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(target.parent, target.name, flags, Mode::empty());
        self.describe(entry, target, target.during("open", directory)?)
    }

    fn make_file<R: Read>(
        &mut self,
        entry: &Entry,
        target: &Target<'_>,
        mut content: Content<'_, R>,
    ) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(target.parent, target.name, flags, Mode::from_raw_mode(0o600));
        let file = File::from(target.during("make the file", opened)?);
        // The size first: what is no data is a hole then.
        target.during("set the size of", ftruncate(&file, entry.size))?;
        let failed = |source| TaskError::Write {
            path: target.path.clone(),
            source,
        };
        while let Some((offset, bytes)) = content.next_data(&mut self.buffer).map_err(failed)? {
            // Zeros are what is there already: those of an archive that knows no holes take no room.
            if bytes.iter().any(|byte| *byte != 0) {
                file.write_all_at(bytes, offset).map_err(failed)?;
            }
        }
        self.describe(entry, target, OwnedFd::from(file))
    }

    /// Gives an open file or directory what the entry says of it.
    fn describe(&self, entry: &Entry, target: &Target<'_>, object: OwnedFd) -> Result<()> {
        let (uid, gid) = self.owner_of(entry)?;
        target.during("change the owner of", fchown(&object, Some(uid), Some(gid)))?;
        let mode = Mode::from_raw_mode(entry.mode.into());
        target.during("change the mode of", fchmod(&object, mode))?;
        // After the owner, whose change takes file capabilities away.
        target.during("set attributes of", xattrs::write(&object, &entry.xattrs))?;
        Ok(target.during("set the times of", futimens(&object, &times(entry.mtime)))?)
    }

    fn make_link(&mut self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        let names = self.clean(&entry.link)?;
        let Some((name, above)) = names.split_last() else {
            return Ok(target.during("link to the directory above", Err(Errno::PERM))?);
        };
        let full = self.below(&above.join(&b'/'));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = self.root.open(full.as_slice(), flags, Mode::empty());
        let parent = parent.during("open the directory", text(&full))?;
        let linked = linkat(&parent, *name, target.parent, target.name, AtFlags::empty());
        Ok(target.during("make the link", linked)?)
    }

    fn make_symlink(&self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        let made = symlinkat(entry.link.as_slice(), target.parent, target.name);
        target.during("make the symbolic link", made)?;
        self.describe_by_name(entry, target)
    }

    fn make_node(&self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        let (kind, device) = match entry.kind {
            EntryKind::CharDevice(device) => (FileType::CharacterDevice, makedev(device.major, device.minor)),
            EntryKind::BlockDevice(device) => (FileType::BlockDevice, makedev(device.major, device.minor)),
            _ => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(entry.mode.into());
        let made = mknodat(target.parent, target.name, kind, mode, device);
        target.during("make the device", made)?;
        self.describe_by_name(entry, target)?;
        // The change of the owner has taken set-id bits away.
        let changed = chmodat(target.parent, target.name, mode, AtFlags::empty());
        Ok(target.during("change the mode of", changed)?)
    }

    /// Owner and time of what cannot be opened. Nothing is followed.
    fn describe_by_name(&self, entry: &Entry, target: &Target<'_>) -> Result<()> {
        let (uid, gid) = self.owner_of(entry)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let owned = chownat(target.parent, target.name, Some(uid), Some(gid), flags);
        target.during("change the owner of", owned)?;
        let timed = utimensat(target.parent, target.name, &times(entry.mtime), flags);
        Ok(target.during("set the times of", timed)?)
    }

    fn owner_of(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        let (uid, gid) = match &self.owner {
            Some(identity) => (identity.uid, identity.gid),
            None => (entry.uid, entry.gid),
        };
        Ok((
            Uid::from_raw(self.owners.outside(uid)?),
            Gid::from_raw(self.owners.outside(gid)?),
        ))
    }
}

pub(super) fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanoseconds.into(),
        },
    }
}
