//! Whatever tree is written is the tree that is read, by this crate's reader and by `fsck.erofs`.

use erofs::{Device, FileType, Inode, Metadata, Options, Reader, Special, Timestamp, Writer, Xattr};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, Write};

mod fsck;

/// One file as the test wants it.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Directory,
    Regular(Vec<u8>),
    Symlink(Vec<u8>),
    Special(Special),
}

#[derive(Debug, Clone, PartialEq)]
struct File {
    metadata: Metadata,
    content: Content,
}

type Tree = BTreeMap<Vec<u8>, File>;

fn write<W: Write + Seek>(output: W, files: &[(Vec<u8>, File)], links: &[(Vec<u8>, Vec<u8>)]) -> W {
    let mut writer = Writer::new(
        output,
        Options {
            uuid: [7; 16],
            ..Options::default()
        },
    );
    for (path, File { metadata, content }) in files {
        let metadata = metadata.clone();
        match content {
            Content::Directory => writer.add_directory(path, metadata),
            Content::Regular(data) => {
                writer.add_file(path, metadata, data.len() as u64, &mut data.as_slice())
            }
            Content::Symlink(target) => writer.add_symlink(path, metadata, target),
            Content::Special(special) => writer.add_special(path, metadata, *special),
        }
        .unwrap();
    }
    for (path, target) in links {
        writer.add_hard_link(path, target).unwrap();
    }
    writer.finish().unwrap().0
}

fn read<R: Read + Seek>(reader: &mut Reader<R>) -> Tree {
    let mut tree = Tree::new();
    let root = reader.root().unwrap();
    let mut pending = vec![(Vec::new(), root)];
    while let Some((path, inode)) = pending.pop() {
        let content = match inode.file_type {
            FileType::Directory => Content::Directory,
            FileType::Regular => Content::Regular(read_file(reader, &inode)),
            FileType::Symlink => Content::Symlink(reader.read(&inode).unwrap()),
            FileType::CharDevice => Content::Special(Special::CharDevice(inode.device.unwrap())),
            FileType::BlockDevice => Content::Special(Special::BlockDevice(inode.device.unwrap())),
            FileType::Fifo => Content::Special(Special::Fifo),
            FileType::Socket => Content::Special(Special::Socket),
        };
        if inode.file_type == FileType::Directory {
            for entry in reader.read_dir(&inode).unwrap() {
                let child = reader.inode(entry.nid).unwrap();
                assert_eq!(child.file_type, entry.file_type);
                let path = [path.as_slice(), b"/", &entry.name].concat();
                pending.push((path, child));
            }
        }
        tree.insert(
            path,
            File {
                metadata: inode.metadata,
                content,
            },
        );
    }
    tree
}

fn read_file<R: Read + Seek>(reader: &mut Reader<R>, inode: &Inode) -> Vec<u8> {
    let mut data = Vec::new();
    reader.file(inode).read_to_end(&mut data).unwrap();
    data
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]",
        2 => "[ -.0-~]{1,12}",
        1 => "x{200,255}",
    ]
    .prop_filter("a name of its own", |name| name != "." && name != "..")
    .prop_map(String::into_bytes)
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let xattr = (
        "(user|trusted|security)\\.[a-z]{1,20}",
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3);
    (
        0u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        any::<i32>(),
        0u32..1_000_000_000,
        xattrs,
    )
        .prop_map(|(mode, uid, gid, seconds, nanoseconds, xattrs)| Metadata {
            mode,
            uid,
            gid,
            mtime: Timestamp {
                seconds: i64::from(seconds),
                nanoseconds,
            },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr::new(name.into_bytes(), value))
                .collect(),
        })
}

fn content() -> impl Strategy<Value = Content> {
    let device = || (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Device { major, minor });
    let file = prop_oneof![0usize..3000, 4090usize..4100, 0usize..300_000];
    prop_oneof![
        4 => (file, any::<u8>())
            .prop_map(|(size, seed)| Content::Regular((0..size).map(|n| (n / 7) as u8 ^ seed).collect())),
        1 => Just(Content::Directory),
        1 => "[a-z/.]{1,4000}".prop_map(|target| Content::Symlink(target.into_bytes())),
        1 => prop_oneof![
            device().prop_map(Special::CharDevice),
            device().prop_map(Special::BlockDevice),
            Just(Special::Fifo),
            Just(Special::Socket),
        ]
        .prop_map(Content::Special),
    ]
}

