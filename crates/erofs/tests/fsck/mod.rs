//! The independent judge: `fsck.erofs` of erofs-utils.

use std::path::Path;
use std::process::Command;

/// Fails the test when `fsck.erofs` finds fault with the image, its data included. Says SKIPPED when the
/// program is not installed.
pub(crate) fn check(image: &Path) {
    let output = match Command::new("fsck.erofs")
        .arg("--extract")
        .arg("-d9")
        .arg(image)
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: fsck.erofs is not installed (package erofs-utils)");
            return;
        }
        Err(error) => panic!("cannot run fsck.erofs: {error}"),
    };
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success(), "fsck.erofs: {}\n{text}", output.status);
    assert!(!text.contains("<E>"), "fsck.erofs complains:\n{text}");
}
