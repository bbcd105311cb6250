//! A process that is killed at any moment leaves a store that is whole.

mod fixture;

use fixture::{Layout, Store, Tar};
use image_store::{ImageStore, NoUsers};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const STORE: &str = "IMAGE_STORE_OF_THE_VICTIM";

fn layout(n: usize) -> Layout {
    let base = Tar::new().file("base", &vec![7; 300_000]).finish();
    let own = Tar::new()
        .file("own", n.to_string().repeat(20_000).as_bytes())
        .finish();
    Layout::with_layers(&[base, own])
}

/// Everything that changes a store, over and over.
#[test]
#[ignore = "the process that the other test starts and kills"]
fn victim() {
    let Some(root) = std::env::var_os(STORE) else {
        return;
    };
    let store = ImageStore::open(Path::new(&root)).unwrap();
    let layouts: Vec<Layout> = (0..4).map(layout).collect();
    let mut archive = Vec::new();
    for round in 0.. {
        for (n, layout) in layouts.iter().enumerate() {
            let name = format!("a:{n}");
            store.import_oci_layout(layout.path(), &name).unwrap();
            store.tag(&name, &format!("b:{n}").parse().unwrap()).unwrap();
            archive.clear();
            store.save(&[&name], &mut archive).unwrap();
            store.remove(&name, false, &NoUsers).unwrap();
            if (round + n) % 2 == 0 {
                store.remove(&format!("b:{n}"), false, &NoUsers).unwrap();
                store.load(archive.as_slice()).unwrap();
            }
        }
        store.prune(|image| image.references.len() < 2, &NoUsers).unwrap();
        store.collect_garbage().unwrap();
    }
}

/// The names of files that the catalog knows.
fn known(root: &Path) -> BTreeSet<String> {
    let catalog = rusqlite::Connection::open(root.join("catalog.db")).unwrap();
    let query = "SELECT 'blobs/sha256/' || substr(digest, 8) FROM blob UNION ALL \
                 SELECT 'layers/sha256-' || substr(diff_id, 8) || '.erofs' FROM layer";
    let mut statement = catalog.prepare(query).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

#[test]
fn killed_at_any_moment_it_leaves_a_clean_store_and_a_retry_works() {
    let mut store = Store::new();
    for round in 0..24u64 {
        let root = store.dir.path().to_owned();
        let Store { dir, store: opened } = store;
        drop(opened);
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "victim"])
            .env(STORE, &root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Moments that are spread over everything that it does.
        std::thread::sleep(Duration::from_millis(15 + (round * 37) % 260));
        victim.kill().unwrap();
        assert_eq!(
            victim.wait().unwrap().signal(),
            Some(9),
            "the victim ended by itself"
        );

        store = Store {
            store: ImageStore::open(&root).unwrap(),
            dir,
        };
        let report = store.store.check().unwrap();
        assert_eq!(report.problems, [], "round {round}");
        for image in store.store.summaries().unwrap() {
            let manifest = image.manifest_digest.parse().unwrap();
            assert!(
                store.store.has_image(&manifest).unwrap(),
                "half an image shows: {image:?}"
            );
        }
        store.store.collect_garbage().unwrap();
        let files: BTreeSet<String> = store.files().into_iter().collect();
        assert_eq!(files, known(&root), "round {round}: something is left");
        let layout = layout(round as usize % 4);
        let image = store.store.import_oci_layout(layout.path(), "retry").unwrap();
        assert_eq!(store.store.resolve("retry").unwrap(), image);
    }
}
