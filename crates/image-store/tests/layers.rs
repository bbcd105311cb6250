//! What entries of a layer become in its image, and which layers are refused.

mod fixture;

use erofs::{Device, FileType, Timestamp};
use fixture::{Tar, content, find, header, import_layer, names, refuse_layer};
use tar::{EntryType, Header};

#[test]
fn owners_modes_times_and_contents_arrive() {
    let large: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let mut reader = import_layer(
        Tar::new()
            .dir("./")
            .dir("./bin/")
            .file("./bin/sh", b"#!")
            .file("large", &large)
            .finish(),
    );
    let sh = find(&mut reader, "bin/sh");
    assert_eq!(
        (sh.metadata.mode, sh.metadata.uid, sh.metadata.gid),
        (0o644, 1000, 100)
    );
    assert_eq!(
        sh.metadata.mtime,
        Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 0
        }
    );
    assert_eq!(content(&mut reader, "bin/sh"), b"#!");
    assert_eq!(content(&mut reader, "large"), large);
    assert_eq!(find(&mut reader, "/").metadata.uid, 1000);
}

#[test]
fn devices_and_pipes_arrive_as_data_only() {
    let archive = Tar::new()
        .device(EntryType::Char, "dev/null", 1, 3)
        .device(EntryType::Block, "dev/sda", 8, 0)
        .entry(EntryType::Fifo, "dev/pipe", "", b"");
    let mut reader = import_layer(archive.finish());
    let null = find(&mut reader, "dev/null");
    assert_eq!(
        (null.file_type, null.device),
        (FileType::CharDevice, Some(Device { major: 1, minor: 3 }))
    );
    assert_eq!(find(&mut reader, "dev/sda").file_type, FileType::BlockDevice);
    assert_eq!(find(&mut reader, "dev/pipe").file_type, FileType::Fifo);
}

#[test]
fn links_arrive() {
    let archive = Tar::new()
        .file("bin/[", b"busybox")
        .hard_link("bin/sh", "bin/[")
        .hard_link("./bin/ls", "/bin/[")
        .symlink("absolute", "/etc/../../../shadow")
        .symlink("relative", "../../x");
    let mut reader = import_layer(archive.finish());
    assert_eq!(find(&mut reader, "bin/sh"), find(&mut reader, "bin/["));
    assert_eq!(find(&mut reader, "bin/ls").links, 3);
    assert_eq!(content(&mut reader, "absolute"), b"/etc/../../../shadow");
    assert_eq!(content(&mut reader, "relative"), b"../../x");
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let archive = Tar::new()
        .dir("etc")
        .file("etc/.wh.passwd", b"")
        .file("var/lib/.wh..wh..opq", b"");
    let mut reader = import_layer(
        archive
            .file("var/lib/kept", b"")
            .file("var/.wh..wh.plnk", b"")
            .finish(),
    );
    assert_eq!(names(&mut reader, "etc"), ["passwd"]);
    let whiteout = find(&mut reader, "etc/passwd");
    assert_eq!(
        (whiteout.file_type, whiteout.device),
        (FileType::CharDevice, Some(Device { major: 0, minor: 0 }))
    );
    let opaque = find(&mut reader, "var/lib");
    assert_eq!(
        &*reader.xattr(&opaque, b"trusted.overlay.opaque").unwrap().value,
        b"y"
    );
    assert_eq!(names(&mut reader, "var"), ["lib"]);
    assert_eq!(names(&mut reader, "var/lib"), ["kept"]);
}

