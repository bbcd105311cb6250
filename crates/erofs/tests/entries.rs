//! What entries mean: replacing, linking, going through symbolic links, limits.

use erofs::{
    Device, FileType, Inode, Limits, Metadata, Options, PathError, Reader, Special, TreeError, WriteError,
    Writer, Xattr,
};
use std::io::Cursor;

type Image = Cursor<Vec<u8>>;

fn writer() -> Writer<Image> {
    Writer::new(Cursor::new(Vec::new()), Options::default())
}

fn add(writer: &mut Writer<Image>, path: &str, content: &[u8]) -> Result<(), WriteError> {
    writer.add_file(path.as_bytes(), mode(0o644), content.len() as u64, &mut &*content)
}

fn mode(mode: u16) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default()
    }
}

fn finish(writer: Writer<Image>) -> Reader<Image> {
    Reader::open(writer.finish().unwrap().0).unwrap()
}

fn find(reader: &mut Reader<Image>, path: &str) -> Inode {
    reader
        .lookup(path.as_bytes())
        .unwrap()
        .unwrap_or_else(|| panic!("no {path}"))
}

fn names(reader: &mut Reader<Image>, path: &str) -> Vec<String> {
    let directory = find(reader, path);
    let entries = reader.read_dir(&directory).unwrap();
    entries
        .into_iter()
        .map(|entry| String::from_utf8(entry.name).unwrap())
        .collect()
}

#[test]
fn a_later_file_replaces_an_earlier_one() {
    let mut writer = writer();
    add(&mut writer, "a", b"first").unwrap();
    add(&mut writer, "./a", &[b'2'; 5000]).unwrap();
    let mut reader = finish(writer);
    let inode = find(&mut reader, "a");
    assert_eq!(reader.read(&inode).unwrap(), [b'2'; 5000]);
    assert_eq!(reader.superblock().inodes, 2);
}

#[test]
fn a_file_in_the_stead_of_a_directory_removes_what_was_in_it() {
    let mut writer = writer();
    add(&mut writer, "a/b/c", b"1").unwrap();
    writer.add_hard_link(b"kept", b"a/b/c").unwrap();
    add(&mut writer, "a", b"2").unwrap();
    let mut reader = finish(writer);
    assert_eq!(names(&mut reader, "/"), ["a", "kept"]);
    assert_eq!(find(&mut reader, "kept").links, 1);
}

#[test]
fn a_directory_in_the_stead_of_a_directory_keeps_what_was_in_it() {
    let mut writer = writer();
    add(&mut writer, "a/b", b"1").unwrap();
    writer.add_directory(b"/a/", mode(0o700)).unwrap();
    let mut reader = finish(writer);
    assert_eq!(names(&mut reader, "a"), ["b"]);
    assert_eq!(find(&mut reader, "a").metadata.mode, 0o700);
}

#[test]
fn missing_directories_are_implied() {
    let mut writer = writer();
    add(&mut writer, "a/b/c", b"1").unwrap();
    let mut reader = finish(writer);
    let implied = find(&mut reader, "a/b");
    assert_eq!(
        (implied.file_type, implied.metadata.mode),
        (FileType::Directory, 0o755)
    );
    assert_eq!(implied.links, 2);
    assert_eq!(find(&mut reader, "a").links, 3);
}

#[test]
fn an_entry_beneath_a_symlink_lands_where_it_leads_inside_the_image() {
    let mut writer = writer();
    writer.add_symlink(b"lib", mode(0o777), b"usr/lib").unwrap();
    writer.add_symlink(b"up", mode(0o777), b"/../../../srv").unwrap();
    add(&mut writer, "lib/a", b"1").unwrap();
    add(&mut writer, "up/b", b"2").unwrap();
    writer.add_hard_link(b"c", b"lib/a").unwrap();
    let mut reader = finish(writer);
    assert_eq!(names(&mut reader, "/"), ["c", "lib", "srv", "up", "usr"]);
    assert_eq!(names(&mut reader, "usr/lib"), ["a"]);
    assert_eq!(names(&mut reader, "srv"), ["b"]);
    assert_eq!(find(&mut reader, "lib").file_type, FileType::Symlink);
    assert_eq!(find(&mut reader, "c").links, 2);
}

#[test]
fn loops_of_symlinks_end_in_an_error() {
    let mut writer = writer();
    writer.add_symlink(b"a", mode(0o777), b"b").unwrap();
    writer.add_symlink(b"b", mode(0o777), b"a").unwrap();
    let error = add(&mut writer, "a/x", b"").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::TooManySymlinks { .. })),
        "{error}"
    );
}

#[test]
fn an_entry_beneath_a_file_is_an_error() {
    let mut writer = writer();
    add(&mut writer, "a", b"").unwrap();
    let error = add(&mut writer, "a/b", b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "entry `a/b` lies beneath `a`, which is not a directory"
    );
}

