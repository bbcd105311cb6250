//! COPY: what goes where, and with which attributes, as BuildKit has it.

use crate::support::{Archive, NOW, Stage, copied, entries, layer, listing, one_file, source, to};
use builder::{
    CopyError, CopyOptions, Digest, Excludes, FileTree, LayerTree, Owner, Source, Times, Timestamp, What,
    source_digest,
};
use dockerfile::Mode;
use tar_stream::{Device, EntryKind, Xattr};

fn context() -> builder::Context {
    Archive::new()
        .file("a.txt", "a")
        .file("b.txt", "b")
        .mode(0o4755)
        .owner(1000, 1000)
        .dir("d", 0o750)
        .file("d/x", "x")
        .dir("d/e", 0o700)
        .file("d/e/y", "y")
        .link("d/link", "../a.txt")
        .link("to-a", "a.txt")
        .link("to-d", "d")
        .context()
}

fn scratch() -> LayerTree {
    LayerTree::default()
}

#[test]
fn a_file_goes_under_its_name_or_the_destinations() {
    let context = context();
    let a = || source(&context, "a.txt");
    let at = |destination: &str| layer(&scratch(), &[a()], &to(destination));
    assert_eq!(at("/x"), ["f 644 0:0 x = a"]);
    assert_eq!(at("/x/"), ["d 755 0:0 x/", "f 644 0:0 x/a.txt = a"]);
    assert_eq!(at("/x/y"), ["d 755 0:0 x/", "f 644 0:0 x/y = a"]);
    assert_eq!(at("/"), ["f 644 0:0 a.txt = a"]);
    assert_eq!(at("/x/."), ["d 755 0:0 x/", "f 644 0:0 x/a.txt = a"]);
    // Set-id bits stay; owners are those of the context: root.
    assert_eq!(
        layer(&scratch(), &[source(&context, "/b.txt")], &to("/b")),
        ["f 4755 0:0 b = b"]
    );
    // A link that is named is followed, and keeps its name.
    assert_eq!(
        layer(&scratch(), &[source(&context, "to-a")], &to("/x/"))
            .last()
            .unwrap(),
        "f 644 0:0 x/to-a = a"
    );
}

#[test]
fn a_mount_shows_nothing_of_what_it_covers() {
    let mut stage = Stage::new();
    let below = Archive::new()
        .dir("src", 0o711)
        .file("src/stale", "s")
        .file("src/a", "old");
    stage.add(&below.tar());
    let context = Archive::new().dir("d", 0o750).file("d/a", "new").context();
    let options = CopyOptions {
        covers: true,
        ..to("/src/")
    };
    let (_, covered) = copied(&stage.tree(), &[source(&context, "d")], &options).unwrap();
    stage.add(&covered);
    assert_eq!(
        listing(&stage.tree()),
        ["d 750 0:0 /src", "f 644 0:0 /src/a = new"]
    );
}

#[test]
fn the_contents_of_a_directory_are_copied_and_not_the_directory() {
    let context = context();
    let expected = [
        "d 755 0:0 new/",
        "d 755 0:0 new/dir/",
        "d 700 0:0 new/dir/e/",
        "f 644 0:0 new/dir/e/y = y",
        "l 777 0:0 new/dir/link -> ../a.txt",
        "f 644 0:0 new/dir/x = x",
    ];
    for (from, destination) in [
        ("d", "/new/dir"),
        ("d/", "/new/dir/"),
        ("/d/.", "/new/dir"),
        ("to-d", "/new/dir"),
    ] {
        assert_eq!(
            layer(&scratch(), &[source(&context, from)], &to(destination)),
            expected,
            "{from}"
        );
    }
    let all = layer(&scratch(), &[source(&context, ".")], &to("/"));
    assert!(
        all.contains(&"d 750 0:0 d/".to_owned()) && all.contains(&"l 777 0:0 to-d -> d".to_owned()),
        "{all:?}"
    );
}

fn stage() -> Stage {
    let base = Archive::new()
        .dir("etc", 0o711)
        .owner(5, 6)
        .file("etc/conf", "old")
        .dir("usr/lib", 0o755)
        .link("lib", "usr/lib")
        .link("conf", "etc/conf")
        .link("dangling", "/made/here")
        .dir("d/e", 0o755)
        .owner(9, 9)
        .file("d/e/old", "old")
        .dir("d/x", 0o755);
    Stage::of(&[base.tar()])
}

