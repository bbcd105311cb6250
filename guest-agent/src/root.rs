//! Paths of the container, resolved so that they cannot leave it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::{Errno, read};
use rustix::path::Arg;

use crate::os_error::{During, OsError};

/// The most that is read of a passwd or group file.
const MAX_FILE: usize = 4 << 20;

/// The root directory of the container. Symbolic links, however they are set up, are followed beneath it only, and the
/// magic ones of `/proc` not at all.
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// A descriptor that only refers to what is at `path`.
    pub(crate) fn find(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH, Mode::empty())
    }

    pub(crate) fn open(&self, path: impl Arg, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve)
    }

    /// The directory at `path`, which must be there.
    pub(crate) fn existing_directory(&self, path: &str) -> Result<OwnedFd, OsError> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .during("change the working directory to", path)
    }

    /// The directory at `path`; what is missing of it is made.
    pub(crate) fn directory(&self, path: &str) -> Result<OwnedFd, OsError> {
        self.make_directory(path).during("make the directory", path)
    }

    fn make_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let (parent, name) = split(path).ok_or(Errno::NOENT)?;
        let parent = self.make_directory(parent)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.open(path, flags, Mode::empty()),
            Err(error) => Err(error),
        }
    }

    /// The file at `path`; when there is none an empty one is made.
    pub(crate) fn file(&self, path: &str) -> Result<OwnedFd, OsError> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            result => return result.during("find", path),
        }
        let (parent, _) = split(path).ok_or(Errno::ISDIR).during("make the file", path)?;
        self.directory(parent)?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open(path, flags, Mode::from_raw_mode(0o644))
            .during("make the file", path)?;
        self.find(path).during("find", path)
    }

    /// The text of a regular file; nothing when there is no such file. What is not UTF-8 is replaced.
    pub(crate) fn text(&self, path: &str) -> Result<String, OsError> {
        self.read(path).during("read", path)
    }

    fn read(&self, path: &str) -> Result<String, Errno> {
        // Whatever else the container has put there, opening it must not wait.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open(path, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            result => result?,
        };
        let status = fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        if status.st_size > MAX_FILE as i64 {
            return Err(Errno::FBIG);
        }
        let mut bytes = vec![0; status.st_size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match read(&file, &mut bytes[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The path of the parent and the last name; `None` for the root itself.
fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (!name.is_empty()).then_some((if parent.is_empty() { "/" } else { parent }, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, open, symlinkat};
    use std::fs;
    use std::path::PathBuf;

    struct Rig {
        path: PathBuf,
        root: Root,
    }

    impl Rig {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("root-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("rootfs/etc")).unwrap();
            fs::write(path.join("secret"), "outside").unwrap();
            let directory = open(
                path.join("rootfs"),
                OFlags::PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .unwrap();
            Self {
                path,
                root: Root::new(directory),
            }
        }

        fn link(&self, target: &str, name: &str) {
            symlinkat(target, CWD, self.path.join("rootfs").join(name)).unwrap();
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    #[test]
    fn links_and_dots_stay_beneath_the_root() {
        let rig = Rig::new("links");
        fs::write(rig.path.join("rootfs/secret"), "inside").unwrap();
        rig.link("/secret", "etc/absolute");
        rig.link("../../../secret", "etc/upward");
        for path in ["/etc/absolute", "/etc/upward", "/../secret", "/etc/../../secret"] {
            assert_eq!(rig.root.text(path).unwrap(), "inside", "{path}");
        }
        rig.link("/proc/self/root", "magic");
        assert!(rig.root.find("/magic/etc").is_err());
    }

    #[test]
    fn missing_directories_are_made_where_the_links_lead() {
        let rig = Rig::new("make");
        fs::create_dir(rig.path.join("rootfs/real")).unwrap();
        rig.link("/real", "alias");
        rig.root.directory("/alias/a//b/").unwrap();
        assert!(rig.path.join("rootfs/real/a/b").is_dir());
        rig.root.file("/new/dir/file").unwrap();
        assert!(rig.path.join("rootfs/new/dir/file").is_file());
        rig.root.directory("/").unwrap();
    }

    #[test]
    fn a_link_into_nowhere_and_a_file_in_the_way_are_errors() {
        let rig = Rig::new("nowhere");
        rig.link("/nowhere", "dangling");
        assert!(rig.root.directory("/dangling").is_err());
        fs::write(rig.path.join("rootfs/file"), "").unwrap();
        assert!(rig.root.directory("/file/below").is_err());
    }

    #[test]
    fn only_regular_files_are_read() {
        let rig = Rig::new("read");
        assert_eq!(rig.root.text("/etc/passwd").unwrap(), "");
        rustix::fs::mknodat(
            CWD,
            rig.path.join("rootfs/etc/passwd"),
            FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        assert!(rig.root.text("/etc/passwd").is_err());
    }
}
