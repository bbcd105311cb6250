//! Local files from an archive that a container made, and may have made to harm: everything is resolved beneath the
//! directory that was asked for, no link is followed, no device is made, and no program gets the rights of its owner
//! unless the owner is kept, too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod, fchown,
    futimens, linkat, mkdirat, mkfifoat, open, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar_stream::{Entry, EntryKind, Reader, Timestamp};

const PIECE: usize = 128 << 10;
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);
/// Directories that the archive implies and does not tell of.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes files of an archive.
pub(in crate::commands) struct Unpacker {
    folder: OwnedFd,
    /// The name that all entries begin with; none where the archive is of the content of a directory.
    old_name: Option<Vec<u8>>,
    /// The name in its place; none where the content goes into the folder itself.
    new_name: Option<Vec<u8>>,
    keep_owner: bool,
    directory_times: BTreeMap<Vec<Vec<u8>>, Timestamp>,
    warnings: Vec<String>,
}

impl Unpacker {
    /// Will unpack in `folder`, what the archive calls `old_name` as `new_name`.
    pub(in crate::commands) fn new(
        folder: &Path,
        old_name: &str,
        new_name: &str,
        keep_owner: bool,
    ) -> anyhow::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = open(folder, flags, Mode::empty());
        let named = |name: &str| (!matches!(name, "." | "/")).then(|| name.as_bytes().to_vec());
        Ok(Self {
            folder: opened.with_context(|| format!("cannot open the directory {}", folder.display()))?,
            old_name: named(old_name),
            new_name: named(new_name),
            keep_owner,
            directory_times: BTreeMap::new(),
            warnings: Vec::new(),
        })
    }

    /// Unpacks everything; what the user should know of it.
    pub(in crate::commands) fn unpack(mut self, input: impl Read) -> anyhow::Result<Vec<String>> {
        let mut archive = Reader::new(input);
        let mut buffer = vec![0; PIECE];
        while let Some(entry) = archive.next()? {
            let path = entry.path.escape_ascii().to_string();
            let names = self.local_names(&entry.path)?;
            let Some((name, above)) = names.split_last() else {
                continue;
            };
            let parent = self
                .parent(above)
                .with_context(|| format!("cannot open the directory of {path}"))?;
            let cannot = || format!("cannot make {path}");
            self.make_room(&entry, &parent, name, &path)?;
            match entry.kind {
                EntryKind::Regular => {
                    let file = make_file(&parent, name).with_context(cannot)?;
                    file.set_len(entry.size).with_context(cannot)?;
                    let mut content = archive.content(&entry);
                    while let Some((offset, bytes)) = content.next_data(&mut buffer).with_context(cannot)? {
                        file.write_all_at(bytes, offset).with_context(cannot)?;
                    }
                    self.describe(&entry, file.as_fd()).with_context(cannot)?;
                }
                EntryKind::Directory => {
                    let directory = make_directory(&parent, name).with_context(cannot)?;
                    self.describe(&entry, directory.as_fd()).with_context(cannot)?;
                    self.directory_times.insert(names, entry.mtime);
                }
                EntryKind::Symlink => {
                    symlinkat(entry.link.as_slice(), &parent, name.as_slice()).with_context(cannot)?;
                    self.describe_by_name(&entry, &parent, name)
                        .with_context(cannot)?;
                }
                EntryKind::HardLink => self.make_link(&entry, &parent, name).with_context(cannot)?,
                EntryKind::Fifo => {
                    let mode = Mode::from_raw_mode(u32::from(entry.mode & 0o777));
                    mkfifoat(&parent, name.as_slice(), mode).with_context(cannot)?;
                    self.describe_by_name(&entry, &parent, name)
                        .with_context(cannot)?;
                }
                EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => self
                    .warnings
                    .push(format!("{path} is a device, and devices are not copied")),
            }
        }
        self.set_directory_times()?;
        Ok(self.warnings)
    }

    /// Where an entry goes, relative to the folder.
    fn local_names(&self, path: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => bail!(
                    "the archive is refused: {} leads out of the destination",
                    path.escape_ascii()
                ),
                name => names.push(name.to_vec()),
            }
        }
        if let Some(old_name) = &self.old_name {
            if names.first() != Some(old_name) {
                bail!(
                    "the archive is refused: {} is not below {}",
                    path.escape_ascii(),
                    old_name.escape_ascii()
                );
            }
            names.remove(0);
        }
        names.splice(0..0, self.new_name.clone());
        Ok(names)
    }

    /// The directory with these names; what is missing of it is made.
    fn parent(&self, names: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let mut directory = openat(&self.folder, c".", DIRECTORY, Mode::empty())?;
        for name in names {
            directory = match openat(&directory, name.as_slice(), DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    mkdirat(&directory, name.as_slice(), IMPLIED_MODE)?;
                    openat(&directory, name.as_slice(), DIRECTORY, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    /// Takes away what is in the place of an entry, unless one is a directory and the other is not.
    fn make_room(&self, entry: &Entry, parent: &OwnedFd, name: &[u8], path: &str) -> anyhow::Result<()> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot look at {path}")),
        };
        let was_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match (was_directory, entry.kind == EntryKind::Directory) {
            (true, true) => Ok(()),
            (true, false) => bail!("cannot overwrite directory {path:?} with non-directory"),
            (false, true) => bail!("cannot overwrite non-directory {path:?} with directory"),
            (false, false) => {
                unlinkat(parent, name, AtFlags::empty()).with_context(|| format!("cannot replace {path}"))
            }
        }
    }

    fn make_link(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> anyhow::Result<()> {
        let names = self.local_names(&entry.link)?;
        let Some((target, above)) = names.split_last() else {
            bail!("it is a link to the destination itself");
        };
        let target_parent = self.parent(above)?;
        Ok(linkat(
            &target_parent,
            target.as_slice(),
            parent,
            name,
            AtFlags::empty(),
        )?)
    }

    /// Gives an open file or directory what the entry says of it.
    fn describe(&self, entry: &Entry, object: impl AsFd) -> io::Result<()> {
        if self.keep_owner {
            allow_for_root_only(fchown(&object, Some(uid(entry)), Some(gid(entry))))?;
        }
        let bits = if self.keep_owner { 0o7777 } else { 0o1777 };
        fchmod(&object, Mode::from_raw_mode(u32::from(entry.mode) & bits))?;
        Ok(futimens(&object, &times(entry.mtime))?)
    }

    /// Owner and time of what cannot be opened. Nothing is followed.
    fn describe_by_name(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.keep_owner {
            allow_for_root_only(chownat(parent, name, Some(uid(entry)), Some(gid(entry)), flags))?;
        }
        Ok(utimensat(parent, name, &times(entry.mtime), flags)?)
    }

    /// At the end, as what is made in a directory changes its time.
    fn set_directory_times(&mut self) -> anyhow::Result<()> {
        for (names, mtime) in std::mem::take(&mut self.directory_times).into_iter().rev() {
            let directory = self.parent(&names).context("cannot open a directory again")?;
            futimens(&directory, &times(mtime)).context("cannot set the times of a directory")?;
        }
        Ok(())
    }
}

fn make_file(parent: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(
        parent,
        name,
        flags,
        Mode::from_raw_mode(0o600),
    )?))
}

