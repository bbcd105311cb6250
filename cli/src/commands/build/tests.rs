//! The archives of folders.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ::dockerfile::pattern::Ignore;
use ::dockerfile::{BuildOptions, ContextFiles, ContextNeed, Graph, Platform};
use rustix::fs::FileType;
use tar_stream::{Entry, EntryKind, Reader};

use super::contents::Known;
use super::folder::{FolderContext, open};
use super::selection::Selection;

/// A folder with these files; a name that ends with a slash is a folder.
fn tree(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("content of {name}")).unwrap();
        }
    }
    folder
}

fn context(folder: &Path, ignore: &str) -> FolderContext {
    FolderContext {
        folder: Some(folder.to_owned()),
        selection: Selection {
            ignore: Ignore::parse(ignore).unwrap(),
            always: [".dockerignore", "Dockerfile"].map(str::to_owned).into(),
            ..Selection::default()
        },
        added: Vec::new(),
        known: Known::default(),
    }
}

fn bytes(context: &FolderContext) -> Vec<u8> {
    let mut archive = Vec::new();
    context.pack(&mut archive).unwrap();
    archive
}

fn entries(context: &FolderContext) -> Vec<(Entry, String)> {
    let archive = bytes(context);
    let mut reader = Reader::new(archive.as_slice());
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = String::new();
        reader.content(&entry).read_to_string(&mut content).unwrap();
        found.push((entry, content));
    }
    found
}

fn paths(context: &FolderContext) -> Vec<String> {
    let name = |(entry, _): (Entry, String)| String::from_utf8(entry.path).unwrap();
    entries(context).into_iter().map(name).collect()
}

/// What a Dockerfile that begins with `FROM scratch` needs.
fn needs(instructions: &str) -> Option<ContextFiles> {
    let text = format!("FROM scratch\n{instructions}\n");
    let dockerfile = ::dockerfile::parse(&text).unwrap();
    let graph = Graph::of(&dockerfile, &BuildOptions::new(Platform::linux("amd64"))).unwrap();
    match graph.context_need() {
        ContextNeed::Everything => None,
        ContextNeed::Files(files) => Some(files),
    }
}

#[test]
fn entries_are_sorted_and_roots() {
    let folder = tree(&["b/z", "b/a", "a.txt", "b.txt", "Dockerfile", "empty/"]);
    let executable = folder.path().join("a.txt");
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o4755)).unwrap();
    let context = context(folder.path(), "");
    assert_eq!(
        paths(&context),
        ["Dockerfile", "a.txt", "b/", "b/a", "b/z", "b.txt", "empty/"]
    );
    for (entry, content) in entries(&context) {
        assert_eq!((entry.uid, entry.gid, entry.mtime.nanoseconds), (0, 0, 0));
        if entry.path == b"a.txt" {
            assert_eq!((entry.mode, content.as_str()), (0o4755, "content of a.txt"));
        }
    }
    assert_eq!(bytes(&context), bytes(&context));
}

#[test]
fn links_are_sent_as_they_are_and_sockets_are_not() {
    let folder = tree(&["file", "folder/x"]);
    symlink("/etc/passwd", folder.path().join("absolute")).unwrap();
    symlink("../..", folder.path().join("folder/up")).unwrap();
    fs::hard_link(folder.path().join("file"), folder.path().join("second")).unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    let found: Vec<(String, EntryKind, String)> = entries(&context(folder.path(), ""))
        .into_iter()
        .map(|(entry, _)| {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(entry.path), entry.kind, text(entry.link))
        })
        .collect();
    let expected = [
        ("absolute", EntryKind::Symlink, "/etc/passwd"),
        ("file", EntryKind::Regular, ""),
        ("folder/", EntryKind::Directory, ""),
        ("folder/up", EntryKind::Symlink, "../.."),
        ("folder/x", EntryKind::Regular, ""),
        ("second", EntryKind::HardLink, "file"),
    ];
    assert_eq!(
        found,
        expected.map(|(path, kind, link)| (path.to_owned(), kind, link.to_owned()))
    );
}

#[test]
fn what_is_ignored_stays_except_for_what_the_build_itself_reads() {
    let folder = tree(&[
        ".dockerignore",
        "Dockerfile",
        "node_modules/deep/x",
        "src/keep/a",
        "src/other",
        "target/release/hull",
        "target/debug",
    ]);
    let found = |ignore: &str| paths(&context(folder.path(), ignore));
    assert_eq!(found("*"), [".dockerignore", "Dockerfile"]);
    assert_eq!(
        found("*\n!src/keep\n!target/release"),
        [
            ".dockerignore",
            "Dockerfile",
            "src/",
            "src/keep/",
            "src/keep/a",
            "target/",
            "target/release/",
            "target/release/hull"
        ]
    );
    assert_eq!(
        found("node_modules\ntarget/*\n!**/hull"),
        [
            ".dockerignore",
            "Dockerfile",
            "src/",
            "src/keep/",
            "src/keep/a",
            "src/other",
            "target/",
            "target/release/",
            "target/release/hull"
        ]
    );
}

