//! The files that clients mean by a path: this machine's, or, in a helper VM, those of the machine around it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// The tree that paths of clients are resolved in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    root: PathBuf,
}

impl Default for ClientFiles {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl ClientFiles {
    /// The tree beneath a folder. Nothing above the folder can be named, and its symbolic links, absolute ones too,
    /// are followed within it.
    pub fn beneath(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where this process finds what a client means by an absolute path, behind all symbolic links.
    pub(crate) fn find(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &self.root, folder, Mode::empty())?;
        let found = rustix::fs::openat2(
            &root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )?;
        fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
    }

    /// Makes the folders of an absolute path that are missing, and finds it.
    pub(crate) fn make_folder(&self, path: &Path) -> io::Result<PathBuf> {
        match self.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back())
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let made = self.make_folder(parent)?.join(name);
        match fs::create_dir(&made) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.find(path),
            created => created.map(|()| made),
        }
    }

    /// What clients call a path that was found.
    pub(crate) fn name(&self, found: &Path) -> PathBuf {
        match found.strip_prefix(&self.root) {
            Ok(relative) => Path::new("/").join(relative),
            Err(_) => found.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_the_other_machine_stay_within_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("srv/data")).unwrap();
        symlink("/srv", root.join("absolute")).unwrap();
        symlink("../../../../../../srv", root.join("srv/upwards")).unwrap();
        let files = ClientFiles::beneath(root.clone());
        for path in ["/srv/data", "/absolute/data", "/srv/upwards/data", "/../srv/data"] {
            let found = files.find(Path::new(path)).unwrap();
            assert_eq!(found, root.join("srv/data"), "{path}");
            assert_eq!(files.name(&found), Path::new("/srv/data"));
        }
        assert!(
            files.find(&root).is_err(),
            "its own path means nothing beneath it"
        );
    }

    #[test]
    fn missing_folders_are_made_behind_links_and_not_through_dangling_ones() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        symlink("/srv", root.join("absolute")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        let files = ClientFiles::beneath(root.clone());
        let made = files.make_folder(Path::new("/absolute/a/b")).unwrap();
        assert_eq!(made, root.join("srv/a/b"));
        assert!(made.is_dir());
        assert!(files.make_folder(Path::new("/dangling/x")).is_err());
        assert!(!root.join("nowhere").exists());
    }

    #[test]
    fn by_default_paths_are_this_machines() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let files = ClientFiles::default();
        assert_eq!(files.find(&root).unwrap(), root);
        assert_eq!(files.name(&root), root);
    }
}
