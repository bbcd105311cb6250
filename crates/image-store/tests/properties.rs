//! Whatever comes in: an answer or an error, never a panic, and every image that comes out is sound. What a
//! fuzzer would do, with seeds that reach behind the checksums, in every run of the tests.

mod fixture;

use erofs::{FileType, Reader};
use fixture::{Layout, Store, Tar, header};
use image_store::{Digest, Image, ImageConfiguration, ImageStore, Limits, Reference};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::json;
use std::fs::{self, File};
use tar::{EntryType, Header};

/// Every kind of entry that has code of its own.
fn archive() -> Vec<u8> {
    let long = "n".repeat(120);
    let mut sparse = Header::new_gnu();
    sparse.set_path("sparse").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_mode(0o644);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.set_mtime(0);
    sparse.set_size(600);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(5000);
    gnu.sparse[0].set_offset(512);
    gnu.sparse[0].set_length(600);
    Tar::new()
        .dir("dir/")
        .pax(&[
            ("mtime", b"-12345.678"),
            ("SCHILY.xattr.user.a", b"\n"),
            ("uid", b"70000"),
        ])
        .file("file", &[7; 700])
        .file("large", &[9; 9000])
        .entry(
            EntryType::GNULongName,
            "L",
            "",
            &[long.as_bytes(), b"\0"].concat(),
        )
        .hard_link("short", "file")
        .raw(sparse, &[8; 600])
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9999"),
        ])
        .file(
            "sparse10",
            &[b"1\n0\n5\n".as_slice(), &[0; 506], b"hello"].concat(),
        )
        .symlink("link", "dir")
        .device(EntryType::Char, "dir/null", 1, 3)
        .file("link/.wh.gone", b"")
        .file("dir/.wh..wh..opq", b"")
        .raw(header(EntryType::Fifo, "dir/pipe", "", 0), b"")
        .finish()
}

