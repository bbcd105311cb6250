//! Importing layouts: what is accepted, what is refused and with which words.

mod fixture;

use fixture::{
    INDEX, Layout, MANIFEST, Store, TAR, Tar, content, gzip, open_layer, refuse, with_name, with_platform,
};
use image_store::{Digest, ImageStore, Limits};
use serde_json::json;
use std::fs;

fn archive(content: &str) -> Vec<u8> {
    Tar::new().file("file", content.as_bytes()).finish()
}

#[test]
fn an_image_is_there_with_all_that_belongs_to_it() {
    let archives = [archive("one"), archive("two")];
    let layout = Layout::with_layers(&archives);
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "busybox").unwrap();
    assert_eq!(image.references, ["localhost/busybox:latest"]);
    assert_eq!(image.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(
        image.config.config().as_ref().unwrap().cmd().as_deref(),
        Some(&["sh".to_owned()][..])
    );
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[0].diff_id, Digest::of(&archives[0]).to_string());
    assert_eq!(content(&mut open_layer(&image, 1), "file"), b"two");
    assert_eq!(image.size, "one".len() as u64 + "two".len() as u64);
    assert_eq!(store.files().len(), 4 + 2, "{:?}", store.files());
}

#[test]
fn gzip_zstd_and_plain_layers_of_one_archive_are_one_layer() {
    let archive = archive("same");
    let zstd = zstd::encode_all(archive.as_slice(), 3).unwrap();
    let store = Store::new();
    let mut layers = Vec::new();
    for (name, media_type, bytes) in [
        ("plain", TAR.to_owned(), archive.clone()),
        ("gzip", format!("{TAR}+gzip"), gzip(&archive)),
        ("zstd", format!("{TAR}+zstd"), zstd),
        (
            "docker",
            "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
            gzip(&archive),
        ),
    ] {
        let layout = Layout::new();
        let layer = layout.blob(&media_type, &bytes);
        layout.index(&[layout.image_of(&[layer], &[Digest::of(&archive)], "amd64")]);
        layers.push(store.store.import_oci_layout(layout.path(), name).unwrap().layers);
    }
    assert!(layers.iter().all(|layer| *layer == layers[0]));
    assert_eq!(fs::read_dir(store.dir.path().join("layers")).unwrap().count(), 1);
    assert_eq!(
        store.store.list().unwrap().len(),
        1,
        "one configuration, one image"
    );
}

#[test]
fn importing_again_is_cheap_and_changes_nothing() {
    let layout = Layout::with_layers(&[archive("one")]);
    let store = Store::new();
    let first = store.store.import_oci_layout(layout.path(), "a").unwrap();
    let state = || {
        let log = fs::read(store.dir.path().join("catalog.db-wal")).unwrap();
        (store.files(), log)
    };
    let before = state();
    // Without the blobs nothing but the index can have been read.
    fs::remove_dir_all(layout.path().join("blobs")).unwrap();
    assert_eq!(store.store.import_oci_layout(layout.path(), "a").unwrap(), first);
    assert!(state() == before, "something was written");
}

#[test]
fn a_second_import_repairs_what_was_lost_or_cut() {
    let layout = Layout::with_layers(&[archive("one"), archive("two")]);
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "a").unwrap();
    fs::remove_file(&image.layers[0].path).unwrap();
    let cut = fs::read(&image.layers[1].path).unwrap();
    fs::remove_file(&image.layers[1].path).unwrap();
    fs::write(&image.layers[1].path, &cut[..4096]).unwrap();
    let config = store.dir.path().join("blobs/sha256").join(&image.id[7..]);
    fs::remove_file(&config).unwrap();
    fs::write(&config, b"{}").unwrap();
    assert!(
        store
            .store
            .resolve("a")
            .unwrap_err()
            .to_string()
            .contains("is damaged")
    );
    assert_eq!(store.store.import_oci_layout(layout.path(), "a").unwrap(), image);
    assert_eq!(content(&mut open_layer(&image, 0), "file"), b"one");
    assert_eq!(content(&mut open_layer(&image, 1), "file"), b"two");
}

#[test]
fn a_nested_index_leads_to_the_image_for_this_machine() {
    let layout = Layout::new();
    let arm = with_platform(layout.image(&[archive("arm")]), "linux", "arm64");
    let amd = with_platform(layout.image(&[archive("amd")]), "linux", "amd64");
    let attestation = with_platform(layout.image(&[archive("x")]), "unknown", "unknown");
    let nested = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, amd, attestation] });
    layout.index(&[layout.document(INDEX, &nested)]);
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "a").unwrap();
    assert_eq!(content(&mut open_layer(&image, 0), "file"), b"amd");
}

#[test]
fn of_several_images_the_named_one_is_taken() {
    let layout = Layout::new();
    let one = with_name(layout.image(&[archive("one")]), "localhost/a:1");
    let two = with_name(layout.image(&[archive("two")]), "2");
    let hub = with_name(layout.image(&[archive("hub")]), "docker.io/library/c:latest");
    layout.index(&[one, two, hub]);
    let store = Store::new();
    for (name, expected) in [("a:1", "one"), ("b:2", "two"), ("c", "hub")] {
        let image = store.store.import_oci_layout(layout.path(), name).unwrap();
        assert_eq!(content(&mut open_layer(&image, 0), "file"), expected.as_bytes());
    }
    let error = store
        .store
        .import_oci_layout(layout.path(), "d")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none is named `d:latest`; it has: localhost/a:1, 2"),
        "{error}"
    );
}

