//! Opening what of a folder a guest gets, where that is not what its path means.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, open as open_path, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::{FolderSpec, Result, SandboxError};

/// The root of a folder; `None` where the VMM may open it by its path.
pub(crate) fn open(folder: &FolderSpec) -> Result<Option<OwnedFd>> {
    if folder.beneath.as_os_str().is_empty() && folder.recursive {
        return Ok(None);
    }
    let path = folder.path.join(&folder.beneath);
    let opened = find(folder).map_err(|errno| SandboxError::file("open", &path)(errno.into()))?;
    Ok(Some(opened))
}

fn find(folder: &FolderSpec) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut root = open_path(&folder.path, flags, Mode::empty())?;
    if !folder.beneath.as_os_str().is_empty() {
        // Guests write there: a link that one of them puts in must not lead out.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        root = openat2(&root, &folder.beneath, flags, Mode::empty(), resolve)?;
    }
    if !folder.recursive {
        // A mount of its own has nothing mounted in it.
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        root = open_tree(&root, c"", flags)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn spec(path: &std::path::Path, beneath: &str) -> FolderSpec {
        FolderSpec {
            name: "m0".into(),
            path: path.into(),
            beneath: beneath.into(),
            recursive: true,
            read_only: false,
        }
    }

    #[test]
    fn a_path_in_a_folder_is_found_and_no_link_leads_out_of_it() {
        let folder = std::env::temp_dir().join(format!("sandbox-shared-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        symlink("a", folder.join("inside")).unwrap();
        symlink("/", folder.join("outside")).unwrap();
        let inode = |beneath| {
            let opened = open(&spec(&folder, beneath)).unwrap().unwrap();
            rustix::fs::fstat(opened).unwrap().st_ino
        };
        let expected = fs::metadata(folder.join("a/b")).unwrap().ino();
        assert_eq!(inode("a/b"), expected);
        assert_eq!(inode("inside/b"), expected);
        assert!(open(&spec(&folder, "")).unwrap().is_none());
        for beneath in ["outside/etc", "missing"] {
            let error = open(&spec(&folder, beneath)).unwrap_err();
            assert!(error.to_string().contains(beneath), "{error}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