#[test]
fn hard_links_need_a_file_that_is_there() {
    let mut writer = writer();
    writer.add_directory(b"dir", mode(0o755)).unwrap();
    let error = writer.add_hard_link(b"x", b"missing").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::LinkTargetMissing { .. })),
        "{error}"
    );
    let error = writer.add_hard_link(b"x", b"dir").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::LinkToDirectory { .. })),
        "{error}"
    );
    let error = writer.add_hard_link(b"x", b"../etc/shadow").unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::Tree(TreeError::Path(PathError::ParentComponent { .. }))
        ),
        "{error}"
    );
}

#[test]
fn a_hard_link_to_itself_changes_nothing() {
    let mut writer = writer();
    add(&mut writer, "a", b"content").unwrap();
    writer.add_hard_link(b"a", b"./a").unwrap();
    let mut reader = finish(writer);
    let inode = find(&mut reader, "a");
    assert_eq!(
        (inode.links, reader.read(&inode).unwrap()),
        (1, b"content".to_vec())
    );
}

#[test]
fn attributes_can_be_added_later() {
    let mut writer = writer();
    writer.add_directory(b"d", mode(0o750)).unwrap();
    writer
        .set_xattr(b"d", Xattr::new(*b"trusted.overlay.opaque", *b"y"))
        .unwrap();
    assert!(writer.set_xattr(b"e", Xattr::new(*b"user.a", *b"")).is_err());
    assert_eq!(writer.file_type(b"d").unwrap(), Some(FileType::Directory));
    assert_eq!(writer.file_type(b"e/f").unwrap(), None);
    let mut reader = finish(writer);
    let inode = find(&mut reader, "d");
    assert_eq!(inode.metadata.mode, 0o750);
    assert_eq!(
        &*reader.xattr(&inode, b"trusted.overlay.opaque").unwrap().value,
        b"y"
    );
}

#[test]
fn what_no_system_call_accepts_is_refused() {
    let mut writer = writer();
    for target in [b"".as_slice(), b"a\0b", &[b'a'; 4096]] {
        let error = writer.add_symlink(b"l", mode(0o777), target).unwrap_err();
        assert!(matches!(error, WriteError::SymlinkTarget { .. }), "{error}");
    }
    let device = Special::CharDevice(Device {
        major: 4096,
        minor: 0,
    });
    let error = writer.add_special(b"d", mode(0o600), device).unwrap_err();
    assert!(matches!(error, WriteError::DeviceNumber { .. }), "{error}");
    let error = add(&mut writer, "/", b"").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::Path(PathError::Root { .. }))),
        "{error}"
    );
}

#[test]
fn content_that_ends_early_is_an_error() {
    for size in [10, 100_000] {
        let error = writer()
            .add_file(b"a", mode(0o644), size, &mut &b"short"[..])
            .unwrap_err();
        assert!(
            matches!(error, WriteError::Truncated { actual: 5, .. }),
            "{error}"
        );
    }
}

#[test]
fn only_the_announced_bytes_are_taken() {
    let mut writer = writer();
    let mut stream = &b"onetwo"[..];
    writer.add_file(b"a", mode(0o644), 3, &mut stream).unwrap();
    assert_eq!(stream, b"two");
}

#[test]
fn limits_are_kept() {
    let limited = |limits| {
        Writer::new(
            Cursor::new(Vec::new()),
            Options {
                limits,
                ..Options::default()
            },
        )
    };
    let mut few = limited(Limits {
        inodes: 3,
        ..Limits::default()
    });
    add(&mut few, "a/b", b"").unwrap();
    let error = add(&mut few, "c", b"").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::TooManyInodes { limit: 3, .. })),
        "{error}"
    );

    let mut small = limited(Limits {
        image_bytes: 1 << 20,
        ..Limits::default()
    });
    let error = small
        .add_file(b"a", mode(0o644), u64::MAX, &mut std::io::repeat(1))
        .unwrap_err();
    assert!(matches!(error, WriteError::ImageTooLarge { .. }), "{error}");

    let mut terse = limited(Limits {
        metadata_bytes: 1000,
        ..Limits::default()
    });
    let mut attributed = mode(0o644);
    attributed.xattrs.push(Xattr::new(*b"user.a", vec![0; 1000]));
    let error = terse.add_directory(b"a", attributed).unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::MetadataTooLarge { .. })),
        "{error}"
    );
}

#[test]
fn depth_has_an_end() {
    let mut writer = writer();
    let error = add(&mut writer, &"d/".repeat(1100), b"").unwrap_err();
    assert!(
        matches!(error, WriteError::Tree(TreeError::TooDeep { .. })),
        "{error}"
    );
}