#[test]
fn a_directory_that_is_no_layout_is_refused() {
    let store = Store::new();
    let error = store
        .store
        .import_oci_layout("/nonexistent".as_ref(), "a")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot open the OCI layout /nonexistent: No such file"),
        "{error}"
    );
    let layout = Layout::with_layers(&[archive("one")]);
    fs::remove_file(layout.path().join("oci-layout")).unwrap();
    assert!(refuse(&layout).contains("oci-layout is missing"));
    layout.write("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#);
    assert!(refuse(&layout).contains("has version `2.0.0`"));
    layout.write("oci-layout", b"nonsense");
    assert!(refuse(&layout).contains("oci-layout of the OCI layout"));
}

#[test]
fn missing_files_are_named() {
    let layout = Layout::with_layers(&[archive("one")]);
    for entry in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let message = refuse(&layout);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            message.contains(&format!("blobs/sha256/{name} is missing")),
            "{message}"
        );
        fs::write(&path, content).unwrap();
    }
    fs::remove_file(layout.path().join("index.json")).unwrap();
    assert!(refuse(&layout).contains("index.json is missing"));
}

#[test]
fn changed_cut_and_grown_blobs_are_refused() {
    let layout = Layout::with_layers(&[archive("first"), archive("one")]);
    for entry in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let mut changed = content.clone();
        changed[content.len() / 2] ^= 1;
        let grown = [content.as_slice(), b"x"].concat();
        for (bad, expected) in [
            (changed.as_slice(), "is damaged: its content has the digest"),
            (&content[..content.len() - 1], "but its descriptor says"),
            (&grown, "has more than"),
        ] {
            fs::write(&path, bad).unwrap();
            let message = refuse(&layout);
            assert!(
                message.contains(expected) && message.contains("blob sha256:"),
                "{message}"
            );
        }
        fs::write(&path, content).unwrap();
    }
}

#[test]
fn malformed_documents_are_refused() {
    let layout = Layout::with_layers(&[archive("one")]);
    layout.write("index.json", b"{");
    assert!(refuse(&layout).contains("index.json of the OCI layout"));
    layout.index(&[layout.blob(MANIFEST, b"[]")]);
    assert!(refuse(&layout).contains("manifest sha256:"));
    let manifest = json!({ "schemaVersion": 2, "config": layout.blob(fixture::CONFIG, b"7"), "layers": [] });
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    assert!(refuse(&layout).contains("configuration sha256:"));
    let mut large = layout.image(&[]);
    large["size"] = json!(1u64 << 40);
    layout.index(&[large]);
    assert!(refuse(&layout).contains("has 1099511627776 bytes"));
    layout.index(&[layout.blob("text/plain", b"hello")]);
    assert!(refuse(&layout).contains("the media type `text/plain`, which is no image"));
    let sha512 = format!("sha512:{}", "0".repeat(128));
    layout.index(&[json!({ "mediaType": MANIFEST, "digest": sha512, "size": 1 })]);
    assert!(refuse(&layout).contains("is not a digest that can be checked"));
    let path = format!("sha256:../../{}", "0".repeat(58));
    layout.index(&[json!({ "mediaType": MANIFEST, "digest": path, "size": 1 })]);
    assert!(refuse(&layout).contains("index.json"));
}

#[test]
fn an_index_within_itself_ends() {
    let layout = Layout::new();
    let mut descriptor = layout.image(&[]);
    for _ in 0..8 {
        descriptor = layout.document(
            INDEX,
            &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] }),
        );
    }
    layout.index(&[descriptor]);
    assert!(refuse(&layout).contains("nested"));
}

#[test]
fn images_for_other_machines_are_refused() {
    let layout = Layout::new();
    let arm = with_platform(layout.image(&[]), "linux", "arm64");
    let windows = with_platform(layout.image(&[]), "windows", "amd64");
    layout.index(&[arm, windows]);
    let message = refuse(&layout);
    assert!(message.contains("no image for linux/amd64"), "{message}");
    assert!(message.contains("linux/arm64, windows/amd64"), "{message}");
    layout.index(&[layout.image_of(&[], &[], "arm64")]);
    assert!(refuse(&layout).contains("the image is for linux/arm64"));
    layout.index(&[]);
    assert!(refuse(&layout).contains("it has: nothing"));
}