/// Files whose parents are directories: a directory entry for every proper prefix of each path.
fn tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec(name(), 1..5);
    let entry = (
        path,
        metadata(),
        content(),
        proptest::collection::vec(metadata(), 4),
    );
    proptest::collection::vec(entry, 0..40).prop_map(|entries| {
        let mut tree = Tree::new();
        for (components, metadata, content, parents) in entries {
            let mut path = Vec::new();
            for (component, parent) in components[..components.len() - 1].iter().zip(parents) {
                path = [path.as_slice(), b"/", component].concat();
                tree.insert(
                    path.clone(),
                    File {
                        metadata: parent,
                        content: Content::Directory,
                    },
                );
            }
            path = [path.as_slice(), b"/", &components[components.len() - 1]].concat();
            tree.entry(path).or_insert(File { metadata, content });
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_read_as_it_was_written(tree in tree(), root in metadata(), shuffle in any::<u64>()) {
        // Children may come before their directories, as in a tar whose order is not ours to choose.
        let mut files: Vec<_> = tree.clone().into_iter().collect();
        files.sort_by_key(|(path, _)| path.iter().fold(shuffle, |hash, byte| hash.rotate_left(5) ^ u64::from(*byte)));
        files.push((Vec::new(), File { metadata: root.clone(), content: Content::Directory }));
        let image = write(Cursor::new(Vec::new()), &files, &[]);
        let mut reader = Reader::open(image).unwrap();
        let mut expected = tree;
        expected.insert(Vec::new(), File { metadata: root, content: Content::Directory });
        prop_assert_eq!(reader.superblock().inodes, expected.len() as u64);
        prop_assert_eq!(read(&mut reader), expected);
    }

    #[test]
    fn a_damaged_image_gives_an_error_or_other_data_but_no_panic(at in 1024usize..30_000, value in any::<u8>()) {
        let mut image = write(Cursor::new(Vec::new()), &sample(), &[]).into_inner();
        let at = at % image.len();
        image[at] = value;
        if let Ok(mut reader) = Reader::open(Cursor::new(image)) {
            let mut pending: Vec<_> = reader.root().into_iter().collect();
            for _ in 0..100 {
                let Some(inode) = pending.pop() else { break };
                if inode.size < 1 << 20 {
                    let _ = reader.read(&inode);
                }
                for entry in reader.read_dir(&inode).unwrap_or_default() {
                    pending.extend(reader.inode(entry.nid));
                }
            }
        }
    }
}

fn file(mode: u16, content: Content) -> File {
    File {
        metadata: Metadata {
            mode,
            ..Metadata::default()
        },
        content,
    }
}

/// One of everything.
fn sample() -> Vec<(Vec<u8>, File)> {
    let mut files = vec![
        (b"dir".to_vec(), file(0o1777, Content::Directory)),
        (b"dir/empty".to_vec(), file(0o644, Content::Regular(Vec::new()))),
        (
            b"dir/small".to_vec(),
            file(0o4755, Content::Regular(b"hello".to_vec())),
        ),
        (
            b"dir/block".to_vec(),
            file(0o644, Content::Regular(vec![1; 4096])),
        ),
        (
            b"dir/large".to_vec(),
            file(0o644, Content::Regular((0..1_000_000).map(|n| n as u8).collect())),
        ),
        (
            b"dir/zeros".to_vec(),
            file(0o644, Content::Regular(vec![0; 1_000_000])),
        ),
        (
            b"link".to_vec(),
            file(0o777, Content::Symlink(b"/etc/../../x".to_vec())),
        ),
        (b"long".to_vec(), file(0o777, Content::Symlink(vec![b'l'; 4095]))),
        (
            b"null".to_vec(),
            file(
                0o666,
                Content::Special(Special::CharDevice(Device { major: 1, minor: 3 })),
            ),
        ),
        (
            b"disk".to_vec(),
            file(
                0o660,
                Content::Special(Special::BlockDevice(Device {
                    major: 259,
                    minor: 300,
                })),
            ),
        ),
        (b"pipe".to_vec(), file(0o600, Content::Special(Special::Fifo))),
        (b"socket".to_vec(), file(0o600, Content::Special(Special::Socket))),
    ];
    for n in 0..700 {
        files.push((
            format!("many/{n:0100}").into_bytes(),
            file(0o600, Content::Regular(vec![b'm'; n * 3])),
        ));
    }
    let xattrs = (0..20)
        .map(|n| Xattr::new(format!("user.n{n}").into_bytes(), vec![n; 1000]))
        .collect();
    let mut attributed = file(0o644, Content::Regular(b"small, with large attributes".to_vec()));
    attributed.metadata.xattrs = xattrs;
    files.push((b"attributed".to_vec(), attributed));
    let capability = Xattr::new(*b"security.capability", [1, 0, 0, 2, 0, 4, 10, 0, 0, 0]);
    let mut ping = file(0o755, Content::Regular(b"ping".to_vec()));
    ping.metadata.xattrs = vec![capability];
    ping.metadata.mtime = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 123_456_789,
    };
    files.push((b"bin/ping".to_vec(), ping));
    files
}

#[test]
fn one_of_everything_is_accepted_by_fsck() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let links = [
        (b"other/name".to_vec(), b"dir/large".to_vec()),
        (b"null2".to_vec(), b"null".to_vec()),
    ];
    write(image.as_file(), &sample(), &links);
    let mut reader = Reader::open(image.as_file()).unwrap();
    let linked = reader.lookup(b"/other/name").unwrap().unwrap();
    assert_eq!(Some(&linked), reader.lookup(b"dir/large").unwrap().as_ref());
    assert_eq!(linked.links, 2);
    assert_eq!(reader.lookup(b"dir").unwrap().unwrap().links, 2);
    assert_eq!(reader.root().unwrap().links, 6);
    fsck::check(image.path());
}