#[test]
fn directories_on_the_way_are_repeated_as_they_are() {
    let (context, stage) = (context(), stage());
    let a = || source(&context, "a.txt");
    let at = |destination: &str| layer(&stage.tree(), &[a()], &to(destination));
    assert_eq!(at("/etc/new"), ["d 711 5:6 etc/", "f 644 0:0 etc/new = a"]);
    assert_eq!(at("/etc"), ["d 711 5:6 etc/", "f 644 0:0 etc/a.txt = a"]);
    // Through links, also to what is not there yet.
    let in_lib = [
        "d 755 0:0 usr/",
        "d 755 0:0 usr/lib/",
        "f 644 0:0 usr/lib/a.txt = a",
    ];
    assert_eq!(at("/lib/"), in_lib);
    assert_eq!(at("/lib"), in_lib);
    assert_eq!(
        at("/dangling/"),
        [
            "d 755 0:0 made/",
            "d 755 0:0 made/here/",
            "f 644 0:0 made/here/a.txt = a"
        ]
    );
    assert_eq!(at("/dangling"), ["d 755 0:0 made/", "f 644 0:0 made/here = a"]);
    // A link to a file: what it leads to is replaced.
    assert_eq!(at("/conf"), ["d 711 5:6 etc/", "f 644 0:0 etc/conf = a"]);
}

#[test]
fn the_layer_on_top_of_the_stage_is_what_was_meant() {
    let (context, mut stage) = (context(), stage());
    let (_, archive) = copied(&stage.tree(), &[source(&context, "d/e")], &to("/d/e")).unwrap();
    stage.add(&archive);
    let (_, archive) = copied(&stage.tree(), &[source(&context, "a.txt")], &to("/lib/a")).unwrap();
    stage.add(&archive);
    let lines = listing(&stage.tree());
    for expected in [
        // The directory that contents went to keeps its attributes.
        "d 755 9:9 /d/e",
        "f 644 0:0 /d/e/old = old",
        "f 644 0:0 /d/e/y = y",
        "f 644 0:0 /usr/lib/a = a",
        "l 777 0:0 /lib -> usr/lib",
        "d 711 5:6 /etc",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} is not in {lines:#?}"
        );
    }
}

#[test]
fn a_directory_within_a_source_brings_its_attributes() {
    let (context, stage) = (context(), stage());
    let owner = Some(Owner { uid: 3, gid: 4 });
    let whole = Archive::new().dir("d/e", 0o700).context();
    assert_eq!(
        layer(
            &stage.tree(),
            &[source(&whole, "d")],
            &CopyOptions { owner, ..to("/d") }
        ),
        ["d 755 0:0 d/", "d 700 3:4 d/e/"]
    );
    // What is in the way is told.
    let error = |destination: &str, from: &str| {
        copied(&stage.tree(), &[source(&context, from)], &to(destination))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error("/etc/conf", "d"), "cannot copy to non-directory: /etc/conf");
    assert_eq!(error("/", "."), "cannot replace to directory /d/x with file");
    assert_eq!(error("/etc/conf/x", "a.txt"), "/etc/conf: not a directory");
    let under = Archive::new().file("lib/x", "x").context();
    let refused = copied(&stage.tree(), &[source(&under, "/")], &to("/")).unwrap_err();
    assert_eq!(refused.to_string(), "cannot copy to non-directory: /lib");
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let context = context();
    for (path, message) in [
        ("x", "\"/x\": not found"),
        ("/d/../q/", "\"/q\": not found"),
        ("a.txt/y", "\"/a.txt/y\": not found"),
    ] {
        let error = copied(&scratch(), &[source(&context, path)], &to("/")).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(
            source_digest(&[source(&context, path)], &to("/"))
                .unwrap_err()
                .to_string(),
            message
        );
    }
}

#[test]
fn several_sources_need_a_directory() {
    let context = context();
    let both = || [source(&context, "a.txt"), source(&context, "d")];
    let error = copied(&scratch(), &both(), &to("/x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "When using COPY with more than one source file, the destination must be a directory and end with a /"
    );
    let lines = layer(&scratch(), &both(), &to("/x/"));
    assert_eq!(lines[..2], ["d 755 0:0 x/", "f 644 0:0 x/a.txt = a"]);
    // The later of two counts.
    let other = one_file("a.txt", b"other");
    let lines = layer(
        &scratch(),
        &[source(&context, "a.txt"), source(&other, "a.txt")],
        &to("/x/"),
    );
    assert_eq!(lines, ["d 755 0:0 x/", "f 644 0:0 x/a.txt = other"]);
}

fn pattern<'a>(
    tree: &'a dyn FileTree,
    base: &str,
    matches: &'a dyn Fn(&[u8]) -> bool,
    depth: usize,
) -> Source<'a> {
    Source {
        base: base.into(),
        what: What::Pattern {
            matches,
            depth: Some(depth),
        },
        ..source(tree, "")
    }
}

