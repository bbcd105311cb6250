//! Any bytes as a layer's archive: an error that says why, or an image in which `fsck.erofs` finds no fault.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::process::Command;
use tar::Header;
use tempfile::NamedTempFile;

/// Small enough for `fsck.erofs` to read an image in little time, large enough for every layout of data.
const LIMITS: erofs::Limits = erofs::Limits {
    inodes: 2000,
    metadata_bytes: 1 << 20,
    image_bytes: 4 << 20,
};

thread_local! {
    static IMAGE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file"));
}

fuzz_target!(|archive: &[u8]| {
    convert(archive);
    let mut repaired = archive.to_vec();
    if repair_checksums(&mut repaired) {
        convert(&repaired);
    }
});

fn convert(archive: &[u8]) {
    IMAGE.with_borrow_mut(|image| {
        image.as_file().set_len(0).expect("an empty file");
        let summary = match image_store::fuzzing::convert_layer(archive, image.as_file(), LIMITS) {
            Ok(summary) => summary,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
        assert!(
            summary.size <= LIMITS.image_bytes && summary.inodes <= u64::from(LIMITS.inodes),
            "{summary:?}"
        );
        let length = image.as_file().metadata().expect("a length").len();
        assert_eq!(length, summary.size);
        let whole = erofs::checksum(&mut image.as_file(), [Ok(0..length)]).expect("a checksum");
        assert_eq!(whole, summary.checksum);
        fsck(image);
    });
}

/// Makes the checksum of every header right, so that what is behind the check is reached. Whether one was wrong.
fn repair_checksums(archive: &mut [u8]) -> bool {
    let mut changed = false;
    for block in archive.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            changed |= header.as_bytes() != block;
            block.copy_from_slice(header.as_bytes());
        }
    }
    changed
}

fn fsck(image: &NamedTempFile) {
    let mut command = Command::new("fsck.erofs");
    let output = command.arg("--extract").arg("-d2").arg(image.path()).output();
    let output = output.expect("fsck.erofs runs (Debian's package erofs-utils)");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && !said.contains("<E>"),
        "fsck.erofs: {}\n{said}",
        output.status
    );
}