#[test]
fn what_the_layer_brings_itself_outlives_its_whiteout_in_any_order() {
    let before = Tar::new()
        .file(".wh.file", b"")
        .file(".wh.dir", b"")
        .file("file", b"new")
        .file("dir/a", b"");
    let after = Tar::new()
        .file("file", b"new")
        .file("dir/a", b"")
        .file(".wh.file", b"")
        .file(".wh.dir", b"");
    for archive in [before, after] {
        let mut reader = import_layer(archive.finish());
        assert_eq!(names(&mut reader, "/"), ["dir", "file"]);
        assert_eq!(content(&mut reader, "file"), b"new");
        assert_eq!(names(&mut reader, "dir"), ["a"]);
        let dir = find(&mut reader, "dir");
        assert!(
            reader.xattr(&dir, b"trusted.overlay.opaque").is_some(),
            "hides the directory below"
        );
    }
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", "a/.wh..", "a/.wh..."] {
        assert!(refuse_layer(Tar::new().file(name, b"").finish()).contains("without the name of a file"));
    }
}

#[test]
fn attributes_with_newlines_arrive_and_forged_overlay_marks_do_not() {
    let capability = [1, 0, 0, 2, b'\n', 4, 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.comment", b"a=b"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.system.nfs4_acl", b"x"),
        ("mtime", b"1234567890.25"),
    ];
    let mut reader = import_layer(
        Tar::new()
            .pax(&records)
            .file("ping", b"")
            .file("next", b"")
            .finish(),
    );
    let ping = find(&mut reader, "ping");
    let names: Vec<String> = ping
        .metadata
        .xattrs
        .iter()
        .map(|xattr| xattr.name.escape_ascii().to_string())
        .collect();
    assert_eq!(names, ["security.capability", "user.comment"]);
    assert_eq!(
        *reader.xattr(&ping, b"security.capability").unwrap().value,
        capability
    );
    assert_eq!(
        ping.metadata.mtime,
        Timestamp {
            seconds: 1_234_567_890,
            nanoseconds: 250_000_000
        }
    );
    assert_eq!(find(&mut reader, "next").metadata.xattrs, []);
}

#[test]
fn pax_records_overrule_the_header() {
    let long = "d/".repeat(100) + "name";
    let records: [(&str, &[u8]); 4] = [
        ("path", long.as_bytes()),
        ("uid", b"4000000000"),
        ("gid", b"3000000"),
        ("size", b"5"),
    ];
    let archive = Tar::new()
        .pax(&records)
        .raw(header(EntryType::Regular, "short", "", 5), b"hello");
    let mut reader = import_layer(
        archive
            .pax(&[("linkpath", long.as_bytes())])
            .symlink("l", "x")
            .finish(),
    );
    let file = find(&mut reader, &long);
    assert_eq!(
        (file.metadata.uid, file.metadata.gid, file.size),
        (4_000_000_000, 3_000_000, 5)
    );
    assert_eq!(content(&mut reader, "l"), long.as_bytes());
}

#[test]
fn gnu_long_names_arrive() {
    let long = "e/".repeat(120) + "name";
    let archive = Tar::new()
        .entry(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            &[long.as_bytes(), b"\0"].concat(),
        )
        .file("cut", b"1")
        .entry(
            EntryType::GNULongLink,
            "././@LongLink",
            "",
            &[long.as_bytes(), b"\0"].concat(),
        )
        .hard_link("hard", "cut");
    let mut reader = import_layer(archive.finish());
    assert_eq!(find(&mut reader, &long), find(&mut reader, "hard"));
}

#[test]
fn sparse_files_of_all_kinds_arrive_with_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = vec![0; 3 << 20];
    expected[..5].copy_from_slice(b"start");
    for n in 0..40 {
        expected[(n + 1) * 65_536..][..4096].fill(n as u8 + 1);
    }
    let sparse = dir.path().join("sparse");
    std::fs::write(&sparse, &expected).unwrap();
    let dig = std::process::Command::new("fallocate")
        .arg("--dig-holes")
        .arg(&sparse)
        .status()
        .unwrap();
    assert!(dig.success());
    for format in [
        "gnu",
        "pax --sparse-version=0.0",
        "pax --sparse-version=0.1",
        "pax --sparse-version=1.0",
    ] {
        let archive = std::process::Command::new("tar")
            .args(["--create", "--sparse", "--directory"])
            .arg(dir.path())
            .args(format!("--format={format}").split(' '))
            .arg("sparse")
            .output()
            .unwrap();
        assert!(archive.status.success(), "{format}");
        assert!(
            archive.stdout.len() < 1 << 20,
            "{format}: tar did not find the holes"
        );
        let mut reader = import_layer(archive.stdout);
        assert!(content(&mut reader, "sparse") == expected, "{format}");
    }
}