#[test]
fn wildcards_match_and_links_among_the_matches_are_followed() {
    let context = context();
    let txt = |path: &[u8]| path.ends_with(b".txt") || path == b"to-a";
    let lines = layer(&scratch(), &[pattern(&context, "/", &txt, 0)], &to("/x/"));
    assert_eq!(
        lines,
        [
            "d 755 0:0 x/",
            "f 644 0:0 x/a.txt = a",
            "f 4755 0:0 x/b.txt = b",
            "f 644 0:0 x/to-a = a"
        ]
    );
    let inner = |path: &[u8]| path == b"e/y" || path == b"x";
    let lines = layer(&scratch(), &[pattern(&context, "/to-d", &inner, 1)], &to("/"));
    assert_eq!(lines, ["f 644 0:0 x = x", "f 644 0:0 y = y"]);
    // One match is one file; several need a directory; none is nothing.
    let one = |path: &[u8]| path == b"a.txt";
    assert_eq!(
        layer(&scratch(), &[pattern(&context, "/", &one, 0)], &to("/y")),
        ["f 644 0:0 y = a"]
    );
    let error = copied(&scratch(), &[pattern(&context, "/", &txt, 0)], &to("/y")).unwrap_err();
    assert!(matches!(error, CopyError::ManySources { .. }), "{error}");
    let none = |_: &[u8]| false;
    let (summary, _) = copied(&scratch(), &[pattern(&context, "/", &none, 0)], &to("/y/")).unwrap();
    assert_eq!(summary.entries, 0);
    // Directories that match bring their contents.
    let dirs = |path: &[u8]| path == b"d";
    let lines = layer(&scratch(), &[pattern(&context, "/", &dirs, 0)], &to("/y"));
    assert_eq!(lines[..2], ["d 755 0:0 y/", "d 700 0:0 y/e/"]);
}

struct Patterns {
    excluded: fn(&[u8]) -> bool,
    exceptions: bool,
}

impl Excludes for Patterns {
    fn is_excluded(&self, path: &[u8]) -> bool {
        (self.excluded)(path)
    }

    fn has_exceptions(&self) -> bool {
        self.exceptions
    }
}

#[test]
fn what_is_excluded_stays_away() {
    let context = context();
    let excludes = Patterns {
        excluded: |path| path.starts_with(b"e") || path == b"link",
        exceptions: false,
    };
    let options = CopyOptions {
        excludes: Some(&excludes),
        ..to("/d/")
    };
    assert_eq!(
        layer(&scratch(), &[source(&context, "d")], &options),
        ["d 755 0:0 d/", "f 644 0:0 d/x = x"]
    );
    // `e` and `!e/y`: the directory comes for what is in it, with its attributes.
    let excludes = Patterns {
        excluded: |path| path != b"e/y",
        exceptions: true,
    };
    let options = CopyOptions {
        excludes: Some(&excludes),
        ..to("/d/")
    };
    let expected = ["d 755 0:0 d/", "d 700 0:0 d/e/", "f 644 0:0 d/e/y = y"];
    assert_eq!(layer(&scratch(), &[source(&context, "d")], &options), expected);
    // Matches of a wildcard are left out by their names.
    let txt = |path: &[u8]| path.ends_with(b".txt");
    let excludes = Patterns {
        excluded: |path| path == b"b.txt",
        exceptions: false,
    };
    let options = CopyOptions {
        excludes: Some(&excludes),
        ..to("/")
    };
    assert_eq!(
        layer(&scratch(), &[pattern(&context, "/", &txt, 0)], &options),
        ["f 644 0:0 a.txt = a"]
    );
}

