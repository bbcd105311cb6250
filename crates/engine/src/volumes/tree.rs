//! What guests have made in a volume, seen from the host: removed, and measured. It is anybody's: as deep as the file
//! system lets it be, and changed by a running guest meanwhile. No symbolic link is followed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// How many directories deep a tree is measured. Each costs a descriptor.
const MAX_DEPTH: usize = 256;

/// Removes a folder with all that is in it, which nobody changes any more. Directories are moved to the top before they
/// are emptied, so that no depth costs descriptors or memory.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let top = open(CWD, path)?;
    let mut moved = 0_u64;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            return fs::remove_dir(path);
        }
        for name in names {
            if let Some(directory) = take_away(&top, &name)? {
                for inner in self::names(&directory)? {
                    if take_away(&directory, &inner)?.is_none() {
                        continue;
                    }
                    loop {
                        moved += 1;
                        let free = format!(".{moved}");
                        match renameat(&directory, inner.as_c_str(), &top, &free) {
                            Ok(()) => break,
                            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                unlinkat(&top, name.as_c_str(), AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Unlinks what is no directory; a directory is opened.
fn take_away(parent: &OwnedFd, name: &CString) -> io::Result<Option<OwnedFd>> {
    match unlinkat(parent, name.as_c_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => Ok(Some(open(parent, name.as_c_str())?)),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes the files of a folder take, each counted for every name it has, as `du -l` does.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    let top = open(CWD, path)?;
    let mut levels = vec![(names(&top)?, top)];
    let mut bytes = 0_u64;
    while let Some((names, directory)) = levels.last_mut() {
        let Some(name) = names.pop() else {
            levels.pop();
            continue;
        };
        let stat = match statat(&*directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone meanwhile.
            Err(_) => continue,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if levels.len() < MAX_DEPTH => {
                let Some((_, directory)) = levels.last() else {
                    continue;
                };
                if let Ok(inner) = open(directory, name.as_c_str()) {
                    let names = self::names(&inner).unwrap_or_default();
                    levels.push((names, inner));
                }
            }
            FileType::RegularFile => {
                bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or_default());
            }
            _ => {}
        }
    }
    Ok(bytes)
}

/// Whether there is nothing in a folder.
pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_what_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let top = folder.path().join("top");
        fs::create_dir(&top).unwrap();
        fs::create_dir(top.join(".1")).unwrap();
        fs::write(top.join(".2"), "in the way").unwrap();
        let mut directory = open(CWD, &top).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&directory, "deep", Mode::RWXU).unwrap();
            directory = open(&directory, "deep").unwrap();
        }
        rustix::fs::symlinkat(&outside, &directory, "link").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn the_size_is_that_of_files_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/file"), "12345").unwrap();
        fs::write(folder.path().join("file"), "123").unwrap();
        symlink("/usr", folder.path().join("usr")).unwrap();
        assert_eq!(size(folder.path()).unwrap(), 8);
        assert!(!is_empty(folder.path()).unwrap());
    }
}
