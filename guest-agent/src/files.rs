//! The files given to the container, such as `/etc/hosts`: in a file system in memory, which the agent keeps to itself.
//! The container has a mount of each file, so that new content shows in it at once.

use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::File;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchown, ftruncate, open, openat, unlinkat};
use rustix::io::{Errno, pwrite};

use crate::boot::make_directory;
use crate::mounts;
use crate::os_error::{During, OsError};
use crate::user_namespace::FIRST_ID;
use crate::view::HARMLESS;

/// Where the file system is, each file in it named by its index.
const FILES: &str = "/run/files";

/// Why files were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("cannot write {0}: the container was not given this file when it was created")]
    NotGiven(String),
}

/// All of them.
pub(crate) struct Files {
    /// Where they are.
    directory: OwnedFd,
    /// Where the container has them, in their order.
    targets: Vec<String>,
}

impl Files {
    /// Makes the place for them.
    pub(crate) fn boot() -> Result<Self, OsError> {
        make_directory(FILES)?;
        let memory = mounts::file_system("tmpfs", "size=16m,mode=0755", HARMLESS)?;
        let target = open(FILES, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", FILES)?;
        mounts::attach(&memory, &target).during("mount", FILES)?;
        Ok(Self::empty(memory))
    }

    fn empty(directory: OwnedFd) -> Self {
        Self {
            directory,
            targets: Vec::new(),
        }
    }

    /// Writes the files before there is a process of the container. In a user namespace their owners are those of it.
    pub(crate) fn give(&mut self, files: &[File], user_namespace: bool) -> Result<(), OsError> {
        let first = if user_namespace { FIRST_ID } else { 0 };
        self.take_back()?;
        for (index, file) in files.iter().enumerate() {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(file.mode & 0o7777);
            let fd = openat(&self.directory, index.to_string(), flags, mode)
                .during("make the file", &file.target)?;
            let (uid, gid) = (first.saturating_add(file.uid), first.saturating_add(file.gid));
            if (uid, gid) != (0, 0) {
                fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .during("change the owner of the file", &file.target)?;
            }
            set_content(&fd, &file.content).during("write the file", &file.target)?;
        }
        self.targets = files.iter().map(|file| file.target.clone()).collect();
        Ok(())
    }

    /// Deletes those that there are, when no process of the container is left.
    fn take_back(&mut self) -> Result<(), OsError> {
        for (index, target) in std::mem::take(&mut self.targets).iter().enumerate() {
            unlinkat(&self.directory, index.to_string(), AtFlags::empty())
                .during("delete the file", target)?;
        }
        Ok(())
    }

    /// Gives files other content; none if one of them is not there.
    pub(crate) fn replace(&self, files: &[File]) -> Result<(), FilesError> {
        let given: Vec<(OwnedFd, &File)> = files
            .iter()
            .map(|file| Ok((self.open(&file.target)?, file)))
            .collect::<Result<_, FilesError>>()?;
        for (fd, file) in given {
            set_content(&fd, &file.content).during("write the file", &file.target)?;
        }
        Ok(())
    }

    fn open(&self, target: &str) -> Result<OwnedFd, FilesError> {
        let index = self.targets.iter().rposition(|given| given == target);
        let index = index.ok_or_else(|| FilesError::NotGiven(target.to_owned()))?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(openat(&self.directory, index.to_string(), flags, Mode::empty())
            .during("open the file", target)?)
    }
}

/// A mount of each file, in their order, for a process in a mount namespace of its own that is a copy of the agent's.
pub(crate) fn bind_all(files: &[File]) -> Result<Vec<OwnedFd>, OsError> {
    let bind = |(index, file): (usize, &File)| {
        let path = format!("{FILES}/{index}");
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).during("open the file", &file.target)?;
        mounts::bind(&fd).during("bind the file", &file.target)
    };
    files.iter().enumerate().map(bind).collect()
}

/// Writes the file from its beginning and cuts off what is left of it: whoever reads meanwhile never sees an empty one.
fn set_content(file: impl AsFd, content: &[u8]) -> Result<(), Errno> {
    let mut written = 0;
    while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
        written += pwrite(&file, rest, written as u64)?;
    }
    ftruncate(&file, content.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;

    struct Rig {
        path: PathBuf,
        files: Files,
    }

    impl Rig {
        fn new(name: &str, given: &[File], user_namespace: bool) -> Self {
            let path = std::env::temp_dir().join(format!("files-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = open(&path, flags, Mode::empty()).unwrap();
            let mut files = Files::empty(directory);
            files.give(given, user_namespace).unwrap();
            Self { path, files }
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    fn file(target: &str, content: &str) -> File {
        File {
            target: target.into(),
            mode: 0o444,
            uid: 0,
            gid: 0,
            content: content.into(),
        }
    }

    #[test]
    fn who_has_a_file_open_reads_its_new_content() {
        let given = [
            file("/etc/hosts", "long content\n"),
            file("/etc/hostname", "box\n"),
        ];
        let rig = Rig::new("replace", &given, false);
        let mut hosts = fs::File::open(rig.path.join("0")).unwrap();
        for content in ["short\n", "", "longer than it was before\n"] {
            rig.files.replace(&[file("/etc/hosts", content)]).unwrap();
            let mut text = String::new();
            hosts.rewind().unwrap();
            hosts.read_to_string(&mut text).unwrap();
            assert_eq!(text, content);
        }
        let (opened, named) = (
            hosts.metadata().unwrap(),
            fs::metadata(rig.path.join("0")).unwrap(),
        );
        assert_eq!(opened.ino(), named.ino());
        assert_eq!(named.mode() & 0o7777, 0o444);
        assert_eq!(fs::read_to_string(rig.path.join("1")).unwrap(), "box\n");
    }

    #[test]
    fn a_file_that_was_not_given_is_refused_and_no_other_is_written() {
        let rig = Rig::new("unknown", &[file("/etc/hosts", "given\n")], false);
        let wanted = [
            file("/etc/hosts", "changed\n"),
            file("/etc/passwd", "root::0:0\n"),
        ];
        let error = rig.files.replace(&wanted).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot write /etc/passwd: the container was not given this file when it was created"
        );
        assert_eq!(fs::read_to_string(rig.path.join("0")).unwrap(), "given\n");
        assert_eq!(fs::read_dir(&rig.path).unwrap().count(), 1);
    }

    #[test]
    fn the_next_container_has_its_own_files_only() {
        let given = [
            file("/etc/hosts", "first\n"),
            file("/run/secrets/key", "secret\n"),
        ];
        let mut rig = Rig::new("again", &given, false);
        rig.files.give(&[file("/etc/hosts", "second\n")], false).unwrap();
        assert_eq!(fs::read_to_string(rig.path.join("0")).unwrap(), "second\n");
        assert_eq!(fs::read_dir(&rig.path).unwrap().count(), 1);
        assert!(rig.files.replace(&[file("/run/secrets/key", "")]).is_err());
    }

    #[test]
    fn files_for_a_user_namespace_belong_to_its_users() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root gives files away");
            return;
        }
        let own = File {
            uid: 33,
            gid: 34,
            ..file("/run/secrets/key", "given\n")
        };
        for (user_namespace, first) in [(true, FIRST_ID), (false, 0)] {
            let rig = Rig::new(
                "owner",
                &[file("/etc/hosts", "given\n"), own.clone()],
                user_namespace,
            );
            let owner = |name| {
                let made = fs::metadata(rig.path.join(name)).unwrap();
                (made.uid(), made.gid())
            };
            assert_eq!(owner("0"), (first, first));
            assert_eq!(owner("1"), (first + 33, first + 34));
        }
    }
}
