//! The image that hull brings along: made by its script, imported, examined.

mod fixture;

use erofs::FileType;
use fixture::{Store, content, find, names, open_layer};
use std::path::Path;
use std::process::Command;

/// Runs the script; `None`, said as SKIPPED, where busybox-static is not installed.
fn make(out: &Path) -> Option<()> {
    if !Path::new("/bin/busybox").exists() {
        eprintln!("SKIPPED: /bin/busybox is not installed (package busybox-static)");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rootfs/busybox-image.sh");
    let output = Command::new(script).arg(out).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}

#[test]
fn the_busybox_image_is_imported_whole() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("busybox");
    let Some(()) = make(&out) else { return };
    let store = Store::new();
    let image = store
        .store
        .import_oci_layout(&out, "localhost/busybox:latest")
        .unwrap();
    assert_eq!(store.store.resolve("busybox").unwrap(), image);
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
    assert!(config.env().as_ref().unwrap()[0].starts_with("PATH=/usr/local/sbin:"));

    let mut reader = open_layer(&image, 0);
    assert_eq!(
        names(&mut reader, "/"),
        [
            "bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"
        ]
    );
    let busybox = find(&mut reader, "bin/busybox");
    assert!(busybox.links > 200 && busybox.metadata.mode == 0o755);
    assert_eq!(find(&mut reader, "bin/sh"), busybox);
    assert_eq!(find(&mut reader, "usr/bin/env"), busybox);
    assert_eq!(
        content(&mut reader, "bin/busybox"),
        std::fs::read("/bin/busybox").unwrap()
    );
    let tmp = find(&mut reader, "tmp");
    assert_eq!((tmp.file_type, tmp.metadata.mode), (FileType::Directory, 0o1777));
    assert_eq!(find(&mut reader, "root").metadata.mode, 0o700);
    assert_eq!(find(&mut reader, "etc/passwd").metadata.uid, 0);
    assert!(content(&mut reader, "etc/passwd").starts_with(b"root:x:0:0:root:/root:/bin/sh\n"));
}

#[test]
fn the_script_makes_the_same_bytes_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    if let (Some(()), Some(())) = (make(&a), make(&b)) {
        assert_eq!(fixture::files_in(&a), fixture::files_in(&b));
        assert_eq!(
            std::fs::read(a.join("index.json")).unwrap(),
            std::fs::read(b.join("index.json")).unwrap()
        );
        assert_eq!(
            fixture::files_in(dir.path()).len(),
            10,
            "nothing but the two layouts is left"
        );
    }
}