#[test]
fn a_sparse_file_of_holes_only_takes_no_room() {
    let mut header = Header::new_gnu();
    header.set_path("holes").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(1 << 30);
    let layout = fixture::Layout::with_layers(&[Tar::new().raw(header, b"").finish()]);
    let store = fixture::Store::new();
    let image = store.store.import_oci_layout(layout.path(), "test").unwrap();
    let metadata = image.layers[0].path.metadata().unwrap();
    assert!(metadata.len() > 1 << 30);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 1 << 20);
}

#[test]
fn paths_that_climb_are_refused_by_name() {
    for path in ["../escaped", "a/../../escaped", "/../escaped", "a/.."] {
        let message = refuse_layer(Tar::new().file(path, b"").finish());
        assert!(
            message.contains(&format!("entry `{path}` climbs with `..`")),
            "{message}"
        );
    }
    let message = refuse_layer(
        Tar::new()
            .file("a", b"")
            .hard_link("b", "../../etc/passwd")
            .finish(),
    );
    assert!(message.contains("entry `../../etc/passwd` climbs"), "{message}");
}

#[test]
fn absolute_names_are_names_inside_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    let archive = Tar::new()
        .file(victim.to_str().unwrap(), b"inside")
        .symlink("link", outside.path().to_str().unwrap())
        .file("link/through", b"inside");
    let mut reader = import_layer(archive.finish());
    assert_eq!(content(&mut reader, victim.to_str().unwrap()), b"inside");
    assert_eq!(
        content(&mut reader, outside.path().join("through").to_str().unwrap()),
        b"inside"
    );
    assert_eq!(
        std::fs::read_dir(outside.path()).unwrap().count(),
        0,
        "nothing was made on this machine"
    );
}

#[test]
fn a_hard_link_to_what_is_not_in_the_layer_is_refused() {
    let message = refuse_layer(Tar::new().hard_link("a", "bin/sh").finish());
    assert!(
        message.contains("hard link `a` points to `bin/sh`, which is not in this image"),
        "{message}"
    );
}

#[test]
fn malformed_archives_are_refused() {
    let good = Tar::new().file("a", &[1; 2000]).finish();
    let mut bad_checksum = good.clone();
    bad_checksum[0] = b'b';
    let unknown = Tar::new().entry(EntryType::new(b'Z'), "z", "", b"").finish();
    let huge_pax = Tar::new()
        .entry(EntryType::XHeader, "x", "", &vec![b' '; (1 << 20) + 1])
        .finish();
    let bad_pax = Tar::new()
        .entry(EntryType::XHeader, "x", "", b"not a record")
        .file("a", b"")
        .finish();
    let bad_sparse = Tar::new()
        .pax(&[("GNU.sparse.map", b"0,10,5,10"), ("GNU.sparse.size", b"100")])
        .file("s", &[0; 20])
        .finish();
    for (archive, expected) in [
        (bad_checksum, "wrong checksum"),
        (
            good[..1500].to_vec(),
            "cannot read the content of `a`: the archive ends inside the entry",
        ),
        (good[..300].to_vec(), "it ends in the middle of an entry"),
        (b"not an archive at all".repeat(100), "no tar header at byte 0"),
        (unknown, "the entry type `Z` is unknown"),
        (huge_pax, "an extended header of 1048577 bytes"),
        (bad_pax, "malformed pax records"),
        (bad_sparse, "its sparse map does not fit its size"),
    ] {
        let message = refuse_layer(archive);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn an_empty_archive_is_an_empty_layer() {
    assert_eq!(names(&mut import_layer(Tar::new().finish()), "/"), [""; 0]);
    assert_eq!(names(&mut import_layer(Vec::new()), "/"), [""; 0]);
}
