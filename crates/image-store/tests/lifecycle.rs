//! Names, removal, pruning, usage, history, and garbage collection beside everything else.

mod fixture;

use fixture::{Layout, Store, TAR, Tar};
use image_store::{
    BlobDescriptor, Digest, Image, ImageUser, ImageUsers, LayerOutcome, NoUsers, Reference, Removal,
    StoreError,
};
use serde_json::json;
use std::io::Read;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

struct User {
    image: String,
    is_running: bool,
}

impl ImageUsers for User {
    fn user_of(&self, image_id: &str) -> Option<ImageUser> {
        (image_id == self.image).then(|| ImageUser {
            container: "c0ffee".repeat(10) + "abcd",
            is_running: self.is_running,
        })
    }
}

fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("file", text.as_bytes()).finish()
}

fn import(store: &Store, layers: &[&str], name: &str) -> Image {
    let archives: Vec<Vec<u8>> = layers.iter().map(|text| layer(text)).collect();
    let layout = Layout::with_layers(&archives);
    store.store.import_oci_layout(layout.path(), name).unwrap()
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

fn untagged(name: &str) -> Removal {
    Removal::Untagged(name.to_owned())
}

fn deleted(id: &str) -> Removal {
    Removal::Deleted(id.to_owned())
}

#[test]
fn of_several_names_only_the_given_one_goes_and_the_last_takes_the_image_along() {
    let store = Store::new();
    let image = import(&store, &["a", "b"], "a:1");
    let tagged = store.store.tag("a:1", &reference("host:5000/b:2")).unwrap();
    assert_eq!(tagged.references, ["host:5000/b:2", "localhost/a:1"]);
    let removed = store.store.remove("a:1", false, &NoUsers).unwrap();
    assert_eq!(removed, [untagged("localhost/a:1")]);
    assert_eq!(store.store.resolve("host:5000/b:2").unwrap().id, image.id);
    let removed = store.store.remove("host:5000/b:2", false, &NoUsers).unwrap();
    let bottom: Digest = image.layers[0].diff_id.parse().unwrap();
    let top = Digest::of(format!("{bottom} {}", image.layers[1].diff_id).as_bytes());
    assert_eq!(
        removed,
        [
            untagged("host:5000/b:2"),
            deleted(&image.id),
            deleted(&top.to_string()),
            deleted(&bottom.to_string())
        ]
    );
    assert_eq!(store.files(), [""; 0]);
    assert!(matches!(
        store.store.remove("a:1", false, &NoUsers),
        Err(StoreError::NotFound { .. })
    ));
}

#[test]
fn layers_that_another_image_has_stay() {
    let store = Store::new();
    let one = import(&store, &["base", "one"], "one");
    let two = import(&store, &["base", "two"], "two");
    let removed = store.store.remove(&one.id, false, &NoUsers).unwrap();
    assert_eq!(removed.len(), 3, "a name, an image, one layer: {removed:?}");
    assert!(two.layers.iter().all(|layer| layer.path.exists()));
    assert!(!one.layers[1].path.exists());
    assert!(store.store.check().unwrap().problems.is_empty());
}

#[test]
fn removing_by_identifier_takes_force_when_names_are_in_several_repositories() {
    let store = Store::new();
    let image = import(&store, &["a"], "a:1");
    store.store.tag("a:1", &reference("b:1")).unwrap();
    let error = store
        .store
        .remove(&image.id, false, &NoUsers)
        .unwrap_err()
        .to_string();
    let short = &image.id[7..19];
    let expected = format!(
        "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    );
    assert_eq!(error, expected);
    let removed = store.store.remove(short, true, &NoUsers).unwrap();
    assert_eq!(
        removed[..2],
        [untagged("localhost/a:1"), untagged("localhost/b:1")]
    );
    assert!(store.store.summaries().unwrap().is_empty());
}

#[test]
fn the_last_tag_of_a_repository_takes_its_digests_along() {
    let store = Store::new();
    let image = import(&store, &["a"], "host.example/a:1");
    let digest: Digest = image.manifest_digest.parse().unwrap();
    let pinned = reference("host.example/a:1").with_digest(digest);
    let image = store.store.tag("host.example/a:1", &pinned).unwrap();
    assert_eq!(image.digests, [format!("host.example/a@{digest}")]);
    assert_eq!(store.store.resolve(&image.digests[0]).unwrap(), image);
    let removed = store.store.remove("host.example/a:1", false, &NoUsers).unwrap();
    assert_eq!(
        removed[..2],
        [
            untagged("host.example/a:1"),
            untagged(&format!("host.example/a@{digest}"))
        ]
    );
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn containers_stand_in_the_way_as_in_docker() {
    let store = Store::new();
    let image = import(&store, &["a"], "a:1");
    let user = |is_running| User {
        image: image.id.clone(),
        is_running,
    };
    let refused = |name: &str, force, is_running| {
        store
            .store
            .remove(name, force, &user(is_running))
            .unwrap_err()
            .to_string()
    };
    assert!(refused("a:1", false, false).starts_with(
        "conflict: unable to remove repository reference \"localhost/a:1\" (must force) - container c0ffeec0ffee is"
    ));
    assert!(
        refused(&image.id, false, false)
            .ends_with("(must be forced) - image is being used by stopped container c0ffeec0ffee")
    );
    assert!(
        refused(&image.id, true, true)
            .ends_with("(cannot be forced) - image is being used by running container c0ffeec0ffee")
    );
    assert!(refused("a:1", true, true).contains("cannot be forced"));
    // With a second name the first goes, whoever uses the image.
    store.store.tag("a:1", &reference("a:2")).unwrap();
    assert_eq!(
        store.store.remove("a:1", false, &user(true)).unwrap(),
        [untagged("localhost/a:1")]
    );
    assert_eq!(
        store.store.remove("a:2", true, &user(false)).unwrap()[0],
        untagged("localhost/a:2")
    );
    assert!(store.store.summaries().unwrap().is_empty());
}

#[test]
fn a_held_layer_outlives_its_image_until_it_is_free() {
    let store = Store::new();
    let image = import(&store, &["a"], "a");
    let hold = store.store.hold(&image);
    store.store.remove("a", true, &NoUsers).unwrap();
    assert!(image.layers[0].path.exists());
    store.store.collect_garbage().unwrap();
    assert!(image.layers[0].path.exists());
    drop(hold);
    assert!(image.layers[0].path.exists(), "dropping alone removes nothing");
    assert!(store.store.collect_garbage().unwrap() > 0);
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn prune_removes_what_is_selected_and_unused() {
    let store = Store::new();
    let old = import(&store, &["old"], "a");
    let used = import(&store, &["used"], "a");
    let new = import(&store, &["new"], "a");
    assert_eq!(store.store.summaries().unwrap().len(), 3);
    let user = User {
        image: used.id.clone(),
        is_running: false,
    };
    let pruned = store.store.prune(|image| image.is_dangling(), &user).unwrap();
    assert_eq!(pruned.removals[0], deleted(&old.id));
    assert_eq!(pruned.reclaimed, "old".len() as u64);
    let mut left: Vec<String> = store
        .store
        .summaries()
        .unwrap()
        .into_iter()
        .map(|image| image.id)
        .collect();
    left.sort();
    let mut expected = [used.id, new.id];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn usage_counts_a_shared_layer_once() {
    let store = Store::new();
    import(&store, &["base!", "one"], "one");
    import(&store, &["base!", "three"], "two");
    let usage = store.store.usage().unwrap();
    assert_eq!(usage.layers_size, 5 + 3 + 5);
    let mut sizes: Vec<(u64, u64)> = usage
        .images
        .iter()
        .map(|it| (it.shared_size, it.unique_size))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [(5, 3), (5, 5)]);
    assert!(usage.disk_size > usage.layers_size);
}

#[test]
fn history_has_a_size_for_each_step_that_made_a_layer() {
    let layout = Layout::new();
    let archives = [layer("one"), layer("three")];
    let layers: Vec<_> = archives.iter().map(|archive| layout.blob(TAR, archive)).collect();
    let config = layout.document(
        fixture::CONFIG,
        &json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": archives.iter().map(|it| Digest::of(it)).collect::<Vec<_>>() },
            "history": [
                { "created": "2026-01-01T00:00:00Z", "created_by": "ADD one" },
                { "created": "2026-01-02T00:00:00Z", "created_by": "ENV a=b", "empty_layer": true },
                { "created": "2026-01-03T00:00:00Z", "created_by": "RUN three", "comment": "last" },
            ],
        }),
    );
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": fixture::MANIFEST, "config": config, "layers": layers });
    layout.index(&[layout.document(fixture::MANIFEST, &manifest)]);
    let store = Store::new();
    let image = store.store.import_oci_layout(layout.path(), "a").unwrap();
    let history = store.store.history(&image).unwrap();
    let told: Vec<(&str, &str, u64)> = history
        .iter()
        .map(|it| (it.id.as_str(), it.created_by.as_str(), it.size))
        .collect();
    assert_eq!(
        told,
        [
            (image.id.as_str(), "RUN three", 5),
            ("<missing>", "ENV a=b", 0),
            ("<missing>", "ADD one", 3)
        ]
    );
    assert_eq!(
        (history[0].comment.as_str(), &history[0].references),
        ("last", &image.references)
    );
}

#[test]
fn what_an_image_consists_of_is_read_back_as_it_came() {
    let store = Store::new();
    let image = import(&store, &["a", "b", "a"], "a");
    let manifest = store.store.manifest(&image).unwrap();
    assert_eq!(manifest.digest.to_string(), image.manifest_digest);
    assert_eq!(Digest::of(&manifest.bytes), manifest.digest);
    let blobs = store.store.image_blobs(&image).unwrap();
    assert_eq!(blobs.len(), 3, "a repeated layer once, the configuration last");
    assert_eq!(blobs[2].digest.to_string(), image.id);
    for blob in blobs {
        let mut bytes = Vec::new();
        store
            .store
            .open_blob(&blob.digest)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size));
    }
}

