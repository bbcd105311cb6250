//! The host's files as the helper VM's processes name them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// What `path` leads to on the host, as a path of the VM: a symbolic link there, an absolute one too, means another file of the
/// host. `None` when it leads nowhere.
pub(super) fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let follow = || -> io::Result<PathBuf> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, folder, Mode::empty())?;
        let found = openat2(
            &root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&found);
        std::fs::read_link(format!("/proc/self/fd/{fd}"))
    };
    follow().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_absolute_link_leads_to_a_file_below_the_root() {
        let tmp = tempfile::tempdir().unwrap();
        // The path as the kernel tells it, should the folder for temporary files be reached by a link.
        let root = tmp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("etc/trust")).unwrap();
        std::fs::write(root.join("etc/trust/bundle.pem"), "x").unwrap();
        symlink("/etc/trust/bundle.pem", root.join("etc/bundle.crt")).unwrap();
        let found = resolve(&root, Path::new("/etc/bundle.crt"));
        assert_eq!(found, Some(root.join("etc/trust/bundle.pem")));
        assert_eq!(resolve(&root, Path::new("/etc/missing")), None);
        let above = resolve(&root, Path::new("/../../etc/trust"));
        assert_eq!(above, Some(root.join("etc/trust")));
    }
}
