//! The helper VM's file systems: the host's files, and the data disk that outlives the VM.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, mount};

use super::{HOST_ROOT, HOST_TAG, STATE};

/// The VM's only disk.
const DISK: &str = "/dev/vda";
/// What is removed in the VM becomes a hole in the disk's file on the host.
const DISK_OPTIONS: &CStr = c"discard";
/// ext4's magic number, little endian at byte 0x38 of the superblock, which is at byte 1024.
/// Source: the kernel's Documentation/filesystems/ext4/super.rst.
const MAGIC_OFFSET: u64 = 1024 + 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];

/// A file system of the VM cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    /// The host's files are not to be had.
    #[error("cannot mount the host's files in the helper VM: {0}")]
    Host(io::Error),
    /// The disk cannot be read.
    #[error("cannot read the helper VM's disk {DISK}: {0}")]
    Disk(io::Error),
    /// The disk could not be formatted.
    #[error("cannot format the helper VM's disk: {0}")]
    Format(String),
    /// The disk is formatted but cannot be mounted.
    #[error(
        "cannot mount the helper VM's disk: {0}; if it is damaged, `hull machine rm` removes it with all that is on it"
    )]
    Mount(io::Error),
}

/// Mount both; a new disk is formatted first.
pub(super) fn mount_all(progress: &dyn Fn(String)) -> Result<(), StorageError> {
    mount_at(HOST_TAG, HOST_ROOT, "virtiofs", MountFlags::empty(), None).map_err(StorageError::Host)?;
    if !is_formatted(Path::new(DISK)).map_err(StorageError::Disk)? {
        progress("formatting the helper VM's data disk".to_owned());
        format()?;
    }
    mount_at(DISK, STATE, "ext4", MountFlags::NOATIME, Some(DISK_OPTIONS)).map_err(StorageError::Mount)
}

fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> io::Result<()> {
    fs::create_dir_all(target)?;
    Ok(mount(source, target, kind, flags, options)?)
}

fn is_formatted(disk: &Path) -> io::Result<bool> {
    let mut magic = [0; 2];
    File::open(disk)?.read_exact_at(&mut magic, MAGIC_OFFSET)?;
    Ok(magic == MAGIC)
}

/// The inode tables are left to be written when they are first used: the image stays sparse.
fn format() -> Result<(), StorageError> {
    let output = Command::new("mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "hull",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1",
            DISK,
        ])
        .output()
        .map_err(|e| StorageError::Format(format!("cannot run mke2fs: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(StorageError::Format(format!(
        "mke2fs ended with {}: {}",
        output.status,
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_formatted_when_it_has_ext4s_magic_number() {
        let tmp = tempfile::tempdir().unwrap();
        let disk = tmp.path().join("disk");
        File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        assert!(!is_formatted(&disk).unwrap());
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4"])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(made.success());
        assert!(is_formatted(&disk).unwrap());
        assert!(
            is_formatted(Path::new("/dev/null")).is_err(),
            "too short to hold a superblock"
        );
    }
}