fn descriptor(archive: &[u8]) -> BlobDescriptor {
    BlobDescriptor {
        media_type: TAR.to_owned(),
        digest: Digest::of(archive),
        size: archive.len() as u64,
    }
}

#[test]
fn an_ingest_that_is_dropped_leaves_nothing_and_one_that_is_not_holds_its_layers() {
    let store = Store::new();
    let archive = layer("a");
    let ingest = store.store.ingest().unwrap();
    assert!(!ingest.has_layer(&descriptor(&archive), None).unwrap());
    let outcome = ingest
        .put_layer(&descriptor(&archive), None, archive.as_slice())
        .unwrap();
    assert_eq!(outcome, LayerOutcome::Written);
    store.store.collect_garbage().unwrap();
    assert_eq!(store.files().len(), 2);
    assert!(
        ingest
            .has_layer(&descriptor(&archive), Some(&Digest::of(&archive)))
            .unwrap()
    );
    assert!(
        !ingest
            .has_layer(&descriptor(&archive), Some(&Digest::of(b"other")))
            .unwrap()
    );
    let error = ingest.commit(&[]).unwrap_err().to_string();
    assert_eq!(error, "the image is incomplete: its manifest is missing");
    drop(ingest);
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn two_ingests_of_one_layer_read_it_once() {
    struct Counted<'a>(&'a AtomicUsize, &'a [u8]);
    impl Read for Counted<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.read(into)?;
            self.0.fetch_add(count, Ordering::Relaxed);
            Ok(count)
        }
    }
    let store = Store::new();
    let archive = Tar::new().file("large", &vec![7; 8 << 20]).finish();
    let (read, barrier) = (AtomicUsize::new(0), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ingest = store.store.ingest().unwrap();
                let source = Counted(&read, &archive);
                ingest.put_layer(&descriptor(&archive), None, source).unwrap();
                assert!(ingest.has_layer(&descriptor(&archive), None).unwrap());
                // It holds the layer until the last of them is done.
                barrier.wait();
            });
        }
    });
    assert_eq!(read.into_inner(), archive.len());
    assert_eq!(store.files(), [""; 0]);
}

#[test]
fn collecting_garbage_never_takes_what_an_ingest_relies_on() {
    let store = Store::new();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for round in 0..12 {
                    let name = format!("{}:{round}", ["x", "y", "z"][worker]);
                    let image = import(store, &["base", &format!("{worker}-{}", round / 2)], &name);
                    assert!(image.layers.iter().all(|layer| layer.path.exists()));
                    store.store.remove(&name, false, &NoUsers).unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(Ordering::Relaxed) < 3 {
                store.store.collect_garbage().unwrap();
            }
        });
    });
    assert!(store.store.check().unwrap().problems.is_empty());
    assert_eq!(store.files(), [""; 0]);
}
