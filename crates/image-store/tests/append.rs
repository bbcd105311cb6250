//! One more layer on top of an image.

mod fixture;

use fixture::{CONFIG, Layout, MANIFEST, Store, TAR, Tar, gzip, names, open_layer};
use image_store::{Addition, Digest, Image, NoUsers, Reference, StoreError};
use serde_json::{Value, json};

fn below() -> Vec<u8> {
    Tar::new()
        .dir("etc")
        .file("etc/passwd", b"root")
        .file("gone", b"1")
        .finish()
}

fn base(store: &Store) -> Image {
    let layout = Layout::new();
    let layer = layout.blob(
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        &gzip(&below()),
    );
    let config = layout.document(
        CONFIG,
        &json!({
            "architecture": "amd64", "os": "linux", "variant": "v2", "author": "somebody else",
            "container_config": { "Cmd": ["x"] },
            "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&below())] },
            "history": [{ "created_by": "ADD" }, { "created_by": "CMD", "empty_layer": true }],
        }),
    );
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    layout.index(&[layout.document(MANIFEST, &manifest)]);
    store.store.import_oci_layout(layout.path(), "base").unwrap()
}

fn addition() -> Addition {
    Addition {
        created: "2026-01-02T03:04:05Z".into(),
        author: "me".into(),
        created_by: "sh -c true".into(),
        comment: "more".into(),
        config: json!({ "Cmd": ["new"], "Healthcheck": { "Test": ["NONE"] } }),
    }
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

#[test]
fn an_image_gets_a_layer_and_says_what_it_is_told_to() {
    let store = Store::new();
    let base = base(&store);
    let archive = Tar::new().file("new", b"2").file(".wh.gone", b"").finish();
    let name = reference("new:1");
    let image = store
        .store
        .append(&base, archive.as_slice(), Some(&name), &addition())
        .unwrap();
    assert_eq!(image.references, ["localhost/new:1"]);
    assert_eq!(image.layers[0], base.layers[0]);
    assert_eq!(image.layers[1].diff_id, Digest::of(&archive).to_string());
    assert_eq!(names(&mut open_layer(&image, 1), ""), ["gone", "new"]);
    let config: Value = serde_json::from_slice(&store.store.raw_config(&image).unwrap()).unwrap();
    let step = json!({
        "created": "2026-01-02T03:04:05Z", "author": "me", "created_by": "sh -c true", "comment": "more",
    });
    let expected = json!({
        "architecture": "amd64", "os": "linux", "variant": "v2", "author": "me",
        "created": "2026-01-02T03:04:05Z",
        "config": { "Cmd": ["new"], "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&below()), Digest::of(&archive)] },
        "history": [{ "created_by": "ADD" }, { "created_by": "CMD", "empty_layer": true }, step],
    });
    assert_eq!(config, expected);
    // Docker's media types become those of the manifest that is made here, and the layer can be pushed.
    let blobs = store.store.image_blobs(&image).unwrap();
    assert_eq!(blobs[0].media_type, format!("{TAR}+gzip"));
    assert_eq!(blobs[1].media_type, format!("{TAR}+gzip"));
    assert!(store.store.check().unwrap().problems.is_empty());
}

#[test]
fn an_archive_without_entries_makes_no_layer() {
    let store = Store::new();
    let base = base(&store);
    let empty = [0; 1024];
    let image = store
        .store
        .append(&base, empty.as_slice(), None, &addition())
        .unwrap();
    assert_eq!(image.layers, base.layers);
    let history = store.store.history(&image).unwrap();
    assert_eq!((history.len(), history[0].size), (3, 0));
    assert_eq!(history[0].comment, "more");
    assert_eq!(history[2].size, base.size);
}

#[test]
fn what_fails_leaves_nothing() {
    let store = Store::new();
    let base = base(&store);
    let before = store.files();
    let name = reference("new");
    let cut = &Tar::new().file("new", &[1; 5000]).finish()[..3000];
    let refused = store.store.append(&base, cut, Some(&name), &addition());
    assert!(matches!(refused, Err(StoreError::Ingest(_))), "{refused:?}");
    let digest = reference(&format!("new@{}", Digest::of(b"")));
    let refused = store.store.append(&base, &b""[..], Some(&digest), &addition());
    assert!(matches!(refused, Err(StoreError::ReferenceWithDigest(_))));
    assert_eq!(store.files(), before);
    assert_eq!(store.store.list().unwrap().len(), 1);
}

#[test]
fn the_image_below_may_go() {
    let store = Store::new();
    let base = base(&store);
    let archive = Tar::new().file("new", b"2").finish();
    let append = || store.store.append(&base, archive.as_slice(), None, &addition());
    let image = append().unwrap();
    store.store.remove("base", false, &NoUsers).unwrap();
    assert_eq!(store.store.resolve(&image.id).unwrap().layers.len(), 2);
    store.store.remove(&image.id, false, &NoUsers).unwrap();
    let refused = append().unwrap_err().to_string();
    assert!(
        refused.contains("damaged") || refused.contains("No such image"),
        "{refused}"
    );
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn there_is_an_end_to_layers() {
    let store = Store::new();
    let mut image = base(&store);
    for number in 1..127 {
        let archive = Tar::new().file(&format!("f{number}"), b"").finish();
        image = store
            .store
            .append(&image, archive.as_slice(), None, &addition())
            .unwrap();
    }
    let refused = store.store.append(&image, &b"never read"[..], None, &addition());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("128 layers; 127 are possible"), "{refused}");
}
