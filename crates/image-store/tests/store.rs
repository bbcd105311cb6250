//! Names, lists, several users at once, and what a crash leaves.

mod fixture;

use fixture::{Layout, Store, Tar, content, open_layer};
use image_store::{ImageStore, NoUsers, Reference, StoreError};
use std::fs;
use std::thread;
use std::time::SystemTime;

fn layout(text: &str) -> Layout {
    Layout::with_layers(&[Tar::new().file("file", text.as_bytes()).finish()])
}

#[test]
fn images_are_found_by_every_name_they_have() {
    let Store { store, dir: _dir } = Store::new();
    let local = store
        .import_oci_layout(layout("local").path(), "busybox")
        .unwrap();
    let hub = store
        .import_oci_layout(layout("hub").path(), "docker.io/library/busybox:1.36")
        .unwrap();
    let short = &local.id[7..19];
    let pinned = format!("busybox@{}", local.manifest_digest);
    let pinned_hub = format!("busybox:whatever@{}", hub.manifest_digest);
    for (name, expected) in [
        ("busybox", &local),
        ("localhost/busybox:latest", &local),
        (short, &local),
        (&local.id, &local),
        (&local.id[..20], &local),
        (&pinned, &local),
        ("busybox:1.36", &hub),
        ("docker.io/busybox:1.36", &hub),
        (&pinned_hub, &hub),
    ] {
        assert_eq!(store.resolve(name).unwrap(), *expected, "{name}");
    }
}

#[test]
fn a_local_image_hides_the_hubs_of_the_same_short_name() {
    let Store { store, dir: _dir } = Store::new();
    let hub = store
        .import_oci_layout(layout("hub").path(), "docker.io/library/a")
        .unwrap();
    assert_eq!(store.resolve("a").unwrap().id, hub.id);
    let local = store.import_oci_layout(layout("local").path(), "a").unwrap();
    assert_eq!(store.resolve("a").unwrap().id, local.id);
}

#[test]
fn what_is_not_there_is_said_as_docker_says_it() {
    let Store { store, dir: _dir } = Store::new();
    store.import_oci_layout(layout("a").path(), "a").unwrap();
    for (name, message) in [
        ("busybox", "No such image: busybox:latest"),
        ("a:2", "No such image: a:2"),
        ("ghcr.io/x/y", "No such image: ghcr.io/x/y:latest"),
        ("deadbeefdeadbeef", "No such image: deadbeefdeadbeef:latest"),
    ] {
        let error = store.resolve(name).unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }));
        assert_eq!(error.to_string(), message);
    }
    let missing = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        store.resolve(&missing).unwrap_err().to_string(),
        format!("No such image: {missing}")
    );
    assert!(
        store
            .resolve("Bad Name")
            .unwrap_err()
            .to_string()
            .starts_with("invalid reference format")
    );
    assert!(
        store
            .resolve("")
            .unwrap_err()
            .to_string()
            .starts_with("invalid reference format")
    );
}

#[test]
fn an_identifier_that_fits_several_images_is_refused() {
    let Store { store, dir: _dir } = Store::new();
    let mut seen = std::collections::BTreeMap::new();
    for n in 0.. {
        let image = store
            .import_oci_layout(layout(&n.to_string()).path(), &format!("a:{n}"))
            .unwrap();
        let first = image.id[7..8].to_owned();
        if seen.insert(first.clone(), image.id).is_some() {
            let error = store.resolve(&first).unwrap_err().to_string();
            assert!(
                error.contains("is the beginning of 2 images' identifiers"),
                "{error}"
            );
            break;
        }
    }
}

#[test]
fn a_name_that_moves_leaves_its_old_image_without_a_name() {
    let Store { store, dir: _dir } = Store::new();
    let old = store.import_oci_layout(layout("old").path(), "a").unwrap();
    let new = store.import_oci_layout(layout("new").path(), "a").unwrap();
    assert_eq!(store.resolve("a").unwrap().id, new.id);
    assert!(store.resolve(&old.id).unwrap().references.is_empty());
    let listed = store.list().unwrap();
    let ids: Vec<&str> = listed.iter().map(|image| image.id.as_str()).collect();
    let mut expected = [old.id.as_str(), new.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn one_image_under_two_names_is_listed_once() {
    let Store { store, dir: _dir } = Store::new();
    let layout = layout("a");
    store.import_oci_layout(layout.path(), "b:2").unwrap();
    store.import_oci_layout(layout.path(), "a:1").unwrap();
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].references, ["localhost/a:1", "localhost/b:2"]);
}

#[test]
fn what_a_killed_import_left_is_swept_when_the_store_is_opened() {
    let store = Store::new();
    let image = store.store.import_oci_layout(layout("kept").path(), "a").unwrap();
    let before = store.files();
    let root = store.dir.path();
    // Killed while writing; after some files had their names; before the catalog had.
    fs::write(root.join("tmp/.tmpAbCdEf"), b"half a layer").unwrap();
    fs::write(
        root.join(format!("layers/sha256-{}.erofs", "1".repeat(64))),
        b"orphan",
    )
    .unwrap();
    fs::write(root.join("blobs/sha256").join("2".repeat(64)), b"orphan").unwrap();
    let Store { dir, store } = store;
    drop(store);
    let store = Store {
        store: ImageStore::open(dir.path()).unwrap(),
        dir,
    };
    assert!(store.store.check().unwrap().problems.is_empty());
    store.store.collect_garbage().unwrap();
    assert_eq!(store.files(), before);
    assert_eq!(store.store.resolve("a").unwrap(), image);
}

