//! Packing, unpacking and comparing in a folder of this machine. Owners and devices need root, which these tests have
//! wherever they are run with the others.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use guest_protocol::{
    Change, ChangeKind, ContainerSpec, Mount, MountSource, TmpfsFlags, UnpackSpec, read_frame,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};
use tar_stream::{Device, Entry, EntryKind, Segment, Writer};

use super::trees::{Layers, Tree};
use super::{TaskError, changes, pack, unpack};
use crate::root::Root;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("archive-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn below(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A directory in it as a container's root.
    fn root(&self, name: &str) -> Root {
        fs::create_dir_all(self.below(name)).unwrap();
        Root::new(self.open(name))
    }

    fn tree(&self, name: &str) -> Tree {
        fs::create_dir_all(self.below(name)).unwrap();
        Tree::new(self.open(name))
    }

    fn open(&self, name: &str) -> std::os::fd::OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        open(self.below(name), flags, Mode::empty()).unwrap()
    }

    /// What `work` writes.
    fn output(&self, work: impl FnOnce(File) -> super::Result<()>) -> Vec<u8> {
        let path = self.below("output");
        let options = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
        };
        let mut output = options().unwrap();
        work(output.try_clone().unwrap()).unwrap();
        output.rewind().unwrap();
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn unpack(&self, root: &str, archive: &[u8], spec: &UnpackSpec) -> super::Result<()> {
        let path = self.below("input");
        fs::write(&path, archive).unwrap();
        let root = self.root(root);
        unpack::unpack(&ContainerSpec::default(), &root, spec, File::open(path).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn into(path: &str) -> UnpackSpec {
    UnpackSpec {
        path: path.into(),
        keep_kinds: true,
        owner: None,
    }
}

fn archive(entries: &[(&str, EntryKind, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, text) in entries {
        let mut entry = Entry::new(*path, *kind);
        entry.mode = 0o755;
        let content = if *kind == EntryKind::Regular { *text } else { "" };
        entry.size = content.len() as u64;
        entry.link = if content.is_empty() {
            (*text).into()
        } else {
            Vec::new()
        };
        writer.begin(&entry).unwrap();
        writer.write(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn node(path: &Path, kind: FileType, device: (u32, u32)) {
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, path, kind, mode, makedev(device.0, device.1)).unwrap();
}

/// One of everything.
fn furnish(root: &Path) {
    let long = "n".repeat(200);
    fs::create_dir_all(root.join("dir").join(&long)).unwrap();
    fs::write(root.join("dir").join(&long).join(&long), "deep").unwrap();
    fs::write(root.join("file"), "content").unwrap();
    chown(root.join("file"), Some(1234), Some(3_000_000)).unwrap();
    fs::set_permissions(root.join("file"), Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("file"), root.join("hard")).unwrap();
    symlink("x".repeat(300), root.join("symlink")).unwrap();
    node(&root.join("fifo"), FileType::Fifo, (0, 0));
    node(&root.join("device"), FileType::CharacterDevice, (1, 3));
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 30).unwrap();
}

#[test]
fn what_was_exported_unpacks_to_the_same() {
    let folder = Folder::new("same");
    let from = folder.root("from");
    furnish(&folder.below("from"));
    let exported = folder.output(|output| pack::export(&ContainerSpec::default(), &from, output));
    assert!(exported.len() < 1 << 20, "holes are in the archive");
    folder.root("to");
    folder.unpack("to", &exported, &into("/")).unwrap();
    for name in ["dir", "file", "hard", "fifo", "device", "sparse"] {
        let look = |side: &str| {
            let metadata = fs::symlink_metadata(folder.below(side).join(name)).unwrap();
            let owner = (metadata.uid(), metadata.gid(), metadata.mode());
            let time = (metadata.mtime(), metadata.mtime_nsec());
            (
                owner,
                time,
                metadata.rdev(),
                metadata.is_file().then_some(metadata.len()),
            )
        };
        assert_eq!(look("from"), look("to"), "{name}");
    }
    let to = |name: &str| folder.below("to").join(name);
    assert_eq!(
        fs::metadata(to("file")).unwrap().ino(),
        fs::metadata(to("hard")).unwrap().ino()
    );
    assert_eq!(fs::read_link(to("symlink")).unwrap().as_os_str().len(), 300);
    assert!(fs::metadata(to("fifo")).unwrap().file_type().is_fifo());
    assert!(!to("socket").exists());
    let sparse = File::open(to("sparse")).unwrap();
    let mut middle = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&sparse, &mut middle, 5 << 30).unwrap();
    assert_eq!(&middle, b"middle");
    assert!(sparse.metadata().unwrap().blocks() < 1024);
}

#[test]
fn an_archive_reaches_nothing_outside_of_the_root() {
    let folder = Folder::new("outside");
    folder.root("root/tmp");
    fs::write(folder.below("secret"), "secret").unwrap();
    for path in ["../x", "a/../../x", "/../x"] {
        let error = folder.unpack(
            "root",
            &archive(&[(path, EntryKind::Regular, "x")]),
            &into("/tmp"),
        );
        assert!(
            matches!(error, Err(TaskError::Outside { .. })),
            "{path}: {error:?}"
        );
    }
    let through = archive(&[
        ("up", EntryKind::Symlink, "../../../../.."),
        ("up/secret", EntryKind::Regular, "inside"),
        ("abs", EntryKind::Symlink, "/"),
        ("abs/other", EntryKind::Regular, "inside"),
    ]);
    folder.unpack("root", &through, &into("/tmp")).unwrap();
    assert_eq!(fs::read_to_string(folder.below("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(folder.below("root/secret")).unwrap(), "inside");
    assert_eq!(fs::read_to_string(folder.below("root/other")).unwrap(), "inside");
    let linked = archive(&[("stolen", EntryKind::HardLink, "../../secret")]);
    assert!(folder.unpack("root", &linked, &into("/tmp")).is_err());
}

#[test]
fn what_is_in_the_way_is_replaced_unless_kinds_are_kept() {
    let folder = Folder::new("replace");
    folder.root("root/dir/full/of/things");
    fs::write(folder.below("root/file"), "old").unwrap();
    symlink("file", folder.below("root/link")).unwrap();
    let over_directory = archive(&[("dir", EntryKind::Regular, "now a file")]);
    let error = folder.unpack("root", &over_directory, &into("/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot overwrite directory \"dir\" with non-directory"
    );
    let over_file = archive(&[("file", EntryKind::Directory, "")]);
    assert!(folder.unpack("root", &over_file, &into("/")).is_err());
    let free = UnpackSpec {
        keep_kinds: false,
        ..into("/")
    };
    folder.unpack("root", &over_directory, &free).unwrap();
    assert_eq!(
        fs::read_to_string(folder.below("root/dir")).unwrap(),
        "now a file"
    );
    let over_link = archive(&[("link", EntryKind::Regular, "new")]);
    folder.unpack("root", &over_link, &into("/")).unwrap();
    assert_eq!(fs::read_to_string(folder.below("root/file")).unwrap(), "old");
    assert_eq!(fs::read_to_string(folder.below("root/link")).unwrap(), "new");
}

#[test]
fn everything_can_belong_to_a_user_of_the_container() {
    let folder = Folder::new("owner");
    folder.root("root/etc");
    fs::write(folder.below("root/etc/passwd"), "web:x:33:44::/:/bin/sh\n").unwrap();
    let spec = UnpackSpec {
        owner: Some("web".into()),
        ..into("/")
    };
    let archive = archive(&[("a", EntryKind::Regular, "x"), ("l", EntryKind::Symlink, "a")]);
    folder.unpack("root", &archive, &spec).unwrap();
    for name in ["a", "l"] {
        let metadata = fs::symlink_metadata(folder.below("root").join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (33, 44));
    }
    let nobody = UnpackSpec {
        owner: Some("bob".into()),
        ..into("/")
    };
    assert!(matches!(
        folder.unpack("root", &archive, &nobody),
        Err(TaskError::User(_))
    ));
}

#[test]
fn an_archive_of_zeros_takes_no_room() {
    let folder = Folder::new("zeros");
    let mut entry = Entry::new("zeros", EntryKind::Regular);
    entry.size = 1 << 40;
    let end = Segment {
        offset: (1 << 40) - (1 << 20),
        length: 1 << 20,
    };
    assert!(entry.set_segments(vec![end]));
    let mut writer = Writer::new(Vec::new());
    writer.begin(&entry).unwrap();
    writer.write(&vec![0; 1 << 20]).unwrap();
    let archive = writer.finish().unwrap();
    folder.root("root");
    folder.unpack("root", &archive, &into("/")).unwrap();
    let metadata = fs::metadata(folder.below("root/zeros")).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 40, 0));
}

#[test]
fn layers_are_compared_as_docker_does() {
    let folder = Folder::new("layers");
    let layers = Layers {
        upper: folder.tree("upper"),
        lower: Some(folder.tree("lower")),
    };
    let both = |name: &str| [folder.below("lower").join(name), folder.below("upper").join(name)];
    for directory in ["same", "moded", "proc", "data"] {
        for path in both(directory) {
            fs::create_dir(path).unwrap();
        }
    }
    fs::set_permissions(folder.below("upper/moded"), Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.below("lower/same/gone"), "").unwrap();
    node(
        &folder.below("upper/same/gone"),
        FileType::CharacterDevice,
        (0, 0),
    );
    node(
        &folder.below("upper/never-there"),
        FileType::CharacterDevice,
        (0, 0),
    );
    fs::write(folder.below("lower/file"), "1").unwrap();
    fs::write(folder.below("upper/file"), "22").unwrap();
    fs::create_dir_all(folder.below("upper/new/below")).unwrap();
    fs::write(folder.below("upper/proc/x"), "").unwrap();
    fs::write(folder.below("upper/data/x"), "").unwrap();
    fs::write(folder.below("lower/kind"), "").unwrap();
    fs::create_dir_all(folder.below("upper/kind/inside")).unwrap();
    let mount = Mount {
        target: "/data/".into(),
        source: MountSource::Tmpfs {
            options: String::new(),
            flags: TmpfsFlags {
                no_exec: true,
                no_suid: true,
                no_dev: true,
            },
        },
        read_only: false,
    };
    let container = ContainerSpec {
        mounts: vec![mount],
        ..ContainerSpec::default()
    };
    let frames = folder.output(|output| changes::changes(&container, &layers, output));
    let mut from = frames.as_slice();
    let found: Vec<_> = std::iter::from_fn(|| read_frame::<Change>(&mut from).unwrap())
        .map(|change| (change.kind, change.path))
        .collect();
    let (a, c, d) = (ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted);
    let expected = [
        (c, "/file"),
        (c, "/kind"),
        (a, "/kind/inside"),
        (c, "/moded"),
        (a, "/new"),
        (a, "/new/below"),
        (c, "/same"),
        (d, "/same/gone"),
    ];
    assert_eq!(found, expected.map(|(kind, path)| (kind, path.to_owned())));
}

#[test]
fn a_damaged_archive_is_an_error_that_says_where() {
    let folder = Folder::new("damaged");
    folder.root("root");
    let mut bytes = archive(&[("a", EntryKind::CharDevice(Device { major: 1, minor: 3 }), "")]);
    bytes[0] ^= 1;
    let error = folder.unpack("root", &bytes, &into("/")).unwrap_err();
    assert!(error.to_string().contains("no tar header at byte 0"), "{error}");
    let error = folder.unpack("root", b"\x1f\x8b\x08compressed", &into("/"));
    assert!(matches!(error, Err(TaskError::Compressed("gzip"))), "{error:?}");
}