#[test]
fn parents_are_made_up_to_the_pivot() {
    let context = context();
    let with_parents = |base: &str, path: &str| Source {
        parents: true,
        base: base.into(),
        ..source(&context, path)
    };
    let lines = layer(&scratch(), &[with_parents("/", "d/e/y")], &to("/x"));
    assert_eq!(
        lines,
        [
            "d 755 0:0 x/",
            "d 750 0:0 x/d/",
            "d 700 0:0 x/d/e/",
            "f 644 0:0 x/d/e/y = y"
        ]
    );
    let lines = layer(
        &scratch(),
        &[with_parents("/d", "e/y"), with_parents("/d", "x")],
        &to("/x/"),
    );
    assert_eq!(
        lines,
        [
            "d 755 0:0 x/",
            "d 700 0:0 x/e/",
            "f 644 0:0 x/e/y = y",
            "f 644 0:0 x/x = x"
        ]
    );
    let lines = layer(&scratch(), &[with_parents("/", "d/e")], &to("/"));
    assert_eq!(lines, ["d 750 0:0 d/", "d 700 0:0 d/e/", "f 644 0:0 d/e/y = y"]);
    // Links are copied as links.
    assert_eq!(
        layer(&scratch(), &[with_parents("/", "to-a")], &to("/")),
        ["l 777 0:0 to-a -> a.txt"]
    );
    let y = |path: &[u8]| path.ends_with(b"/y");
    let all = Source {
        parents: true,
        what: What::Pattern {
            matches: &y,
            depth: None,
        },
        ..source(&context, "")
    };
    assert_eq!(
        layer(&scratch(), &[all], &to("/")),
        ["d 750 0:0 d/", "d 700 0:0 d/e/", "f 644 0:0 d/e/y = y"]
    );
    let error = copied(&scratch(), &[with_parents("/", "d/q")], &to("/")).unwrap_err();
    assert_eq!(error.to_string(), "\"/d/q\": not found");
}

#[test]
fn owners_and_modes_are_changed() {
    let context = context();
    let options = CopyOptions {
        owner: Some(Owner { uid: 7, gid: 8 }),
        chmod: Some(Mode::parse("u=rwX,go=").unwrap()),
        ..to("/new/d")
    };
    assert_eq!(
        layer(&scratch(), &[source(&context, "d")], &options),
        [
            "d 755 7:8 new/",
            "d 755 7:8 new/d/",
            "d 700 7:8 new/d/e/",
            "f 600 7:8 new/d/e/y = y",
            "l 777 7:8 new/d/link -> ../a.txt",
            "f 600 7:8 new/d/x = x",
        ]
    );
    // A stage's owners stay.
    let other = stage();
    assert_eq!(
        layer(&scratch(), &[source(&other.tree(), "d")], &to("/")),
        ["d 755 9:9 e/", "f 644 0:0 e/old = old", "d 755 0:0 x/"]
    );
}

#[test]
fn times_are_the_sources_or_one_for_all() {
    let context = context();
    let times = |times: Times| {
        let options = CopyOptions::to(b"/x/", times);
        let (_, archive) = copied(&scratch(), &[source(&context, "a.txt")], &options).unwrap();
        let mut reader = tar_stream::Reader::new(archive.as_slice());
        let mut times = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            times.push(entry.mtime.seconds);
        }
        times
    };
    assert_eq!(times(Times::Kept { created: NOW }), [NOW.seconds, 1_000_000]);
    let epoch = Timestamp {
        seconds: 42,
        nanoseconds: 0,
    };
    assert_eq!(times(Times::All(epoch)), [42, 42]);
}

