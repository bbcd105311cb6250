//! A store hurt on disk is found, named and healed; a disk that fills up leaves nothing.

mod fixture;

use fixture::{Layout, Store, Tar, content, gzip, open_layer};
use image_store::{CheckReport, DamagedObject, Digest, ImageStore, NoUsers, StoreError};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two gzipped layers, the second with more than one block of data.
fn layout() -> Layout {
    let layout = Layout::new();
    let large: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let archives = [
        Tar::new().file("file", b"one").finish(),
        Tar::new()
            .file("large", &large)
            .file("holes", &vec![0; 1 << 20])
            .finish(),
    ];
    let diff_ids: Vec<Digest> = archives.iter().map(|archive| Digest::of(archive)).collect();
    let layers: Vec<Value> = archives
        .iter()
        .map(|archive| layout.blob(&format!("{}+gzip", fixture::TAR), &gzip(archive)))
        .collect();
    layout.index(&[layout.image_of(&layers, &diff_ids, "amd64")]);
    layout
}

fn objects(store: &Store) -> Vec<PathBuf> {
    let root = store.dir.path();
    store.files().iter().map(|name| root.join(name)).collect()
}

fn write(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, content).unwrap();
}

fn is_clean(report: &CheckReport) -> bool {
    report.problems.is_empty()
}

#[test]
fn every_turned_bit_is_found_named_taken_out_and_healed() {
    let layout = layout();
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "a").unwrap();
    let report = store.store.check().unwrap();
    assert!(is_clean(&report));
    assert_eq!((report.images, report.blobs, report.layers), (1, 4, 2));
    let files = objects(&store);
    assert_eq!(files.len(), 6);
    for path in &files {
        let sound = fs::read(path).unwrap();
        // The first byte, the last, and one in the middle of data.
        for at in [0, sound.len() / 3, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            write(path, &damaged);
            let report = store.store.check().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(report.problems.len(), 1, "{name} at {at}: {report:?}");
            let problem = &report.problems[0];
            assert_eq!(problem.images, ["localhost/a:latest"]);
            match problem.object {
                DamagedObject::Blob(digest) => assert_eq!(name, digest.hex()),
                DamagedObject::Layer(diff_id) => assert_eq!(name, format!("sha256-{}.erofs", diff_id.hex())),
                DamagedObject::Catalog => panic!("{report:?}"),
            }
            assert!(!path.exists());
            // It stays told until it is healed.
            let again = store.store.check().unwrap();
            assert_eq!(again.problems.len(), 1, "{again:?}");
            assert!(again.problems[0].what.contains("missing"));
            assert_eq!(store.store.import_oci_layout(layout.path(), "a").unwrap(), image);
            assert!(is_clean(&store.store.check().unwrap()), "{name} at {at}");
            assert!(fs::read(path).unwrap() == sound, "{name} is another one now");
        }
    }
}

#[test]
fn lost_and_cut_files_are_found() {
    let layout = layout();
    let store = Store::new();
    store.store.import_oci_layout(layout.path(), "a").unwrap();
    for path in objects(&store) {
        let sound = fs::read(&path).unwrap();
        write(&path, &sound[..sound.len() - 1]);
        assert_eq!(store.store.check().unwrap().problems.len(), 1);
        store.store.import_oci_layout(layout.path(), "a").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(store.store.check().unwrap().problems.len(), 1);
        store.store.import_oci_layout(layout.path(), "a").unwrap();
        assert!(is_clean(&store.store.check().unwrap()));
    }
}

#[test]
fn a_damaged_image_is_told_is_listed_and_can_be_removed() {
    let layout = layout();
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "a").unwrap();
    fs::remove_file(&image.layers[0].path).unwrap();
    store.store.check().unwrap();
    let error = store.store.resolve("a").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }));
    assert!(
        error.to_string().ends_with("is missing; pull or load it again"),
        "{error}"
    );
    assert!(
        !store
            .store
            .has_image(&image.manifest_digest.parse().unwrap())
            .unwrap()
    );
    assert_eq!(store.store.summaries().unwrap().len(), 1);
    store.store.remove("a", false, &NoUsers).unwrap();
    assert!(is_clean(&store.store.check().unwrap()));
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn a_catalog_that_says_something_else_than_the_manifests_is_found() {
    let layout = layout();
    let store = Store::new();
    store.store.import_oci_layout(layout.path(), "a").unwrap();
    let catalog = rusqlite::Connection::open(store.dir.path().join("catalog.db")).unwrap();
    catalog
        .execute("UPDATE image_layer SET position = 5 WHERE position = 0", [])
        .unwrap();
    let report = store.store.check().unwrap();
    assert!(
        report
            .problems
            .iter()
            .all(|problem| problem.object == DamagedObject::Catalog)
    );
    assert_eq!(report.problems.len(), 1);
}

/// A small file system of its own; `None`, said as SKIPPED, where that is not possible.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: no file system can be mounted here");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_is_told_and_nothing_is_left() {
    let Some(disk) = SmallDisk::new(4 << 20) else {
        return;
    };
    let store = ImageStore::open(disk.0.path()).unwrap();
    let small = Layout::with_layers(&[Tar::new().file("file", b"small").finish()]);
    let kept = store.import_oci_layout(small.path(), "small").unwrap();
    let random: Vec<u8> = (0..1_500_000u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        .collect();
    let big = Layout::with_layers(&[
        Tar::new().file("first", &random[..100_000]).finish(),
        Tar::new().file("large", &random).finish(),
    ]);
    let files = || {
        let mut files = fixture::files_in(disk.0.path());
        files.retain(|name| !name.starts_with("catalog."));
        files
    };
    let before = files();
    let error = store
        .import_oci_layout(big.path(), "big")
        .unwrap_err()
        .to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(files(), before);
    assert!(is_clean(&store.check().unwrap()));
    assert_eq!(store.summaries().unwrap().len(), 1);
    let mut archive = Vec::new();
    store.save(&["small"], &mut archive).unwrap();
    assert_eq!(store.load(archive.as_slice()).unwrap()[0].image.id, kept.id);
    assert_eq!(content(&mut open_layer(&kept, 0), "file"), b"small");
}

#[test]
fn the_catalog_survives_a_full_disk() {
    let Some(disk) = SmallDisk::new(1 << 20) else {
        return;
    };
    let store = ImageStore::open(disk.0.path()).unwrap();
    let mut failed = 0;
    for n in 0..200 {
        let layout = Layout::with_layers(&[Tar::new().file("file", n.to_string().as_bytes()).finish()]);
        match store.import_oci_layout(layout.path(), &format!("a:{n}")) {
            Ok(_) => {}
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 0, "the disk was never full");
    assert!(is_clean(&store.check().unwrap()));
    for image in store.summaries().unwrap() {
        store.remove(&image.id, true, &NoUsers).unwrap();
    }
    store.collect_garbage().unwrap();
    let layout = Layout::with_layers(&[Tar::new().file("file", b"again").finish()]);
    store.import_oci_layout(layout.path(), "again").unwrap();
    assert!(is_clean(&store.check().unwrap()));
}
