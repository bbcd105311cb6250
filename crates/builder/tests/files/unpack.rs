//! ADD of local archives.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Archive, Stage, copied, layer, listing, one_file, source, to};
use proptest::prelude::*;

use builder::{CopyError, CopyOptions, LayerTree, Owner, Source};
use dockerfile::Mode;
use tar_stream::{Device, EntryKind, Segment, Writer, Xattr};

fn added(stage: &LayerTree, archive: &[u8], options: &CopyOptions<'_>) -> Result<Vec<String>, CopyError> {
    let context = one_file("x.tar", archive);
    let add = Source {
        unpack: true,
        ..source(&context, "x.tar")
    };
    copied(stage, &[add], options).map(|(_, made)| crate::support::entries(&made))
}

fn scratch() -> LayerTree {
    LayerTree::default()
}

fn some() -> Archive {
    Archive::new()
        .dir("./", 0o700)
        .dir("bin", 0o711)
        .owner(1, 2)
        .file("bin/tool", "t")
        .mode(0o4755)
        .owner(3, 4)
        .hard("bin/same", "bin/tool")
        .link("sbin", "bin")
        .file("sbin/through", "x")
        .file("implied/file", "i")
}

const EXPECTED: [&str; 8] = [
    "d 755 0:0 opt/",
    "d 711 1:2 opt/bin/",
    "f 4755 3:4 opt/bin/same = t",
    "f 644 0:0 opt/bin/through = x",
    "h 4755 3:4 opt/bin/tool -> opt/bin/same",
    "d 755 0:0 opt/implied/",
    "f 644 0:0 opt/implied/file = i",
    "l 777 0:0 opt/sbin -> bin",
];

#[test]
fn an_archive_is_unpacked_however_it_is_compressed() {
    let tar = some().tar();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for archive in [tar.clone(), gzip.finish().unwrap()] {
        for destination in ["/opt", "/opt/"] {
            assert_eq!(added(&scratch(), &archive, &to(destination)).unwrap(), EXPECTED);
        }
    }
    // As hard as their usual options make it.
    for compress in ["xz -9e", "zstd --ultra -22 --long=27"] {
        let mut words = compress.split(' ');
        let mut compressing = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        compressing.stdin.take().unwrap().write_all(&tar).unwrap();
        let archive = compressing.wait_with_output().unwrap().stdout;
        assert_eq!(
            added(&scratch(), &archive, &to("/opt")).unwrap(),
            EXPECTED,
            "{compress}"
        );
    }
    // COPY does not.
    let lines = layer(
        &scratch(),
        &[source(&one_file("x", b"no archive"), "x")],
        &to("/opt/"),
    );
    assert_eq!(lines[1], "f 644 0:0 opt/x = no archive");
}

#[test]
fn what_is_no_archive_is_copied() {
    for content in [&b""[..], b"text", b"BZh9 no bzip2", &[0; 2048]] {
        let lines = added(&scratch(), content, &to("/x")).unwrap();
        assert_eq!(
            lines,
            [format!("f 644 0:0 x = {}", String::from_utf8_lossy(content))]
        );
    }
    let mut cut = some().tar();
    cut.truncate(1600);
    let error = added(&scratch(), &cut, &to("/x")).unwrap_err();
    assert!(matches!(error, CopyError::Archive { .. }), "{error}");
}

#[test]
fn names_are_resolved_beneath_the_destination() {
    let base = Archive::new()
        .dir("opt", 0o750)
        .link("opt/abs", "/inner")
        .link("opt/up", "../../../inner")
        .dir("opt/inner", 0o711)
        .dir("inner", 0o777)
        .link("to-opt", "opt")
        .file("opt/old", "old");
    let stage = Stage::of(&[base.tar()]);
    let archive = Archive::new()
        .file("abs/a", "a")
        .file("up/b", "b")
        .file("/c", "c")
        .file("x/../d", "d")
        .tar();
    let expected = [
        "d 750 0:0 opt/",
        "f 644 0:0 opt/c = c",
        "f 644 0:0 opt/d = d",
        "d 711 0:0 opt/inner/",
        "f 644 0:0 opt/inner/a = a",
        "f 644 0:0 opt/inner/b = b",
    ];
    assert_eq!(added(&stage.tree(), &archive, &to("/opt")).unwrap(), expected);
    assert_eq!(added(&stage.tree(), &archive, &to("/to-opt")).unwrap(), expected);
    for path in ["../x", "a/../../x", "/../x"] {
        let error = added(&stage.tree(), &Archive::new().file(path, "").tar(), &to("/opt")).unwrap_err();
        assert!(
            error.to_string().contains("leads out of the destination"),
            "{error}"
        );
    }
    for target in ["../inner", "nothing", "inner"] {
        let error = added(
            &stage.tree(),
            &Archive::new().hard("h", target).tar(),
            &to("/opt"),
        )
        .unwrap_err();
        assert!(matches!(error, CopyError::ArchiveEntry { .. }), "{error}");
    }
    // A hard link to a file of a layer below: both names are of this layer then.
    let lines = added(
        &stage.tree(),
        &Archive::new().hard("new", "old").tar(),
        &to("/opt"),
    )
    .unwrap();
    assert_eq!(
        lines,
        [
            "d 750 0:0 opt/",
            "f 644 0:0 opt/new = old",
            "h 644 0:0 opt/old -> opt/new"
        ]
    );
    let error = added(&stage.tree(), &archive, &to("/opt/old")).unwrap_err();
    assert_eq!(error.to_string(), "/opt/old: not a directory");
}