#[test]
fn opening_a_store_does_not_sweep_away_a_running_import() {
    let layout = Layout::with_layers(&[Tar::new().file("large", &vec![1; 32 << 20]).finish()]);
    let store = Store::new();
    let root = store.dir.path().to_owned();
    thread::scope(|scope| {
        let import = scope.spawn(|| store.store.import_oci_layout(layout.path(), "a").unwrap());
        while !import.is_finished() {
            ImageStore::open(&root).unwrap();
        }
        let image = import.join().unwrap();
        assert_eq!(content(&mut open_layer(&image, 0), "large").len(), 32 << 20);
    });
}

#[test]
fn concurrent_imports_all_succeed_and_share_layers() {
    let base = Tar::new().file("base", &vec![7; 1 << 20]).finish();
    let store = Store::new();
    let root = store.dir.path().to_owned();
    thread::scope(|scope| {
        for n in 0..8 {
            let (base, root) = (base.clone(), root.clone());
            scope.spawn(move || {
                let own = Tar::new().file("own", n.to_string().as_bytes()).finish();
                let layout = Layout::with_layers(&[base, own]);
                // A store of its own each: locks have to work between processes, too.
                let store = ImageStore::open(&root).unwrap();
                let image = store.import_oci_layout(layout.path(), &format!("a:{n}")).unwrap();
                assert_eq!(
                    content(&mut open_layer(&image, 1), "own"),
                    n.to_string().as_bytes()
                );
            });
        }
    });
    assert_eq!(store.store.list().unwrap().len(), 8);
    assert_eq!(fs::read_dir(root.join("layers")).unwrap().count(), 9);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_damaged_catalog_stops_everything_and_loses_nothing() {
    let store = Store::new();
    store.store.import_oci_layout(layout("a").path(), "a").unwrap();
    let before = store.files();
    let Store { store: opened, dir } = store;
    drop(opened);
    let catalog = dir.path().join("catalog.db");
    let sound = fs::read(&catalog).unwrap();
    let open = || ImageStore::open(dir.path()).unwrap_err().to_string();
    fs::write(&catalog, b"nonsense".repeat(1000)).unwrap();
    assert!(open().contains("is damaged"));
    fs::write(&catalog, &sound).unwrap();
    let newer = rusqlite::Connection::open(&catalog).unwrap();
    newer.pragma_update(None, "user_version", 9).unwrap();
    drop(newer);
    assert!(open().contains("has version 9"));
    fs::write(&catalog, &sound).unwrap();
    let store = Store {
        store: ImageStore::open(dir.path()).unwrap(),
        dir,
    };
    assert_eq!(store.files(), before);
    assert!(store.store.check().unwrap().problems.is_empty());
}

/// When the image was tagged that a name leads to.
fn last_tagged(store: &ImageStore, name: &str) -> Option<SystemTime> {
    store.last_tagged(&store.resolve(name).unwrap()).unwrap()
}

#[test]
fn when_an_image_was_tagged_is_kept() {
    let Store { store, dir } = Store::new();
    let before = SystemTime::now();
    let imported = store.import_oci_layout(layout("a").path(), "a").unwrap();
    let first = last_tagged(&store, "a").unwrap();
    assert!(first >= before && first <= SystemTime::now(), "{first:?}");
    store.import_oci_layout(layout("b").path(), "b").unwrap();
    let other = last_tagged(&store, "b");
    // A name with a digest is no tag.
    let digest = imported.manifest_digest.parse().unwrap();
    let pinned = "h:1/a".parse::<Reference>().unwrap().with_digest(digest);
    store.tag("a", &pinned).unwrap();
    assert_eq!(last_tagged(&store, "a"), Some(first));
    store.tag("a", &"h:1/a:1".parse().unwrap()).unwrap();
    let second = last_tagged(&store, "a");
    assert!(second > Some(first), "{second:?}");
    // It stays when the name goes, and is the image's own.
    store.remove("h:1/a:1", false, &NoUsers).unwrap();
    drop(store);
    let store = ImageStore::open(dir.path()).unwrap();
    assert_eq!(last_tagged(&store, "a"), second);
    assert_eq!(last_tagged(&store, "b"), other);
}

#[test]
fn a_catalog_of_the_first_version_is_gone_on_with() {
    let Store { store, dir } = Store::new();
    let imported = store.import_oci_layout(layout("a").path(), "a").unwrap();
    drop(store);
    let old = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
    old.execute_batch("ALTER TABLE image DROP COLUMN tagged; PRAGMA user_version = 1")
        .unwrap();
    drop(old);
    for _ in 0..2 {
        let store = ImageStore::open(dir.path()).unwrap();
        assert_eq!(store.resolve("a").unwrap(), imported);
        assert_eq!(last_tagged(&store, "a"), None);
        assert!(store.check().unwrap().problems.is_empty());
    }
    let store = ImageStore::open(dir.path()).unwrap();
    store.tag("a", &"b".parse().unwrap()).unwrap();
    assert!(last_tagged(&store, "a").is_some());
}

#[test]
fn an_import_that_cannot_write_says_where_and_leaves_nothing() {
    let store = Store::new();
    fs::remove_dir(store.dir.path().join("tmp")).unwrap();
    let error = store
        .store
        .import_oci_layout(layout("a").path(), "a")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot open") && error.contains("/tmp/"),
        "{error}"
    );
    assert_eq!(store.files(), [""; 0]);
}