fn make_directory(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(openat(parent, name, DIRECTORY, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// Only root can give files away; what others copy is their own.
fn allow_for_root_only(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        result => Ok(result?),
    }
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn times(mtime: Timestamp) -> Timestamps {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tar_stream::{Device, Writer};

    use super::*;

    fn entry(path: &str, kind: EntryKind, link: &str) -> Entry {
        let mut entry = Entry::new(path, kind);
        entry.link = link.into();
        entry.mode = 0o6755;
        entry.mtime.seconds = 1_000_000_000;
        entry
    }

    fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in entries {
            let mut entry = entry.clone();
            entry.size = content.len() as u64;
            writer.begin(&entry).unwrap();
            writer.write(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    fn unpack(folder: &Path, entries: &[(Entry, &str)]) -> anyhow::Result<Vec<String>> {
        Unpacker::new(folder, "src", "dst", false)?.unpack(archive(entries).as_slice())
    }

    #[test]
    fn a_tree_is_unpacked_under_its_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let made = unpack(
            folder.path(),
            &[
                (entry("src/", EntryKind::Directory, ""), ""),
                (entry("src/a", EntryKind::Regular, ""), "hello"),
                (entry("src/b", EntryKind::HardLink, "src/a"), ""),
                (entry("src/c", EntryKind::Symlink, "/etc"), ""),
                (entry("src/d/e", EntryKind::Regular, ""), "deep"),
            ],
        );
        assert_eq!(made.unwrap(), Vec::<String>::new());
        let at = |name: &str| folder.path().join("dst").join(name);
        assert_eq!(fs::read_to_string(at("b")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(at("d/e")).unwrap(), "deep");
        assert_eq!(fs::read_link(at("c")).unwrap(), Path::new("/etc"));
        assert_eq!(fs::metadata(at("a")).unwrap().nlink(), 2);
        assert_eq!(fs::metadata(at("")).unwrap().mtime(), 1_000_000_000);
        assert_eq!(
            fs::metadata(at("a")).unwrap().permissions().mode() & 0o7777,
            0o755
        );
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let outside = tempfile::tempdir().unwrap();
        let link = outside.path().to_str().unwrap();
        for entries in [
            vec![(entry("src/../../x", EntryKind::Regular, ""), "x")],
            vec![(entry("other/x", EntryKind::Regular, ""), "x")],
            vec![
                (entry("src/l", EntryKind::Symlink, link), ""),
                (entry("src/l/x", EntryKind::Regular, ""), "x"),
            ],
            vec![(entry("src/x", EntryKind::HardLink, "src/../../etc/passwd"), "")],
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert!(unpack(folder.path(), &entries).is_err(), "{entries:?}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("precious"), "kept").unwrap();
        let entries = [
            (entry("src", EntryKind::Symlink, "precious"), ""),
            (entry("src", EntryKind::Regular, ""), "new"),
        ];
        unpack(folder.path(), &entries).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("precious")).unwrap(),
            "kept"
        );
        assert_eq!(fs::read_to_string(folder.path().join("dst")).unwrap(), "new");
    }

    #[test]
    fn a_directory_and_a_file_do_not_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dst")).unwrap();
        let file = [(entry("src", EntryKind::Regular, ""), "x")];
        let error = unpack(folder.path(), &file).unwrap_err().to_string();
        assert!(error.contains("cannot overwrite directory"), "{error}");
    }

    #[test]
    fn a_device_is_told_of_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let device = EntryKind::BlockDevice(Device { major: 8, minor: 0 });
        let warnings = unpack(folder.path(), &[(entry("src", device, ""), "")]).unwrap();
        assert!(warnings[0].contains("src is a device"), "{warnings:?}");
        assert!(!folder.path().join("dst").exists());
    }
}