#[test]
fn what_is_there_is_replaced_and_directories_are_merged() {
    let base = Archive::new()
        .dir("a", 0o755)
        .file("a/lower", "l")
        .dir("b", 0o755)
        .file("b/lower", "l")
        .file("c", "c")
        .link("d", "a");
    let mut stage = Stage::of(&[base.tar()]);
    let archive = Archive::new()
        .dir("a", 0o700)
        .file("a/upper", "u")
        // A file in the place of a directory, and a directory again in the place of that.
        .file("b", "file")
        .dir("b", 0o711)
        .file("b/upper", "u")
        .dir("c", 0o755)
        .file("c/x", "x")
        .dir("d", 0o755)
        .file("d/y", "y");
    let (_, made) = copied(
        &stage.tree(),
        &[Source {
            unpack: true,
            ..source(&one_file("x", &archive.tar()), "x")
        }],
        &to("/"),
    )
    .unwrap();
    stage.add(&made);
    assert_eq!(
        listing(&stage.tree()),
        [
            "d 700 0:0 /a",
            "f 644 0:0 /a/lower = l",
            "f 644 0:0 /a/upper = u",
            "d 711 0:0 /b",
            "f 644 0:0 /b/upper = u",
            "d 755 0:0 /c",
            "f 644 0:0 /c/x = x",
            "d 755 0:0 /d",
            "f 644 0:0 /d/y = y",
        ]
    );
}

#[test]
fn owners_may_be_changed_and_devices_are_left_out() {
    let null = Device { major: 1, minor: 3 };
    let zero = Device { major: 0, minor: 0 };
    let archive = Archive::new()
        .file("a", "a")
        .owner(5, 5)
        .kind("null", EntryKind::CharDevice(null))
        .kind("gone", EntryKind::CharDevice(zero))
        .kind("disk", EntryKind::BlockDevice(null))
        .kind("pipe", EntryKind::Fifo);
    let options = CopyOptions {
        owner: Some(Owner { uid: 7, gid: 8 }),
        chmod: Some(Mode::parse("777").unwrap()),
        ..to("/x")
    };
    assert_eq!(
        added(&scratch(), &archive.tar(), &options).unwrap(),
        ["d 755 7:8 x/", "f 644 7:8 x/a = a"]
    );
}

#[test]
fn a_whiteout_in_an_archive_is_refused() {
    for path in [".wh.passwd", "etc/.wh..wh..opq", ".wh.dir/file"] {
        let error = added(&scratch(), &Archive::new().file(path, "").tar(), &to("/")).unwrap_err();
        assert!(matches!(error, CopyError::WhiteoutName { .. }), "{error}");
    }
}

#[test]
fn an_archive_is_bounded() {
    let options = CopyOptions {
        max_unpacked: 5,
        ..to("/")
    };
    assert!(added(&scratch(), &Archive::new().file("a", "12345").tar(), &options).is_ok());
    let two = Archive::new().file("a", "123").file("b", "456").tar();
    assert!(matches!(
        added(&scratch(), &two, &options),
        Err(CopyError::TooMuch { .. })
    ));
    let options = CopyOptions {
        max_entries: 2,
        ..to("/")
    };
    let three = Archive::new().file("a", "").file("b", "").file("c", "").tar();
    assert!(matches!(
        added(&scratch(), &three, &options),
        Err(CopyError::TooMuch { .. })
    ));
    // What stays in memory of each file.
    let attribute = Xattr {
        name: b"user.much".to_vec(),
        value: vec![b'x'; 900 << 10],
    };
    let mut many = Writer::new(Vec::new());
    for number in 0..600 {
        let mut entry = tar_stream::Entry::new(format!("f{number}").as_str(), EntryKind::Regular);
        entry.xattrs = vec![attribute.clone()];
        many.begin(&entry).unwrap();
    }
    let error = added(&scratch(), &many.finish().unwrap(), &to("/")).unwrap_err();
    assert!(error.to_string().contains("extended attributes"), "{error}");
    // A hole of an exbibyte.
    let mut hole = tar_stream::Entry::new("hole", EntryKind::Regular);
    hole.size = 1 << 60;
    assert!(hole.set_segments(vec![Segment { offset: 0, length: 1 }]));
    let mut writer = Writer::new(Vec::new());
    writer.begin(&hole).unwrap();
    writer.write(b"x").unwrap();
    let error = added(&scratch(), &writer.finish().unwrap(), &to("/")).unwrap_err();
    assert!(matches!(error, CopyError::TooMuch { .. }), "{error}");
}

#[test]
fn links_in_an_archive_cannot_lead_in_circles() {
    let archive = Archive::new().link("a", "b").link("b", "a").file("a/x", "").tar();
    let error = added(&scratch(), &archive, &to("/")).unwrap_err();
    assert!(
        error.to_string().contains("too many levels of symbolic links"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn a_damaged_archive_gives_an_error_or_a_layer_but_no_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut archive = some().tar();
        for (at, value) in damage {
            let at = at.index(archive.len());
            archive[at] = value;
        }
        let context = one_file("x", &archive);
        let add = Source { unpack: true, ..source(&context, "x") };
        let _ = copied(&scratch(), &[add], &to("/opt"));
    }
}