#[test]
fn layers_must_be_those_of_the_configuration() {
    let layout = Layout::new();
    let layer = layout.blob(TAR, &archive("one"));
    let other = Digest::of(b"other");
    layout.index(&[layout.image_of(std::slice::from_ref(&layer), &[other], "amd64")]);
    let message = refuse(&layout);
    assert!(
        message.contains(&format!("but the configuration says {other}")),
        "{message}"
    );
    layout.index(&[layout.image_of(&[layer], &[], "amd64")]);
    assert!(refuse(&layout).contains("the manifest has 1 layers, the configuration has 0"));
    let text = layout.blob("text/plain", b"hello");
    layout.index(&[layout.image_of(&[text], &[Digest::of(b"hello")], "amd64")]);
    assert!(refuse(&layout).contains("which is no file system layer"));
    layout.index(&[layout.image(&vec![archive("one"); 128])]);
    assert!(refuse(&layout).contains("the image has 128 layers"));
}

#[test]
fn a_failure_in_a_later_layer_leaves_nothing_of_the_earlier_ones() {
    let layout = Layout::with_layers(&[archive("one"), Tar::new().file("../x", b"").finish()]);
    assert!(refuse(&layout).contains("climbs"));
}

#[test]
fn broken_compression_is_told() {
    let layout = Layout::new();
    let whole = gzip(&archive(&"text".repeat(10_000)));
    let cut = &whole[..whole.len() / 2];
    let layer = layout.blob(&format!("{TAR}+gzip"), cut);
    layout.index(&[layout.image_of(&[layer], &[Digest::of(b"")], "amd64")]);
    let message = refuse(&layout);
    assert!(message.contains("cannot read the content of `file`"), "{message}");
    let garbage = [whole.as_slice(), b"garbage"].concat();
    let layer = layout.blob(&format!("{TAR}+gzip"), &garbage);
    layout.index(&[layout.image_of(&[layer], &[Digest::of(b"")], "amd64")]);
    assert!(refuse(&layout).contains("cannot decompress layer"));
}

#[test]
fn bombs_end_at_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let image = erofs::Limits {
        inodes: 100,
        metadata_bytes: 1 << 20,
        image_bytes: 8 << 20,
    };
    let limits = Limits {
        blob_bytes: 1 << 20,
        archive_bytes: 4 << 20,
        image,
        ..Limits::default()
    };
    let store = ImageStore::open_with(dir.path(), limits).unwrap();
    let refused = |archive: Vec<u8>, compressed: Vec<u8>| {
        let layout = Layout::new();
        let layer = layout.blob(TAR, &compressed);
        layout.index(&[layout.image_of(&[layer], &[Digest::of(&archive)], "amd64")]);
        store
            .import_oci_layout(layout.path(), "a")
            .unwrap_err()
            .to_string()
    };
    let zeros = Tar::new().file("zeros", &vec![0; 5 << 20]).finish();
    assert!(refused(zeros.clone(), gzip(&zeros)).contains("exceeds the 4194304 bytes"));
    assert!(refused(zeros.clone(), zeros).contains("exceeds the 1048576 bytes"));
    // Zeros behind the end of the archive.
    let tail = [archive("one"), vec![0; 5 << 20]].concat();
    assert!(refused(tail.clone(), gzip(&tail)).contains("exceeds the 4194304 bytes"));
    let many = (0..200)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b""))
        .finish();
    assert!(refused(many.clone(), gzip(&many)).contains("100 files are allowed"));
    let sparse = Tar::new()
        .pax(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"1000000000000")])
        .file("sparse", b"")
        .finish();
    assert!(refused(sparse.clone(), gzip(&sparse)).contains("makes the image larger than the 8388608 bytes"));
    assert!(store.list().unwrap().is_empty());
    assert!(
        fixture::files_in(dir.path())
            .iter()
            .all(|name| name.starts_with("catalog."))
    );
}

#[test]
fn links_of_the_layout_lead_nowhere_outside() {
    let secret = tempfile::tempdir().unwrap();
    let outside = secret.path().join("secret");
    fs::write(&outside, archive("secret")).unwrap();
    for target in [
        outside.to_str().unwrap(),
        "../../../../../../../../etc/passwd",
        "/proc/self/exe",
    ] {
        let layout = Layout::new();
        let layer = layout.blob(TAR, &archive("secret"));
        layout.index(&[layout.image_of(&[layer], &[Digest::of(&archive("secret"))], "amd64")]);
        let blob = layout
            .path()
            .join("blobs/sha256")
            .join(Digest::of(&archive("secret")).hex());
        fs::remove_file(&blob).unwrap();
        std::os::unix::fs::symlink(target, &blob).unwrap();
        let message = refuse(&layout);
        assert!(message.contains("is not a regular file inside it"), "{message}");
    }
}

#[test]
fn a_pipe_in_the_layout_does_not_block() {
    let layout = Layout::with_layers(&[archive("one")]);
    let index = layout.path().join("index.json");
    fs::remove_file(&index).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&index)
            .status()
            .unwrap()
            .success()
    );
    assert!(refuse(&layout).contains("index.json is not a regular file"));
}

#[test]
fn a_name_with_a_digest_or_against_the_grammar_is_refused() {
    let layout = Layout::with_layers(&[]);
    let store = Store::new();
    let import = |name: &str| {
        store
            .store
            .import_oci_layout(layout.path(), name)
            .unwrap_err()
            .to_string()
    };
    assert!(import(&format!("a@{}", Digest::of(b""))).contains("has a tag, not a digest"));
    assert!(import("UPPER").contains("repository name must be lowercase"));
}