#[test]
fn an_empty_image_is_accepted_by_fsck() {
    let image = tempfile::NamedTempFile::new().unwrap();
    write(image.as_file(), &[], &[]);
    fsck::check(image.path());
}

#[test]
fn equal_entries_give_equal_bytes() {
    let [a, b] = [(); 2].map(|()| write(Cursor::new(Vec::new()), &sample(), &[]).into_inner());
    assert!(a == b);
}

#[test]
fn zeros_take_no_room_in_the_image_file() {
    use std::os::unix::fs::MetadataExt;
    let image = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(&image, Options::default());
    writer
        .add_file(b"zeros", Metadata::default(), 1 << 28, &mut std::io::repeat(0))
        .unwrap();
    let (_, summary) = writer.finish().unwrap();
    let metadata = image.metadata().unwrap();
    assert_eq!(metadata.len(), summary.size);
    assert!(summary.size > 1 << 28 && metadata.blocks() * 512 < 1 << 20);
}

/// More than stays in memory, and more names in one directory than are sorted at once.
#[test]
fn an_image_is_the_same_whether_its_tree_was_in_memory_or_in_a_file() {
    fn fill<W: Write + Seek>(mut writer: Writer<W>) -> W {
        let metadata = |n: u32| Metadata {
            mode: 0o640,
            uid: n,
            xattrs: match n % 1000 {
                0 => vec![Xattr::new(*b"user.n", n.to_string().into_bytes())],
                _ => Vec::new(),
            },
            ..Metadata::default()
        };
        for n in 0..150_000u32 {
            let scattered = n.wrapping_mul(2_654_435_761);
            let path = match n % 3 {
                0 => format!("a directory with many names/a name that is not short {scattered:x}"),
                1 => format!("{}/{}/{scattered:x}", scattered % 50, scattered % 17),
                _ => format!("{}/{scattered}", scattered % 500),
            };
            let content = n.to_le_bytes();
            writer
                .add_file(path.as_bytes(), metadata(n), 4, &mut content.as_slice())
                .unwrap();
            if n % 9999 == 0 {
                writer
                    .add_hard_link(format!("link {n}").as_bytes(), path.as_bytes())
                    .unwrap();
            }
        }
        for n in 0..20 {
            writer
                .add_special(format!("{n}/{n}").as_bytes(), metadata(n), Special::Fifo)
                .unwrap();
        }
        writer.finish().unwrap().0
    }
    let in_memory = fill(Writer::new(Cursor::new(Vec::new()), Options::default())).into_inner();
    let (image, scratch) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let kept = scratch.try_clone().unwrap();
    let mut image = fill(Writer::with_scratch(image, Options::default(), kept));
    assert!(scratch.metadata().unwrap().len() > 8 << 20);
    let mut written = Vec::new();
    image.rewind().unwrap();
    image.read_to_end(&mut written).unwrap();
    assert!(written == in_memory, "the images differ");
    let mut reader = Reader::open(image).unwrap();
    let directory = reader.lookup(b"a directory with many names").unwrap().unwrap();
    let names = reader.read_dir(&directory).unwrap();
    assert_eq!(names.len(), 50_000);
    assert!(names.is_sorted_by(|a, b| a.name < b.name));
}