#[test]
fn a_folder_is_not_even_read_where_nothing_of_it_is_sent() {
    let reads = |ignore: &str, instructions: &str, folder: &str| {
        let mut context = context(Path::new("/"), ignore);
        context.selection.needed = needs(instructions);
        let walk = context.selection.ignore.walk();
        context.selection.reads(&walk.enter(folder), folder)
    };
    assert!(reads("", "COPY . /", "a"));
    assert!(!reads("a", "COPY . /", "a"));
    assert!(reads("a\n!a/b", "COPY . /", "a"));
    assert!(!reads("", "COPY b /", "a"));
    assert!(reads("", "COPY a/b /", "a"));
    // For what is sent in any case.
    let mut context = context(Path::new("/"), "*");
    context.selection.always = ["a/Dockerfile".to_owned()].into();
    let walk = context.selection.ignore.walk();
    assert!(context.selection.reads(&walk.enter("a"), "a"));
    assert!(!context.selection.reads(&walk.enter("b"), "b"));
}

#[test]
fn only_what_is_needed_is_sent_with_the_folders_above_it() {
    let folder = tree(&[
        ".dockerignore",
        "Dockerfile",
        "big",
        "one/two/file",
        "one/other",
        "package.json",
        "package-lock.json",
        "src/a",
        "src/b/c",
    ]);
    let found = |instructions: &str, ignore: &str| {
        let mut context = context(folder.path(), ignore);
        context.selection.needed = needs(instructions);
        let found = paths(&context);
        assert_eq!(found[..2], [".dockerignore", "Dockerfile"]);
        found[2..].to_vec()
    };
    assert_eq!(
        found("COPY one/two/file /", ""),
        ["one/", "one/two/", "one/two/file"]
    );
    assert_eq!(
        found("COPY package*.json src /x/", "src/b"),
        ["package-lock.json", "package.json", "src/", "src/a"]
    );
    assert_eq!(found("RUN true", ""), [""; 0]);
    assert_eq!(found("COPY missing /", ""), [""; 0]);
    assert_eq!(found("COPY . /", "one\nsrc\n*.json"), ["big"]);
}

#[test]
fn added_files_take_the_place_of_the_folders() {
    let folder = tree(&[".dockerignore", "a"]);
    let mut context = context(folder.path(), "");
    context.added = vec![
        (".dockerfile.x".to_owned(), b"FROM scratch".to_vec()),
        (".dockerignore".to_owned(), b"a".to_vec()),
    ];
    context.selection.always = BTreeSet::new();
    context.selection.replaced = [".dockerfile.x", ".dockerignore"].map(str::to_owned).into();
    assert_eq!(paths(&context), [".dockerfile.x", ".dockerignore", "a"]);
    assert_eq!(entries(&context)[1].1, "a");
    context.folder = None;
    assert_eq!(paths(&context), [".dockerfile.x", ".dockerignore"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tree(&["a"]);
    let mut context = context(folder.path(), "");
    context.folder = Some(PathBuf::from("/nonexistent/folder"));
    let error = context.pack(Vec::new()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/folder"), "{error}");
}

#[test]
fn what_takes_the_place_of_a_file_is_neither_followed_nor_waited_for() {
    let folder = tree(&["file"]);
    let (link, pipe) = (folder.path().join("link"), folder.path().join("pipe"));
    symlink("file", &link).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(open(&folder.path().join("file")).is_ok());
    assert!(open(&link).is_err());
    assert!(!open(&pipe).unwrap().metadata().unwrap().is_file());
}

#[test]
fn names_that_are_no_text_are_sent_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tree(&[]);
    fs::write(folder.path().join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    assert_eq!(entries(&context(folder.path(), ""))[0].0.path, b"\xff\xfe");
}

/// 20,000 files take a fraction of a second; what grows faster than their number would show.
#[test]
fn a_large_folder_is_packed_in_no_time() {
    let folder = tempfile::tempdir().unwrap();
    for outer in 0..200 {
        let inner = folder.path().join(format!("folder-{outer}"));
        fs::create_dir(&inner).unwrap();
        for file in 0..100 {
            fs::write(inner.join(format!("file-{file}")), b"0123456789").unwrap();
        }
    }
    let context = context(folder.path(), "**/*.log\nnode_modules\n!folder-1/x\n*.tmp\n");
    let begin = Instant::now();
    let archive = bytes(&context);
    let took = begin.elapsed();
    eprintln!("20,000 files, {} bytes: {took:?}", archive.len());
    assert_eq!(archive.len(), 200 * 512 + 20_000 * 1024 + 1024);
    assert!(took.as_secs() < 30, "{took:?}");
}
