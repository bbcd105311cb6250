//! Writable disks: sparse ext4 files, copied from a template.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::folder::make_folder;
use crate::human_size::{self, Unit};
use crate::{EngineError, Result};

/// The length of a disk in bytes unless another is asked for; it takes only what is written.
const DISK_BYTES: u64 = 20 << 30;
/// The version of the template's options is in its name, so that a new one takes its place.
const TEMPLATE: &str = "ext4-20g-1.img";
/// Nothing that is written before a container writes: the tables and the journal are zeroed when they are used.
const MKE2FS: &[&str] = &[
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-J",
    "size=16",
    "-O",
    "^resize_inode",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
    "-L",
    "hull",
];
/// How much one copy_file_range(2) is asked for; the kernel does less.
const COPY: u64 = 1 << 30;

/// The least and the most that a disk may have: room for its journal, and what can be formatted in a moment.
const MIN_BYTES: u64 = 64 << 20;
const MAX_BYTES: u64 = 4 << 40;
/// The size of a block.
const BLOCK: u64 = 4096;

/// How large a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskSize {
    /// As the template is.
    Standard,
    /// This many bytes, a whole number of blocks.
    Bytes(u64),
}

impl DiskSize {
    /// The size that a container's options say.
    pub(crate) fn of(options: &BTreeMap<String, String>) -> Result<DiskSize> {
        let mut size = DiskSize::Standard;
        for (name, value) in options {
            if !name.eq_ignore_ascii_case("size") {
                return Err(EngineError::Invalid(format!("Unknown option {name}")));
            }
            let bytes = human_size::parse(value, Unit::Binary)
                .map_err(|error| EngineError::Invalid(error.to_string()))?;
            if !(MIN_BYTES..=MAX_BYTES).contains(&bytes) {
                return Err(EngineError::Invalid(format!(
                    "invalid storage size {value}: a container's disk has 64 MiB to 4 TiB"
                )));
            }
            size = DiskSize::Bytes(bytes / BLOCK * BLOCK);
        }
        Ok(size)
    }
}

/// Makes disks.
#[derive(Debug)]
pub(crate) struct Disks {
    folder: PathBuf,
    template: OnceLock<PathBuf>,
}

impl Disks {
    /// Disks from the template in this folder.
    pub(crate) fn new(folder: PathBuf) -> Disks {
        Disks {
            folder,
            template: OnceLock::new(),
        }
    }

    /// Makes a disk; leaves nothing behind if that fails. Waits for the file system. Answers what it takes while nothing
    /// is written to it, if that is not what the template takes.
    pub(crate) fn make(&self, path: &Path, size: DiskSize) -> Result<Option<u64>> {
        let made = match size {
            DiskSize::Standard => self.copy_template(path).map(|()| None),
            DiskSize::Bytes(bytes) => create(path, bytes)
                .map_err(EngineError::io("make the disk", path))
                .and_then(|_| mke2fs(path))
                .and_then(|()| taken(path).map(Some)),
        };
        made.inspect_err(|_| {
            // The error that is about to be told matters more than one from here.
            let _ = fs::remove_file(path);
        })
    }

    fn copy_template(&self, path: &Path) -> Result<()> {
        copy(self.template()?, path).map_err(EngineError::io("make the disk", path))
    }

    /// What was written to a disk, in bytes that it takes beyond those of a blank one.
    pub(crate) fn written(&self, disk: &Path, blank: Option<u64>) -> Result<u64> {
        let blank = match blank {
            Some(blank) => blank,
            None => taken(self.template()?)?,
        };
        Ok(taken(disk)?.saturating_sub(blank))
    }

    /// Makes the template if it is missing.
    pub(crate) fn template(&self) -> Result<&Path> {
        if let Some(template) = self.template.get() {
            return Ok(template);
        }
        let template = self.folder.join(TEMPLATE);
        if !template.exists() {
            make_folder(&self.folder)?;
            format(&self.folder, &template)?;
        }
        Ok(self.template.get_or_init(|| template))
    }
}

fn taken(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(EngineError::io("look at", path))?;
    // st_blocks counts in units of 512 bytes whatever the file system's are.
    Ok(metadata.blocks().saturating_mul(512))
}

fn format(folder: &Path, template: &Path) -> Result<()> {
    // Several may do this at once; the last rename stays, and all are alike.
    let new = folder.join(format!(".{TEMPLATE}-{:?}", std::thread::current().id()));
    let made = create(&new, DISK_BYTES)
        .map_err(EngineError::io("create", &new))
        .and_then(|_| mke2fs(&new));
    let made = made.and_then(|()| fs::rename(&new, template).map_err(EngineError::io("make", template)));
    if made.is_err() {
        // The error that is about to be told matters more than one from here.
        let _ = fs::remove_file(&new);
    }
    made
}

