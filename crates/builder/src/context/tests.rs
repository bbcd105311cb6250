use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use tar_stream::{Entry, EntryKind, Writer};

use super::*;
use crate::lookup::{LastLink, lookup};

fn tar(entries: &[(&str, EntryKind, &str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, link, content) in entries {
        let mut entry = Entry::new(*path, *kind);
        entry.link = link.as_bytes().to_vec();
        (entry.mode, entry.uid, entry.size) = (0o640, 1000, content.len() as u64);
        writer.begin(&entry).unwrap();
        writer.write(content).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Context, ContextError> {
    read_within(bytes, ContextLimits::default())
}

fn read_within(bytes: &[u8], limits: ContextLimits) -> Result<Context, ContextError> {
    let folder = tempfile::tempdir().unwrap();
    let context = Context::from_tar(bytes, folder.path(), limits);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "a temporary file has a name"
    );
    context
}

fn node(context: &Context, path: &str) -> Option<Node> {
    lookup(context, path.as_bytes(), LastLink::Follow)
        .unwrap()
        .map(|found| found.node)
}

fn text(context: &Context, path: &str) -> String {
    let mut text = String::new();
    let node = node(context, path).unwrap_or_else(|| panic!("{path} is not there"));
    context.open(&node).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_archive_becomes_a_tree_however_it_is_compressed() {
    let plain = tar(&[
        ("./", EntryKind::Directory, "", b""),
        ("./a/../b/", EntryKind::Directory, "", b""),
        ("/b/file", EntryKind::Regular, "", b"content"),
        ("c/d/e", EntryKind::Regular, "", b"deep"),
        ("hard", EntryKind::HardLink, "b/file", b""),
        ("link", EntryKind::Symlink, "/b/../b/file", b""),
        ("out", EntryKind::Symlink, "../../../../b/file", b""),
        ("pipe", EntryKind::Fifo, "", b""),
        ("twice", EntryKind::Regular, "", b"first"),
        ("twice", EntryKind::Regular, "", b"second"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for bytes in [plain.clone(), gzip.finish().unwrap()] {
        let context = read(&bytes).unwrap();
        for (path, expected) in [
            ("b/file", "content"),
            ("hard", "content"),
            ("link", "content"),
            ("out", "content"),
            ("c/d/e", "deep"),
            ("twice", "second"),
        ] {
            assert_eq!(text(&context, path), expected, "{path}");
        }
        let file = node(&context, "b/file").unwrap();
        assert_eq!(
            (file.attributes.uid, file.attributes.mode, file.links),
            (0, 0o640, 2)
        );
        assert_eq!(file.id, node(&context, "hard").unwrap().id);
        assert_eq!(
            context.content_digest(&file, &CancellationToken::new()).unwrap(),
            Digest::of(b"content")
        );
        assert_eq!(node(&context, "c/d").unwrap().attributes.mode, 0o755);
        assert!(node(&context, "a").is_none());
    }
    let other = read(&plain).unwrap();
    let context = read(&plain).unwrap();
    assert!(
        context.open(&node(&other, "twice").unwrap()).is_err(),
        "a node of another context"
    );
}

#[test]
fn what_leads_out_is_refused() {
    for path in ["../x", "a/../../x", "/../x", ".."] {
        let error = read(&tar(&[(path, EntryKind::Regular, "", b"")]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("leads out of it; it is refused"), "{error}");
    }
    let through = tar(&[
        ("a", EntryKind::Symlink, "/etc", b""),
        ("a/passwd", EntryKind::Regular, "", b"x"),
    ]);
    assert!(read(&through).unwrap_err().to_string().contains("no directory"));
    for target in ["../x", "nothing", "/etc/passwd"] {
        let error = read(&tar(&[("h", EntryKind::HardLink, target, b"")])).unwrap_err();
        assert!(
            matches!(error, ContextError::HardLink { .. } | ContextError::Path { .. }),
            "{error}"
        );
    }
    let directory = tar(&[
        ("d", EntryKind::Directory, "", b""),
        ("h", EntryKind::HardLink, "d", b""),
    ]);
    assert!(matches!(read(&directory), Err(ContextError::HardLink { .. })));
    let nul = read(&tar(&[("\u{1b}[2J/../../x", EntryKind::Regular, "", b"")]))
        .unwrap_err()
        .to_string();
    assert!(nul.contains("\\x1b[2J") && !nul.contains('\u{1b}'), "{nul}");
}

#[test]
fn names_may_be_odd_and_not_too_long() {
    let longest = "n".repeat(255);
    let context = read(&tar(&[
        ("new\nline", EntryKind::Regular, "", b"1"),
        (&longest, EntryKind::Regular, "", b"2"),
        ("*[a]?", EntryKind::Regular, "", b"3"),
    ]));
    assert_eq!(text(&context.unwrap(), "new\nline"), "1");
    assert!(read(&tar(&[(&"n".repeat(256), EntryKind::Regular, "", b"")])).is_err());
    let deep = ["d"; 2047].join("/");
    let context = read(&tar(&[(&deep, EntryKind::Regular, "", b"deep")])).unwrap();
    assert_eq!(text(&context, &deep), "deep");
    assert!(read(&tar(&[(&format!("{deep}/ee"), EntryKind::Regular, "", b"")])).is_err());
}

#[test]
fn a_context_is_bounded() {
    let two = tar(&[
        ("a", EntryKind::Regular, "", b"123"),
        ("b", EntryKind::Regular, "", b"456"),
    ]);
    let limits = |entries, metadata_bytes, content_bytes| ContextLimits {
        entries,
        metadata_bytes,
        content_bytes,
    };
    assert!(read_within(&two, limits(2, 100, 6)).is_ok());
    for limits in [limits(1, 100, 6), limits(2, 1, 6), limits(2, 100, 5)] {
        let error = read_within(&two, limits).unwrap_err();
        assert!(matches!(error, ContextError::TooLarge { .. }), "{error}");
    }
    // Directories that nobody named count, too.
    let implied = tar(&[("a/b/c", EntryKind::Regular, "", b"")]);
    assert!(read_within(&implied, limits(2, 100, 6)).is_err());
    assert!(matches!(
        read(b"no archive at all"),
        Err(ContextError::Archive(_))
    ));
    assert!(matches!(
        read(&two[..600]),
        Err(ContextError::Archive(_) | ContextError::Read(_))
    ));
}

proptest! {
    #[test]
    fn a_damaged_archive_gives_an_error_or_a_tree_but_no_panic(
        damage in proptest::collection::vec((0usize..4096, any::<u8>()), 1..5),
    ) {
        let mut bytes = tar(&[
            ("d/", EntryKind::Directory, "", b""),
            ("d/a", EntryKind::Regular, "", b"content"),
            ("l", EntryKind::Symlink, "d", b""),
            ("h", EntryKind::HardLink, "d/a", b""),
        ]);
        let length = bytes.len();
        for (at, value) in damage {
            bytes[at % length] = value;
        }
        let _ = read(&bytes);
    }
}

/// An archive of files whose contents are in the store.
fn stored(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let mut entry = Entry::new(*path, EntryKind::Regular);
        entry.mtime.seconds = 1;
        entry.xattrs = vec![Xattr {
            name: STORED_CONTENT.into(),
            value: format!("{} {}", Digest::of(content.as_bytes()), content.len()).into_bytes(),
        }];
        writer.begin(&entry).unwrap();
    }
    writer.finish().unwrap()
}

fn put(store: &ContextStore, content: &str) -> Option<Digest> {
    let room = store.reserve(content.len() as u64)?;
    Some(room.fill(&mut content.as_bytes()).unwrap())
}

/// Whether the store has it.
fn has(store: &ContextStore, content: &str) -> bool {
    let content = (Digest::of(content.as_bytes()), content.len() as u64);
    store.missing([content]).is_empty()
}

fn read_stored(bytes: &[u8], store: &ContextStore) -> Result<Context, ContextError> {
    let folder = tempfile::tempdir().unwrap();
    Context::from_tar_and_store(bytes, store, folder.path(), ContextLimits::default())
}

#[test]
fn only_what_is_missing_has_to_be_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 1 << 20).unwrap();
    let (small, large) = ("s".repeat(100), "l".repeat(100_000));
    let sent = tar(&[
        ("small", EntryKind::Regular, "", small.as_bytes()),
        ("d/large", EntryKind::Regular, "", large.as_bytes()),
    ]);
    drop(read_stored(&sent, &store).unwrap());
    assert_eq!(store.bytes(), 100_000, "the small one is not worth it");
    assert!(has(&store, &large) && !has(&store, &small));
    let context = read_stored(&stored(&[("a", &large), ("b/c", &large)]), &store).unwrap();
    assert_eq!(
        (text(&context, "a"), text(&context, "b/c")),
        (large.clone(), large)
    );
    let file = node(&context, "a").unwrap();
    assert_eq!((file.size, file.attributes.mtime.seconds), (100_000, 1));
    assert_eq!(
        file.attributes.xattrs,
        [],
        "what it is has been told, and is no attribute of it"
    );
    let error = read_stored(&stored(&[("b/c", "unknown")]), &store).unwrap_err();
    assert!(matches!(error, ContextError::Missing { .. }), "{error}");
}

#[test]
fn what_does_not_fit_is_there_for_its_context_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 50_000).unwrap();
    let large = "l".repeat(100_000);
    let context = read_stored(&tar(&[("a", EntryKind::Regular, "", large.as_bytes())]), &store).unwrap();
    assert_eq!(text(&context, "a"), large);
    assert_eq!(store.bytes(), 0);
}

#[test]
fn content_that_is_cut_short_or_named_wrong_is_not_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 1000).unwrap();
    for size in [4, 6] {
        let filled = store.reserve(size).unwrap().fill(&mut &b"right"[..]);
        assert!(matches!(filled, Err(ContextStoreError::Size { .. })));
    }
    assert!(store.reserve(1001).is_none());
    drop(store.reserve(1000));
    assert_eq!(store.bytes(), 0);
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the lock");
    put(&store, "right").unwrap();
    let digest = Digest::of(b"right");
    for wrong in [
        format!("{digest}"),
        format!("{digest} x"),
        format!("{digest} 4"),
        "right 5".to_owned(),
    ] {
        let mut writer = Writer::new(Vec::new());
        let mut entry = Entry::new("a", EntryKind::Regular);
        entry.xattrs = vec![Xattr {
            name: STORED_CONTENT.into(),
            value: wrong.clone().into_bytes(),
        }];
        writer.begin(&entry).unwrap();
        let read = read_stored(&writer.finish().unwrap(), &store);
        assert!(read.is_err(), "{wrong}");
    }
}

