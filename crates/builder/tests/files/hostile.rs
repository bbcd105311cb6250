//! Trees that are meant to do harm, and large ones.

use std::time::{Duration, Instant};

use builder::{CopyError, CopyOptions, FileTree, LastLink, LayerTree, Times, lookup, source_digest};
use tar_stream::{Entry, EntryKind, Writer};

use crate::support::{Archive, NOW, Stage, copied, layer, source, to};

#[test]
fn a_thousand_directories_deep() {
    let deep = ["d"; 1000].join("/");
    let archive = Archive::new().file(&format!("{deep}/file"), "bottom");
    let stage = Stage::of(&[archive.tar()]);
    for tree in [&archive.context() as &dyn FileTree, &stage.tree()] {
        let (summary, made) = copied(&LayerTree::default(), &[source(tree, ".")], &to("/x")).unwrap();
        assert_eq!(summary.entries, 1002);
        let mut next = Stage::of(&[made]);
        next.add(&copied(&next.tree(), &[source(tree, "d")], &to("/x/d")).unwrap().1);
        let found = lookup(
            &next.tree(),
            format!("x/{deep}/file").as_bytes(),
            LastLink::Follow,
        );
        assert!(found.unwrap().is_some());
    }
}

#[test]
fn a_path_that_becomes_too_long_is_refused() {
    let deep = vec!["d".repeat(200); 20].join("/");
    let archive = Archive::new().file(&format!("{deep}/file"), "bottom").context();
    let error = copied(
        &LayerTree::default(),
        &[source(&archive, ".")],
        &to(&format!("/{}", "x".repeat(200))),
    );
    assert!(matches!(
        error.unwrap_err(),
        CopyError::TooLong {
            length: 4220,
            most: 4095,
            ..
        }
    ));
    let error = copied(
        &LayerTree::default(),
        &[source(&archive, ".")],
        &to(&format!("/{}", "x".repeat(256))),
    );
    assert!(matches!(
        error.unwrap_err(),
        CopyError::TooLong {
            length: 256,
            most: 255,
            ..
        }
    ));
}

#[test]
fn links_lead_nowhere_but_into_their_tree() {
    let context = Archive::new()
        .file("etc/hostname", "of the context")
        .link("a", "/etc/hostname")
        .link("b", "../../../../../etc/hostname")
        .link("loop", "loop/x")
        .link("self", "self")
        .context();
    for path in ["a", "b"] {
        let lines = layer(&LayerTree::default(), &[source(&context, path)], &to("/x"));
        assert_eq!(lines, ["f 644 0:0 x = of the context"]);
    }
    for path in ["loop", "self", "self/x"] {
        let error = copied(&LayerTree::default(), &[source(&context, path)], &to("/x")).unwrap_err();
        assert!(
            error.to_string().ends_with("too many levels of symbolic links"),
            "{error}"
        );
    }
    let stage = Stage::of(&[Archive::new().link("x", "y").link("y", "x").tar()]);
    let error = copied(&stage.tree(), &[source(&context, "a")], &to("/x")).unwrap_err();
    assert!(
        error.to_string().ends_with("too many levels of symbolic links"),
        "{error}"
    );
}

#[test]
fn files_are_counted() {
    let context = Archive::new()
        .file("d/a", "")
        .file("d/b", "")
        .file("d/c", "")
        .context();
    let options = CopyOptions {
        max_entries: 2,
        ..to("/")
    };
    let error = copied(&LayerTree::default(), &[source(&context, "d")], &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "COPY brings more than 2 files; copy less at once"
    );
    assert!(source_digest(&[source(&context, "d")], &options).is_err());
}

#[test]
fn a_hundred_thousand_files_are_copied_in_little_time() {
    let mut writer = Writer::new(Vec::new());
    for n in 0..100_000 {
        let mut entry = Entry::new(format!("app/package-{}/file-{n}", n / 50), EntryKind::Regular);
        entry.size = 20;
        writer.begin(&entry).unwrap();
        writer.write(format!("{n:020}").as_bytes()).unwrap();
    }
    let archive = writer.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let context = builder::Context::from_tar(archive.as_slice(), folder.path(), Default::default()).unwrap();
    let start = Instant::now();
    let options = CopyOptions::to(b"/srv/", Times::All(NOW));
    let from_context = source_digest(&[source(&context, "app")], &options).unwrap();
    println!("digest of 100,000 files of a context: {:?}", start.elapsed());
    let start = Instant::now();
    let (summary, made) = copied(&LayerTree::default(), &[source(&context, "app")], &options).unwrap();
    println!("COPY of 100,000 files of a context: {:?}", start.elapsed());
    assert_eq!((summary.entries, summary.content), (102_001, 2_000_000));
    let stage = Stage::of(&[made]);
    let start = Instant::now();
    let from_stage = source_digest(&[source(&stage.tree(), "srv")], &options).unwrap();
    println!("digest of 100,000 files of a layer: {:?}", start.elapsed());
    assert_eq!(from_stage, from_context);
    let start = Instant::now();
    let (again, _) = copied(&stage.tree(), &[source(&stage.tree(), "srv")], &options).unwrap();
    println!(
        "COPY of 100,000 files of a layer over themselves: {:?}",
        start.elapsed()
    );
    assert_eq!(again.content, 2_000_000);
    assert!(start.elapsed() < Duration::from_secs(60));
}