fn mke2fs(disk: &Path) -> Result<()> {
    let failed = |why: String| EngineError::Internal(format!("format {} with mke2fs: {why}", disk.display()));
    // It lies where a daemon's PATH may not look.
    let program = ["/usr/sbin/mke2fs", "/sbin/mke2fs"]
        .iter()
        .find(|path| Path::new(path).exists());
    let output = std::process::Command::new(program.unwrap_or(&"mke2fs"))
        .args(MKE2FS)
        .arg(disk)
        .output()
        .map_err(|error| failed(format!("{error}: install e2fsprogs")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

/// Copies what is in a sparse file and leaves its holes out; shares the blocks where the file system can.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = create(to, from.metadata()?.len())?;
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let mut position = 0;
    loop {
        let start = match seek(&from, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&from, SeekFrom::Hole(start))?;
        copy_extent(&from, &to, start, end)?;
        position = end;
    }
}

fn copy_extent(from: &File, to: &File, mut start: u64, end: u64) -> io::Result<()> {
    let mut written = start;
    while start < end {
        let length = (end - start).min(COPY) as usize;
        if copy_file_range(from, Some(&mut start), to, Some(&mut written), length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_data_and_the_holes_of_its_template() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = create(&from, DISK_BYTES).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(&vec![7; 100_000], 1 << 30).unwrap();
        copy(&from, &to).unwrap();
        let copied = File::open(&to).unwrap();
        assert_eq!(copied.metadata().unwrap().len(), DISK_BYTES);
        assert!(copied.metadata().unwrap().blocks() * 512 < 1 << 20);
        let mut bytes = vec![0; 100_000];
        copied.read_exact_at(&mut bytes, 1 << 30).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn disks_are_formatted_once_and_are_sound() {
        let folder = tempfile::tempdir().unwrap();
        let disks = Disks::new(folder.path().join("disks"));
        let disk = folder.path().join("disk");
        disks.make(&disk, DiskSize::Standard).unwrap();
        let made = fs::metadata(disks.template().unwrap()).unwrap().ino();
        disks
            .make(&folder.path().join("second"), DiskSize::Standard)
            .unwrap();
        let again = Disks::new(folder.path().join("disks"));
        assert_eq!(fs::metadata(again.template().unwrap()).unwrap().ino(), made);
        assert_eq!(fs::read_dir(folder.path().join("disks")).unwrap().count(), 1);
        assert!(fs::metadata(&disk).unwrap().blocks() * 512 < 4 << 20);
        assert_sound(&disk);
    }

    fn assert_sound(disk: &Path) {
        let check = std::process::Command::new("/sbin/e2fsck")
            .args(["-fn"])
            .arg(disk)
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
    }

    #[test]
    fn disks_of_any_size_are_sound_and_empty() {
        let folder = tempfile::tempdir().unwrap();
        let disks = Disks::new(folder.path().join("disks"));
        for bytes in [MIN_BYTES, 10 << 30, MAX_BYTES] {
            let disk = folder.path().join("disk");
            let blank = disks.make(&disk, DiskSize::Bytes(bytes)).unwrap();
            assert_eq!(fs::metadata(&disk).unwrap().len(), bytes);
            assert_eq!(disks.written(&disk, blank).unwrap(), 0);
            assert_sound(&disk);
            fs::remove_file(&disk).unwrap();
        }
        assert!(!folder.path().join("disks").exists(), "no template was needed");
    }

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        let of = |name: &str, value: &str| {
            DiskSize::of(&[(name.to_owned(), value.to_owned())].into()).map_err(|error| error.to_string())
        };
        assert_eq!(DiskSize::of(&BTreeMap::new()).unwrap(), DiskSize::Standard);
        assert_eq!(of("size", "10G"), Ok(DiskSize::Bytes(10 << 30)));
        assert_eq!(of("size", "100000001"), Ok(DiskSize::Bytes(99_999_744)));
        assert_eq!(of("colour", "red"), Err("Unknown option colour".into()));
        assert_eq!(of("size", "huge"), Err("invalid size: 'huge'".into()));
        for size in ["1m", "0", "5t"] {
            let error = of("size", size).unwrap_err();
            assert!(error.contains("64 MiB to 4 TiB"), "{error}");
        }
    }

    #[test]
    fn a_disk_that_cannot_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let disks = Disks::new(folder.path().join("disks"));
        for size in [DiskSize::Standard, DiskSize::Bytes(MIN_BYTES)] {
            let error = disks.make(Path::new("/nonexistent/disk"), size).unwrap_err();
            assert!(error.to_string().contains("/nonexistent/disk"), "{error}");
        }
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(Disks::new(folder.path().join("file/disks")).template().is_err());
    }
}