#[test]
fn names_of_one_file_stay_so_and_attributes_come_along() {
    let capability = Xattr {
        name: b"security.capability".to_vec(),
        value: vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    let archive = Archive::new()
        .file("d/ping", "p")
        .with(|entry| entry.xattrs = vec![capability.clone()])
        .hard("d/ping6", "d/ping")
        .kind("d/pipe", EntryKind::Fifo);
    let stage = Stage::of(&[archive.tar()]);
    for tree in [&archive.context() as &dyn FileTree, &stage.tree()] {
        let (summary, made) = copied(&scratch(), &[source(tree, "d")], &to("/bin")).unwrap();
        assert_eq!(
            entries(&made),
            [
                "d 755 0:0 bin/",
                "f 644 0:0 bin/ping = p",
                "h 644 0:0 bin/ping6 -> bin/ping",
                "p 644 0:0 bin/pipe"
            ]
        );
        assert_eq!((summary.entries, summary.content), (4, 1));
        let mut reader = tar_stream::Reader::new(made.as_slice());
        reader.next().unwrap();
        assert_eq!(
            reader.next().unwrap().unwrap().xattrs,
            std::slice::from_ref(&capability)
        );
    }
}

#[test]
fn nothing_becomes_a_whiteout_by_accident() {
    let context = Archive::new()
        .file("d/.wh.passwd", "x")
        .file(".wh..wh..opq", "")
        .context();
    for (from, destination) in [("d", "/etc"), (".wh..wh..opq", "/"), ("d/.wh.passwd", "/x/")] {
        let error = copied(&scratch(), &[source(&context, from)], &to(destination)).unwrap_err();
        assert!(matches!(error, CopyError::WhiteoutName { .. }), "{error}");
    }
    assert!(copied(&scratch(), &[source(&context, "d/.wh.passwd")], &to("/x")).is_ok());
    let error = copied(&scratch(), &[source(&one_file("a", b""), "a")], &to("/.wh.a")).unwrap_err();
    assert!(error.to_string().contains("begin with .wh."), "{error}");
    let zero = Device { major: 0, minor: 0 };
    let devices = Archive::new().kind("a", EntryKind::CharDevice(zero)).context();
    assert!(devices.is_empty());
}

fn digest(archive: &Archive, path: &str, options: &CopyOptions<'_>) -> Digest {
    source_digest(&[source(&archive.context(), path)], options).unwrap()
}

#[test]
fn the_digest_is_that_of_what_is_copied() {
    let base = || Archive::new().dir("d", 0o755).file("d/a", "a").file("other", "o");
    let first = digest(&base(), "d", &to("/x"));
    // Times, the destination, what is not copied, and the directory's own attributes have no part in it.
    let later = base()
        .with(|entry| entry.mtime.seconds = 5)
        .file("more", "m")
        .dir("d", 0o700);
    assert_eq!(digest(&later, "d", &to("/y/z")), first);
    // The same from a stage.
    let stage = Stage::of(&[base().tar()]);
    assert_eq!(
        source_digest(&[source(&stage.tree(), "d")], &to("/")).unwrap(),
        first
    );
    for different in [
        base().file("d/a", "b"),
        base().file("d/a", "a").mode(0o600),
        base().file("d/b", "a"),
        base().hard("d/b", "d/a"),
        base().link("d/a", "a"),
        base().dir("d/e", 0o755),
        base().file("d/a", "a").with(|entry| {
            let (name, value) = (b"user.x".to_vec(), b"y".to_vec());
            entry.xattrs = vec![Xattr { name, value }];
        }),
    ] {
        assert_ne!(digest(&different, "d", &to("/x")), first);
    }
    let owner = Some(Owner { uid: 1, gid: 0 });
    assert_ne!(digest(&base(), "d", &CopyOptions { owner, ..to("/x") }), first);
    // The name of a file counts, that of a directory does not.
    let moved = Archive::new().file("e/a", "a");
    assert_eq!(digest(&moved, "e", &to("/x")), first);
    let two = Archive::new().file("a", "1").file("b", "1");
    assert_ne!(digest(&two, "a", &to("/x/")), digest(&two, "b", &to("/x/")));
}

#[test]
fn what_is_in_a_directory_follows_it() {
    let context = Archive::new()
        .file("a/x", "1")
        .file("a.b", "2")
        .file("a-b/x", "3")
        .context();
    let lines = layer(&scratch(), &[source(&context, ".")], &to("/"));
    let paths: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(paths, ["a/", "a/x", "a-b/", "a-b/x", "a.b"]);
}

#[test]
fn equal_sources_give_equal_bytes() {
    let forward = Archive::new().file("d/b", "b").file("d/a", "a").dir("d/e", 0o755);
    let backward = Archive::new().dir("d/e", 0o755).file("d/a", "a").file("d/b", "b");
    let made = |archive: &Archive| {
        copied(&scratch(), &[source(&archive.context(), "d")], &to("/x"))
            .unwrap()
            .1
    };
    assert_eq!(made(&forward), made(&backward));
}

#[test]
fn a_root_directory_of_another_mode_stays_so() {
    let stage = Stage::of(&[Archive::new().dir("./", 0o711).owner(2, 3).tar()]);
    let lines = layer(&stage.tree(), &[source(&one_file("a", b"a"), "a")], &to("/"));
    assert_eq!(lines, ["d 711 2:3 ./", "f 644 0:0 a = a"]);
}