/// Makes every header's checksum right, so that damage reaches what lies behind the check.
fn repair_checksums(archive: &mut [u8]) {
    for block in archive.as_chunks_mut::<512>().0 {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block[257..262] == *b"ustar" {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}

fn damaged(bytes: &[u8], damage: &[(Index, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec((any::<Index>(), any::<u8>()), 1..6)
}

fn small_store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        image: erofs::Limits {
            image_bytes: 4 << 20,
            ..erofs::Limits::default()
        },
        ..Limits::default()
    };
    let store = ImageStore::open_with(dir.path(), limits).unwrap();
    Store { dir, store }
}

/// Reads everything in a layer's image, and has `fsck.erofs` do the same.
fn is_sound(image: &Image) {
    let path = &image.layers[0].path;
    fixture::fsck(path);
    let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
    let mut pending = vec![reader.root().unwrap()];
    while let Some(inode) = pending.pop() {
        match inode.file_type {
            FileType::Directory => {
                for entry in reader.read_dir(&inode).unwrap() {
                    pending.push(reader.inode(entry.nid).unwrap());
                }
            }
            FileType::Regular => drop(std::io::copy(&mut reader.file(&inode), &mut std::io::sink()).unwrap()),
            FileType::Symlink => drop(reader.read(&inode).unwrap()),
            _ => {}
        }
    }
}

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn every_image_of_a_damaged_archive_is_sound() {
    let (store, archive) = (small_store(), archive());
    is_sound(
        &store
            .store
            .import(archive.as_slice(), None, ImageConfiguration::default())
            .unwrap(),
    );
    run(300, &(damage(), any::<bool>()), |(damage, cut)| {
        let mut bytes = damaged(&archive, &damage);
        repair_checksums(&mut bytes);
        if cut {
            bytes.truncate(damage[0].0.index(bytes.len()));
        }
        let imported = store
            .store
            .import(bytes.as_slice(), None, ImageConfiguration::default());
        if let Ok(image) = imported {
            is_sound(&image);
        }
    });
    assert_eq!(store.store.check().unwrap().problems, []);
}

#[test]
fn a_damaged_manifest_or_configuration_is_an_error_or_an_image() {
    let layer = Tar::new().file("f", b"x").finish();
    let source = Layout::with_layers(std::slice::from_ref(&layer));
    let store = small_store();
    let image = store.store.import_oci_layout(source.path(), "a").unwrap();
    let manifest = store.store.manifest(&image).unwrap().bytes;
    let config = store.store.raw_config(&image).unwrap();
    run(300, &(damage(), any::<bool>()), |(damage, in_config)| {
        let layout = Layout::new();
        layout.blob(fixture::TAR, &layer);
        let manifest = if in_config {
            let config = damaged(&config, &damage);
            let digest = layout.blob(fixture::CONFIG, &config)["digest"]
                .as_str()
                .unwrap()
                .to_owned();
            String::from_utf8(manifest.clone())
                .unwrap()
                .replace(&image.id, &digest)
                .into_bytes()
        } else {
            layout.blob(fixture::CONFIG, &config);
            damaged(&manifest, &damage)
        };
        layout.index(&[layout.blob(fixture::MANIFEST, &manifest)]);
        if let Ok(image) = store.store.import_oci_layout(layout.path(), "b") {
            assert!(store.store.history(&image).is_ok());
            is_sound(&image);
        }
    });
    assert_eq!(store.store.check().unwrap().problems, []);
}

#[test]
fn a_damaged_saved_archive_is_an_error_or_images_and_leaves_nothing_else() {
    let from = small_store();
    let layout = Layout::with_layers(&[Tar::new().file("f", b"x").finish(), archive()]);
    from.store.import_oci_layout(layout.path(), "a").unwrap();
    let mut archive = Vec::new();
    from.store.save(&["a"], &mut archive).unwrap();
    let to = small_store();
    run(200, &(damage(), any::<bool>()), |(damage, repair)| {
        let mut bytes = damaged(&archive, &damage);
        if repair {
            repair_checksums(&mut bytes);
        }
        if to.store.load(bytes.as_slice()).is_err() && to.store.summaries().unwrap().is_empty() {
            assert_eq!(to.files(), [""; 0]);
        }
    });
    assert_eq!(to.store.check().unwrap().problems, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_reference_that_reads_back_or_an_error(text in "\\PC{0,40}|[a-zA-Z0-9./:@_-]{0,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().unwrap();
            prop_assert_eq!(again.to_string(), reference.to_string());
            let stored: Reference = reference.storage_name().parse().unwrap();
            prop_assert_eq!(stored.storage_name(), reference.storage_name());
        }
    }

    #[test]
    fn a_reference_of_parts_reads_back(
        domain in "([a-z0-9]{1,8}\\.){0,2}[a-z]{1,5}(:[0-9]{1,5})?",
        path in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let text = format!("{domain}/{path}:{tag}");
        let reference: Reference = text.parse().unwrap();
        prop_assert_eq!(reference.to_string(), text);
        let digest = Digest::of(path.as_bytes());
        let pinned = reference.with_digest(digest).storage_name();
        prop_assert_eq!(pinned.split_once('@').unwrap().1, digest.to_string());
    }
}

#[test]
fn documents_of_any_shape_are_survived() {
    let shapes = [
        json!(null),
        json!([]),
        json!({}),
        json!({ "layers": null, "config": null }),
        json!({ "schemaVersion": 1, "fsLayers": [] }),
        json!({ "schemaVersion": 2, "config": { "digest": "sha256:", "size": -1 }, "layers": [{}] }),
        json!("text"),
        json!(1e300),
    ];
    for shape in &shapes {
        let layout = Layout::new();
        layout.index(&[layout.document(fixture::MANIFEST, shape)]);
        fixture::refuse(&layout);
        for name in ["manifest.json", "index.json"] {
            let archive = Tar::new().file(name, shape.to_string().as_bytes()).finish();
            let store = small_store();
            assert!(store.store.load(archive.as_slice()).is_err(), "{name}: {shape}");
            assert_eq!(store.files(), [""; 0]);
        }
    }
    let nested = "[".repeat(100_000);
    let layout = Layout::new();
    fs::write(layout.path().join("index.json"), nested).unwrap();
    fixture::refuse(&layout);
}