#[test]
fn what_was_used_least_recently_makes_room_unless_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 9).unwrap();
    for content in ["one", "two", "six"] {
        put(&store, content).unwrap();
    }
    let context = read_stored(&stored(&[("x", "one")]), &store).unwrap();
    assert!(has(&store, "two"));
    put(&store, "ten").unwrap();
    assert_eq!(
        ["one", "two", "six"].map(|content| has(&store, content)),
        [true, true, false]
    );
    assert_eq!(text(&context, "x"), "one");
    assert_eq!(put(&store, "seventy"), None);
    assert_eq!(store.bytes(), 9, "nothing makes room in vain");
    assert_eq!(store.clear(), 6);
    assert_eq!((store.bytes(), text(&context, "x").as_str()), (3, "one"));
    drop(context);
    put(&store, "seventy").unwrap();
    assert_eq!((store.clear(), store.bytes()), (7, 0));
}

#[test]
fn the_store_is_found_again_and_unfinished_files_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 100).unwrap();
    put(&store, "old").unwrap();
    put(&store, "new").unwrap();
    assert!(matches!(
        ContextStore::open(folder.path(), 100),
        Err(ContextStoreError::InUse(_))
    ));
    drop(store);
    let path = |content: &str| folder.path().join(Digest::of(content.as_bytes()).hex());
    let long_ago = SystemTime::now() - Duration::from_secs(100_000);
    fs::File::options()
        .write(true)
        .open(path("old"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    fs::write(folder.path().join("tmp-abc"), "unfinished").unwrap();
    let store = ContextStore::open(folder.path(), 4).unwrap();
    assert!(!folder.path().join("tmp-abc").exists());
    assert!(!path("old").exists(), "it has made room for the smaller limit");
    assert!(has(&store, "new"));
}

fn damage(folder: &Path, content: &str, damaged: &str) {
    fs::write(folder.join(Digest::of(content.as_bytes()).hex()), damaged).unwrap();
}

#[test]
fn damaged_content_is_found_out_and_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::open(folder.path(), 100).unwrap();
    for (content, damaged) in [("right", "wrong"), ("whole", "who")] {
        put(&store, content).unwrap();
        let context = read_stored(&stored(&[("x", content)]), &store).unwrap();
        damage(folder.path(), content, damaged);
        let file = node(&context, "x").unwrap();
        let read = context
            .open(&file)
            .map(|mut reader| reader.read_to_end(&mut Vec::new()));
        assert!(!matches!(read, Ok(Ok(_))), "{content}");
        assert!(!has(&store, content));
        put(&store, content).unwrap();
    }
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_hundred_thousand_files_take_little_memory_and_time() {
    let mut writer = Writer::new(Vec::new());
    for n in 0..100_000 {
        let path = format!("node_modules/package-{}/lib/file-{n}.js", n / 50);
        let content = format!("module.exports = {n};\n");
        let mut entry = Entry::new(path, EntryKind::Regular);
        entry.size = content.len() as u64;
        writer.begin(&entry).unwrap();
        writer.write(content.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let (before, start) = (resident(), Instant::now());
    let context = read(&bytes).unwrap();
    let (taken, grown) = (start.elapsed(), resident().saturating_sub(before));
    println!("100,000 files: {taken:?}, {} KiB", grown >> 10);
    assert_eq!(context.len(), 100_000 + 2 * 2000 + 1);
    assert_eq!(
        text(&context, "node_modules/package-9/lib/file-499.js"),
        "module.exports = 499;\n"
    );
    assert!(grown < 100 << 20, "{grown} bytes");
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}

#[test]
fn what_an_ignore_file_leaves_out_is_taken_out() {
    use dockerfile::pattern::Ignore;
    let mut archive = tar_stream::Writer::new(Vec::new());
    let deep: String = std::iter::repeat_n("d/", 2000).collect();
    for path in ["a", "b/keep", "b/drop", "c/x", &format!("{deep}end")] {
        archive
            .begin(&tar_stream::Entry::new(path, tar_stream::EntryKind::Regular))
            .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let tar = archive.finish().unwrap();
    let mut context = Context::from_tar(tar.as_slice(), folder.path(), ContextLimits::default()).unwrap();
    context.ignore(&Ignore::parse("a\nb\n!b/keep\nc\n").unwrap());
    let is_there = |path: &str| {
        let found = crate::lookup(&context, path.as_bytes(), crate::LastLink::Keep);
        found.unwrap().is_some()
    };
    let expected = [
        ("a", false),
        ("b", true),
        ("b/keep", true),
        ("b/drop", false),
        ("c", false),
        ("d/d", true),
    ];
    assert_eq!(expected.map(|(path, _)| (path, is_there(path))), expected);
    assert!(is_there(&format!("{deep}end")));
}
