//! Host folders, spoken to in FUSE messages.

use std::fs::{self, OpenOptions};

use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fuse_backend_rs::abi::fuse_abi::{EntryOut, Kstatfs, SetattrIn};
use fuse_backend_rs::api::filesystem::{ROOT_ID, SetattrValid};
use tempfile::TempDir;
use vm_memory::ByteValued;

use super::*;
use crate::client::{Client, Reply, read, text};
use crate::{FileServer, ServerState};

const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const LINK: u32 = 13;
const STATFS: u32 = 17;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const REMOVEXATTR: u32 = 24;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FALLOCATE: u32 = 43;
const READDIRPLUS: u32 = 44;
const RENAME2: u32 = 45;
const LSEEK: u32 = 46;

/// Two folders, of which the guest may change one, and a single file; beside them what the guest must not reach.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let host = Host { dir };
        for folder in ["w", "ro"] {
            fs::create_dir(host.path(folder)).unwrap();
            fs::write(host.path(folder).join("file"), "0123456789").unwrap();
            fs::create_dir(host.path(folder).join("sub")).unwrap();
            fs::write(host.path(folder).join("sub/inner"), "inner").unwrap();
        }
        fs::write(host.path("secret"), "secret").unwrap();
        fs::write(host.path("single"), "single").unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(path: &Path) -> File {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .unwrap()
    }

    fn server(&self) -> FileServer {
        let folder = |name: &str, read_only| Folder {
            name: name.to_owned(),
            root: Host::root(&self.path(name)),
            read_only,
        };
        let folders = vec![folder("w", false), folder("ro", true), folder("single", false)];
        FileServer::folders(Folders::new(folders).unwrap())
    }

    fn client(&self) -> Client {
        let mut client = Client::new(self.server());
        client.init();
        client
    }
}

fn named(fixed: usize, name: &str) -> Vec<u8> {
    [vec![0; fixed], text(name)].concat()
}

fn mode_and_name(mode: u32, len: usize, name: &str) -> Vec<u8> {
    let mut body = named(len, name);
    body[..4].copy_from_slice(&mode.to_le_bytes());
    body
}

fn rename(client: &mut Client, from: (u64, &str), to: (u64, &str), flags: u32) -> Reply {
    let head = [&to.0.to_le_bytes()[..], &flags.to_le_bytes(), &[0; 4]].concat();
    client.call(RENAME2, from.0, &[head, text(from.1), text(to.1)].concat())
}

fn link(client: &mut Client, node: u64, parent: u64, name: &str) -> Reply {
    client.call(LINK, parent, &[&node.to_le_bytes()[..], &text(name)].concat())
}

fn set(client: &mut Client, node: u64, valid: SetattrValid, change: impl FnOnce(&mut SetattrIn)) -> Reply {
    let mut attributes = SetattrIn {
        valid: valid.bits(),
        ..SetattrIn::default()
    };
    change(&mut attributes);
    client.call(SETATTR, node, attributes.as_slice())
}

fn set_xattr(client: &mut Client, node: u64, name: &str, value: &[u8]) -> Reply {
    let head = [(value.len() as u32).to_le_bytes(), [0; 4]].concat();
    client.call(SETXATTR, node, &[head, text(name), value.to_vec()].concat())
}

fn get_xattr(client: &mut Client, node: u64, name: &str, size: u32) -> Reply {
    let head = [size.to_le_bytes(), [0; 4]].concat();
    client.call(GETXATTR, node, &[head, text(name)].concat())
}

#[test]
fn folders_stand_at_the_root_under_their_names() {
    let host = Host::new();
    let mut client = host.client();
    let root = client.open_directory(ROOT_ID).unwrap();
    for opcode in [READDIR, READDIRPLUS] {
        assert_eq!(client.names(opcode, ROOT_ID, root, 4096), ["w", "ro", "single"]);
    }
    client.call(RELEASEDIR, ROOT_ID, &[0; 24]).unwrap();
    assert_eq!(client.attributes(ROOT_ID).unwrap().mode, libc::S_IFDIR | 0o555);
    let folder = client.lookup(ROOT_ID, "w").unwrap();
    assert_eq!(folder.attr.ino, fs::metadata(host.path("w")).unwrap().ino());
    assert_eq!(client.lookup(ROOT_ID, "secret").map(|_| ()), Err(libc::ENOENT));
}

#[test]
fn files_are_read_and_written() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    let handle = client.open(file, libc::O_RDWR).unwrap();
    assert_eq!(client.read(file, handle, 2, 100, 100).unwrap(), b"23456789");
    assert_eq!(client.read(file, handle, 2, u32::MAX, 3).unwrap(), b"234");
    assert_eq!(client.read(file, handle, 100, 100, 100).unwrap(), b"");
    assert_eq!(client.write(file, handle, 8, b"new end").unwrap(), 7);
    assert_eq!(fs::read(host.path("w/file")).unwrap(), b"01234567new end");
    assert_eq!(client.attributes(file).unwrap().size, 15);
    assert!(
        client
            .call(20, file, &[&handle.to_le_bytes()[..], &[0; 8]].concat())
            .is_ok(),
        "fsync"
    );
    assert!(
        client
            .call(18, file, &[&handle.to_le_bytes()[..], &[0; 16]].concat())
            .is_ok(),
        "release"
    );
    assert_eq!(client.read(file, handle, 0, 1, 1), Err(libc::EBADF));
}

#[test]
fn appended_data_goes_to_the_end_and_truncation_happens_at_open() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    let append = client.open(file, libc::O_WRONLY | libc::O_APPEND).unwrap();
    fs::write(host.path("w/file"), "by the host ").unwrap();
    client.write(file, append, 0, b"by the guest").unwrap();
    assert_eq!(
        fs::read(host.path("w/file")).unwrap(),
        b"by the host by the guest"
    );
    client.open(file, libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert_eq!(fs::metadata(host.path("w/file")).unwrap().len(), 0);
}

#[test]
fn offsets_and_lengths_beyond_all_bounds_are_errors() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    let handle = client.open(file, libc::O_RDWR).unwrap();
    for offset in [u64::MAX, 1 << 63] {
        assert_eq!(client.read(file, handle, offset, 1, 1), Err(libc::EINVAL));
        assert_eq!(client.write(file, handle, offset, b"x"), Err(libc::EINVAL));
        let resized = set(&mut client, file, SetattrValid::SIZE, |attributes| {
            attributes.size = offset
        });
        assert_eq!(resized, Err(libc::EINVAL));
        let seek = [
            &handle.to_le_bytes()[..],
            &offset.to_le_bytes(),
            &[3, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert!(client.call(LSEEK, file, &seek).is_err());
        let allocate = [handle, offset, offset, 0].map(u64::to_le_bytes).concat();
        assert!(client.call(FALLOCATE, file, &allocate).is_err());
    }
    assert_eq!(fs::read(host.path("w/file")).unwrap(), b"0123456789");
}

#[test]
fn names_that_lead_elsewhere_are_refused_by_every_operation() {
    let host = Host::new();
    let mut client = host.client();
    let folder = client.walk("w");
    let sub = client.walk("w/sub");
    let file = client.walk("w/file");
    for name in [
        "",
        ".",
        "..",
        "sub/x",
        "/x",
        "../secret",
        "sub/../../secret",
        "x/",
    ] {
        for parent in [ROOT_ID, folder, sub] {
            let error: Reply = Err(libc::EINVAL);
            assert_eq!(client.lookup(parent, name).map(|_| vec![]), error, "{name:?}");
            assert_eq!(client.call(MKDIR, parent, &named(8, name)), error, "{name:?}");
            assert_eq!(
                client.call(MKNOD, parent, &mode_and_name(libc::S_IFREG, 16, name)),
                error,
                "{name:?}"
            );
            assert_eq!(client.call(UNLINK, parent, &text(name)), error, "{name:?}");
            assert_eq!(client.call(RMDIR, parent, &text(name)), error, "{name:?}");
            assert_eq!(
                client.create(parent, name, libc::O_RDWR, 0o644).map(|_| vec![]),
                error,
                "{name:?}"
            );
            assert_eq!(
                client.call(SYMLINK, parent, &[text(name), text("t")].concat()),
                error,
                "{name:?}"
            );
            assert_eq!(link(&mut client, file, parent, name), error, "{name:?}");
        }
        assert_eq!(
            rename(&mut client, (folder, "file"), (sub, name), 0),
            Err(libc::EINVAL),
            "{name:?}"
        );
        assert_eq!(
            rename(&mut client, (sub, name), (folder, "y"), 0),
            Err(libc::EINVAL),
            "{name:?}"
        );
    }
    let long = "n".repeat(256);
    assert_eq!(client.lookup(folder, &long).map(|_| ()), Err(libc::ENAMETOOLONG));
    // What follows a NUL is not part of the name.
    let mut hidden = text("file");
    hidden.extend(b"/../../secret\0");
    let entry: EntryOut = read(&client.call(1, folder, &hidden).unwrap());
    assert_eq!(entry.nodeid, file);
    assert_eq!(fs::read(host.path("secret")).unwrap(), b"secret");
}

#[test]
fn symbolic_links_are_the_guests_to_follow() {
    let host = Host::new();
    symlink("../secret", host.path("w/up")).unwrap();
    symlink(host.dir.path(), host.path("w/out")).unwrap();
    let mut client = host.client();
    let folder = client.walk("w");
    let up = client.lookup(folder, "up").unwrap();
    assert_eq!(up.attr.mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(client.call(READLINK, up.nodeid, &[]).unwrap(), b"../secret");
    assert_eq!(client.open(up.nodeid, libc::O_RDONLY), Err(libc::ENXIO));
    assert_eq!(client.open_directory(up.nodeid), Err(libc::ENOTDIR));
    let out = client.walk("w/out");
    assert_eq!(client.lookup(out, "secret").map(|_| ()), Err(libc::ENOTDIR));
    assert!(client.call(MKDIR, out, &named(8, "x")).is_err());
    assert!(
        client.create(folder, "up", libc::O_RDWR, 0o644).is_err(),
        "no write through it"
    );
    let resized = set(&mut client, up.nodeid, SetattrValid::SIZE, |attributes| {
        attributes.size = 0
    });
    assert_eq!(resized, Err(libc::EINVAL));
    let mode = set(&mut client, up.nodeid, SetattrValid::MODE, |attributes| {
        attributes.mode = 0o777
    });
    assert_eq!(mode, Err(libc::EOPNOTSUPP));
    let times = SetattrValid::MTIME;
    set(&mut client, up.nodeid, times, |attributes| attributes.mtime = 5).unwrap();
    assert_eq!(fs::symlink_metadata(host.path("w/up")).unwrap().mtime(), 5);
    let secret = fs::metadata(host.path("secret")).unwrap();
    assert_eq!(
        (secret.len(), secret.mode() & 0o777 != 0o777, secret.mtime() != 5),
        (6, true, true)
    );
    assert_eq!(client.call(READLINK, folder, &[]), Err(libc::EINVAL));
}

#[test]
fn a_read_only_folder_refuses_every_change() {
    let host = Host::new();
    let mut client = host.client();
    let (folder, file, writable) = (client.walk("ro"), client.walk("ro/file"), client.walk("w/file"));
    let refused = Err(libc::EROFS);
    assert_eq!(client.call(MKDIR, folder, &named(8, "new")), refused);
    assert_eq!(
        client.call(MKNOD, folder, &mode_and_name(libc::S_IFREG, 16, "new")),
        refused
    );
    assert_eq!(
        client.create(folder, "new", libc::O_RDWR, 0o644).map(|_| vec![]),
        refused
    );
    assert_eq!(
        client
            .create(folder, "file", libc::O_RDONLY, 0o644)
            .map(|_| vec![]),
        refused
    );
    assert_eq!(
        client.call(SYMLINK, folder, &[text("new"), text("t")].concat()),
        refused
    );
    assert_eq!(link(&mut client, file, folder, "new"), refused);
    assert_eq!(link(&mut client, writable, folder, "new"), refused);
    assert_eq!(client.call(UNLINK, folder, &text("file")), refused);
    assert_eq!(client.call(RMDIR, folder, &text("sub")), refused);
    let root = client.walk("w");
    assert_eq!(rename(&mut client, (folder, "file"), (folder, "new"), 0), refused);
    assert_eq!(rename(&mut client, (folder, "file"), (root, "new"), 0), refused);
    assert_eq!(rename(&mut client, (root, "file"), (folder, "new"), 0), refused);
    for valid in [
        SetattrValid::MODE,
        SetattrValid::UID,
        SetattrValid::SIZE,
        SetattrValid::MTIME_NOW,
    ] {
        assert_eq!(set(&mut client, file, valid, |_| ()), refused, "{valid:?}");
    }
    assert_eq!(set_xattr(&mut client, file, "user.a", b"1"), refused);
    assert_eq!(client.call(REMOVEXATTR, file, &text("user.a")), refused);
    for flags in [
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_RDONLY | libc::O_TRUNC,
        libc::O_RDWR | libc::O_APPEND,
    ] {
        assert_eq!(client.open(file, flags), Err(libc::EROFS), "{flags:o}");
    }
    assert!(client.open(folder, libc::O_RDWR | libc::O_TMPFILE).is_err());
    let handle = client.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(client.read(file, handle, 0, 100, 100).unwrap(), b"0123456789");
    // A flag of the request does not open what the handle is closed for.
    assert_eq!(client.write(file, handle, 0, b"x"), Err(libc::EBADF));
    let allocate = [handle, 0, 4096, 0].map(u64::to_le_bytes).concat();
    assert_eq!(client.call(FALLOCATE, file, &allocate), refused);
    let left: Vec<_> = fs::read_dir(host.path("ro")).unwrap().collect();
    assert_eq!(left.len(), 2);
}

#[test]
fn the_root_itself_cannot_be_changed() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    assert_eq!(client.call(MKDIR, ROOT_ID, &named(8, "new")), Err(libc::EROFS));
    assert_eq!(client.call(RMDIR, ROOT_ID, &text("w")), Err(libc::EROFS));
    assert_eq!(client.call(UNLINK, ROOT_ID, &text("single")), Err(libc::EROFS));
    assert_eq!(
        rename(&mut client, (ROOT_ID, "w"), (ROOT_ID, "v"), 0),
        Err(libc::EROFS)
    );
    assert_eq!(link(&mut client, file, ROOT_ID, "new"), Err(libc::EROFS));
    assert_eq!(
        set(&mut client, ROOT_ID, SetattrValid::MODE, |_| ()),
        Err(libc::EROFS)
    );
    assert_eq!(
        client.create(ROOT_ID, "new", libc::O_RDWR, 0o644).map(|_| ()),
        Err(libc::EROFS)
    );
}

#[test]
fn nothing_moves_from_one_folder_to_another() {
    let host = Host::new();
    let other = tempfile::tempdir().unwrap();
    let folder = |name: &str, path: &Path| Folder {
        name: name.to_owned(),
        root: Host::root(path),
        read_only: false,
    };
    // The same host directory twice, too: the guest sees two folders.
    let folders = vec![
        folder("a", &host.path("w")),
        folder("b", &host.path("w")),
        folder("c", other.path()),
    ];
    let mut client = Client::new(FileServer::folders(Folders::new(folders).unwrap()));
    let (a, b, c) = (client.walk("a"), client.walk("b"), client.walk("c"));
    let file = client.walk("a/file");
    assert_ne!(file, client.walk("b/file"));
    for target in [b, c] {
        assert_eq!(
            rename(&mut client, (a, "file"), (target, "new"), 0),
            Err(libc::EXDEV)
        );
        assert_eq!(link(&mut client, file, target, "new"), Err(libc::EXDEV));
    }
    rename(&mut client, (a, "file"), (a, "moved"), 0).unwrap();
    link(&mut client, file, a, "linked").unwrap();
    assert_eq!(fs::metadata(host.path("w/moved")).unwrap().nlink(), 2);
    assert_eq!(
        rename(&mut client, (a, "moved"), (a, "sub"), 1),
        Err(libc::EEXIST),
        "RENAME_NOREPLACE"
    );
    rename(&mut client, (a, "moved"), (a, "sub"), 2).unwrap();
    assert!(host.path("w/moved").is_dir(), "RENAME_EXCHANGE");
    assert_eq!(
        rename(&mut client, (a, "linked"), (a, "x"), 4),
        Err(libc::EINVAL),
        "RENAME_WHITEOUT"
    );
}

#[test]
fn what_the_guest_makes_has_the_mode_it_asked_for_whatever_the_umask() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let host = Host::new();
    let mut client = host.client();
    let folder = client.walk("w");
    client
        .call(MKDIR, folder, &mode_and_name(0o1777, 8, "dir"))
        .unwrap();
    client
        .call(MKNOD, folder, &mode_and_name(libc::S_IFIFO | 0o666, 16, "fifo"))
        .unwrap();
    client
        .call(
            MKNOD,
            folder,
            &mode_and_name(libc::S_IFSOCK | 0o755, 16, "socket"),
        )
        .unwrap();
    client.create(folder, "suid", libc::O_WRONLY, 0o4755).unwrap();
    client.create(folder, "unreadable", libc::O_RDWR, 0o000).unwrap();
    let mode = |name: &str| {
        fs::metadata(host.path("w").join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("dir"), libc::S_IFDIR | 0o1777);
    assert_eq!(mode("fifo"), libc::S_IFIFO | 0o666);
    assert_eq!(mode("socket"), libc::S_IFSOCK | 0o755);
    assert_eq!(mode("suid"), libc::S_IFREG | 0o4755);
    assert_eq!(mode("unreadable"), libc::S_IFREG);
}

#[test]
fn what_the_guest_makes_belongs_to_whom_made_it() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can give files away");
        return;
    }
    let host = Host::new();
    let mut client = host.client();
    (client.uid, client.gid) = (1234, 5678);
    let folder = client.walk("w");
    client
        .call(MKDIR, folder, &mode_and_name(0o755, 8, "dir"))
        .unwrap();
    client
        .call(MKNOD, folder, &mode_and_name(libc::S_IFIFO | 0o644, 16, "fifo"))
        .unwrap();
    client
        .call(SYMLINK, folder, &[text("symlink"), text("target")].concat())
        .unwrap();
    let (node, _) = client
        .create(folder, "new", libc::O_WRONLY | libc::O_EXCL, 0o6755)
        .unwrap();
    let owner = |name: &str| {
        let metadata = fs::symlink_metadata(host.path("w").join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    for name in ["dir", "fifo", "symlink", "new"] {
        assert_eq!(owner(name), (1234, 5678), "{name}");
    }
    assert_eq!(fs::metadata(host.path("w/new")).unwrap().mode() & 0o7777, 0o6755);
    let attributes = client.attributes(node).unwrap();
    assert_eq!((attributes.uid, attributes.gid), (1234, 5678));
    // Opening what is there changes nothing.
    client.create(folder, "file", libc::O_RDWR, 0o777).unwrap();
    assert_eq!(owner("file"), (0, 0));
    assert_eq!(
        client.create(folder, "file", libc::O_RDWR | libc::O_EXCL, 0o777),
        Err(libc::EEXIST)
    );

    // A directory with the set-group-id bit gives its group to what is made in it.
    fs::set_permissions(host.path("w/sub"), fs::Permissions::from_mode(0o2775)).unwrap();
    std::os::unix::fs::chown(host.path("w/sub"), Some(1), Some(77)).unwrap();
    fs::set_permissions(host.path("w/sub"), fs::Permissions::from_mode(0o2775)).unwrap();
    let sub = client.walk("w/sub");
    client.call(MKDIR, sub, &mode_and_name(0o755, 8, "dir")).unwrap();
    client.create(sub, "new", libc::O_WRONLY, 0o644).unwrap();
    assert_eq!((owner("sub/dir"), owner("sub/new")), ((1234, 77), (1234, 77)));
    assert_eq!(
        fs::metadata(host.path("w/sub/dir")).unwrap().mode() & 0o7777,
        0o2755
    );
}

#[test]
fn attributes_are_set() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    set(&mut client, file, SetattrValid::MODE, |attributes| {
        attributes.mode = 0o100_640
    })
    .unwrap();
    set(&mut client, file, SetattrValid::SIZE, |attributes| {
        attributes.size = 4
    })
    .unwrap();
    let times = SetattrValid::ATIME | SetattrValid::MTIME;
    set(&mut client, file, times, |attributes| {
        (attributes.atime, attributes.mtime, attributes.mtimensec) = (10, 20, 30);
    })
    .unwrap();
    let metadata = fs::metadata(host.path("w/file")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o640, 4));
    assert_eq!(
        (metadata.atime(), metadata.mtime(), metadata.mtime_nsec()),
        (10, 20, 30)
    );
    set(
        &mut client,
        file,
        SetattrValid::MTIME | SetattrValid::MTIME_NOW,
        |_| (),
    )
    .unwrap();
    let metadata = fs::metadata(host.path("w/file")).unwrap();
    assert!(metadata.mtime() > 1_000_000 && metadata.atime() == 10);
    for valid in [SetattrValid::UID, SetattrValid::GID] {
        let nobody = |attributes: &mut SetattrIn| (attributes.uid, attributes.gid) = (u32::MAX, u32::MAX);
        assert_eq!(set(&mut client, file, valid, nobody), Err(libc::EINVAL));
    }
    let sub = client.walk("w/sub");
    assert_eq!(
        set(&mut client, sub, SetattrValid::SIZE, |_| ()),
        Err(libc::EINVAL)
    );
}

#[test]
fn writing_takes_the_set_id_bits_when_the_guest_says_so() {
    let host = Host::new();
    let path = host.path("w/file");
    let mut client = host.client();
    let file = client.walk("w/file");
    let handle = client.open(file, libc::O_RDWR).unwrap();
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    let give = || fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let write = |kill: u32| {
        let mut body = [0; 41];
        body[..8].copy_from_slice(&handle.to_le_bytes());
        body[16] = 1;
        body[20..24].copy_from_slice(&kill.to_le_bytes());
        body
    };
    give();
    client.call(16, file, &write(4)).unwrap();
    assert_eq!(mode(), 0o755, "WRITE with FUSE_WRITE_KILL_SUIDGID");
    give();
    set(
        &mut client,
        file,
        SetattrValid::SIZE | SetattrValid::KILL_SUIDGID,
        |_| (),
    )
    .unwrap();
    assert_eq!(mode(), 0o755, "SETATTR of the size");
    give();
    let open = [(libc::O_WRONLY | libc::O_TRUNC) as u32, 1]
        .map(u32::to_le_bytes)
        .concat();
    client.call(14, file, &open).unwrap();
    assert_eq!(mode(), 0o755, "OPEN that truncates");
}

#[test]
fn device_nodes_cannot_be_made_and_special_files_not_opened() {
    let host = Host::new();
    let mut client = host.client();
    let folder = client.walk("w");
    for mode in [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFDIR, libc::S_IFLNK, 0] {
        let made = client.call(MKNOD, folder, &mode_and_name(mode | 0o666, 16, "node"));
        assert_eq!(made, Err(libc::EPERM), "{mode:o}");
    }
    client
        .call(MKNOD, folder, &mode_and_name(libc::S_IFIFO | 0o666, 16, "fifo"))
        .unwrap();
    assert!(fs::metadata(host.path("w/fifo")).unwrap().file_type().is_fifo());
    let fifo = client.walk("w/fifo");
    // With a writer this would block, and with a device it would act.
    assert_eq!(client.open(fifo, libc::O_RDONLY), Err(libc::ENXIO));
    assert_eq!(
        client.create(folder, "fifo", libc::O_RDWR, 0o644),
        Err(libc::ENXIO)
    );
}

#[test]
fn a_single_file_stands_alone() {
    let host = Host::new();
    let mut client = host.client();
    let single = client.walk("single");
    let handle = client.open(single, libc::O_RDWR).unwrap();
    client.write(single, handle, 6, b"!").unwrap();
    assert_eq!(fs::read(host.path("single")).unwrap(), b"single!");
    assert_eq!(client.lookup(single, "secret").map(|_| ()), Err(libc::ENOTDIR));
    assert_eq!(client.open_directory(single), Err(libc::ENOTDIR));
    let folder = client.walk("w");
    assert_eq!(link(&mut client, single, folder, "x"), Err(libc::EXDEV));
    let entry = client.lookup(ROOT_ID, "single").unwrap();
    assert_eq!(entry.attr.mode & libc::S_IFMT, libc::S_IFREG);
}

#[test]
fn a_directory_is_listed_in_full_however_small_the_replies() {
    let host = Host::new();
    let mut expected: Vec<String> = (0..500)
        .map(|number| format!("{number}-{}", "n".repeat(number / 2)))
        .collect();
    for name in &expected {
        fs::write(host.path("w/sub").join(name), "").unwrap();
    }
    expected.push("inner".to_owned());
    expected.sort();
    let mut client = host.client();
    let sub = client.walk("w/sub");
    for opcode in [READDIR, READDIRPLUS] {
        for room in [450, 1000, 4096, 1 << 17] {
            let handle = client.open_directory(sub).unwrap();
            let mut names = client.names(opcode, sub, handle, room);
            names.sort();
            assert_eq!(names, expected, "opcode {opcode}, {room} bytes a reply");
        }
    }
}

#[test]
fn a_directory_that_is_emptied_while_it_is_listed_is_listed_once() {
    let host = Host::new();
    for number in 0..300 {
        fs::write(host.path("w/sub").join(number.to_string()), "").unwrap();
    }
    let mut client = host.client();
    let sub = client.walk("w/sub");
    let handle = client.open_directory(sub).unwrap();
    let (mut offset, mut removed) = (0, 0);
    loop {
        let batch = client.list(READDIR, sub, handle, offset, 1000).unwrap();
        let Some(last) = batch.last() else { break };
        offset = last.offset;
        for entry in &batch {
            client.call(UNLINK, sub, &text(&entry.name)).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 301);
    let folder = client.walk("w");
    client.call(RMDIR, folder, &text("sub")).unwrap();
}

/// The folders behind a client.
fn nodes_of(folders: &FileServer) -> usize {
    match folders.save() {
        ServerState::Folders(state) => state.nodes.len(),
        ServerState::Layers(_) => panic!("not folders"),
    }
}

#[test]
fn nodes_go_when_they_are_forgotten_and_not_before() {
    let host = Host::new();
    let mut client = host.client();
    let (folder, file) = (client.walk("w"), client.walk("w/file"));
    assert_eq!(client.walk("w/file"), file);
    assert_eq!(nodes_of(&client.server), 1);
    client.forget(file, 1);
    assert!(client.attributes(file).is_ok());
    client.forget(file, 1);
    assert_eq!(client.attributes(file).map(|_| ()), Err(libc::ESTALE));
    assert_ne!(client.walk("w/file"), file, "a number is never used again");

    // Each entry of a READDIRPLUS counts as a lookup, those that found no room do not.
    let handle = client.open_directory(folder).unwrap();
    let listed = client.list(READDIRPLUS, folder, handle, 0, 4096).unwrap();
    assert_eq!((listed.len(), nodes_of(&client.server)), (2, 2));
    for entry in listed {
        let lookups = if entry.name == "file" { 2 } else { 1 };
        client.forget(entry.node.unwrap(), lookups);
    }
    assert_eq!(nodes_of(&client.server), 0);
    let other = client.open_directory(folder).unwrap();
    assert_eq!(client.list(READDIRPLUS, folder, other, 0, 8).unwrap(), []);
    assert_eq!(nodes_of(&client.server), 0);
    for node in [0, ROOT_ID, folder, 12345, u64::MAX] {
        client.forget(node, u64::MAX);
    }
    assert!(client.attributes(folder).is_ok(), "folders are not forgotten");
}

#[test]
fn numbers_that_the_guest_made_up_lead_nowhere() {
    let host = Host::new();
    let mut client = host.client();
    let (folder, file) = (client.walk("w"), client.walk("w/file"));
    let handle = client.open(file, libc::O_RDWR).unwrap();
    for node in [0, 5000, 1 << 40, u64::MAX] {
        assert_eq!(client.lookup(node, "x").map(|_| ()), Err(libc::ESTALE));
        assert_eq!(client.attributes(node).map(|_| ()), Err(libc::ESTALE));
        assert_eq!(client.open(node, 0), Err(libc::ESTALE));
        assert_eq!(client.call(MKDIR, node, &named(8, "x")), Err(libc::ESTALE));
        assert_eq!(
            rename(&mut client, (folder, "file"), (node, "x"), 0),
            Err(libc::ESTALE)
        );
        assert_eq!(link(&mut client, node, folder, "x"), Err(libc::ESTALE));
        assert_eq!(
            client.read(node, handle, 0, 1, 1),
            Err(libc::EBADF),
            "another node's handle"
        );
    }
    for other in [0, handle + 1, u64::MAX] {
        assert_eq!(client.read(file, other, 0, 1, 1), Err(libc::EBADF));
        assert_eq!(client.write(file, other, 0, b"x"), Err(libc::EBADF));
        assert_eq!(client.list(READDIR, folder, other, 0, 4096), Err(libc::EBADF));
    }
    assert_eq!(client.list(READDIR, file, handle, 0, 4096), Err(libc::ENOTDIR));
    assert_eq!(client.read(file, handle, 0, 1, 1).unwrap(), b"0");
}

#[test]
fn noise_of_any_kind_is_survived_and_changes_nothing_outside() {
    let host = Host::new();
    let mut client = host.client();
    let nodes = [
        0,
        1,
        2,
        3,
        client.walk("w/file"),
        client.walk("ro/file"),
        u64::MAX,
    ];
    crate::client::send_noise(&mut client, &nodes);
    assert_eq!(fs::read(host.path("ro/file")).unwrap(), b"0123456789");
    assert_eq!(fs::read(host.path("secret")).unwrap(), b"secret");
    client.init();
    assert!(client.lookup(ROOT_ID, "w").is_ok());
}

#[test]
fn only_attributes_of_the_user_namespace_pass() {
    let host = Host::new();
    let mut client = host.client();
    let file = client.walk("w/file");
    for name in [
        "security.capability",
        "trusted.overlay.opaque",
        "system.posix_acl_access",
    ] {
        assert_eq!(
            set_xattr(&mut client, file, name, b"x"),
            Err(libc::EOPNOTSUPP),
            "{name}"
        );
        assert_eq!(
            get_xattr(&mut client, file, name, 100),
            Err(libc::ENODATA),
            "{name}"
        );
        assert_eq!(
            client.call(REMOVEXATTR, file, &text(name)),
            Err(libc::EOPNOTSUPP),
            "{name}"
        );
    }
    if set_xattr(&mut client, file, "user.color", b"blue") == Err(libc::EOPNOTSUPP) {
        println!("SKIPPED: the temporary folder's file system has no extended attributes");
        return;
    }
    assert_eq!(get_xattr(&mut client, file, "user.color", 100).unwrap(), b"blue");
    assert_eq!(
        get_xattr(&mut client, file, "user.color", 0).unwrap()[..4],
        [4, 0, 0, 0]
    );
    assert_eq!(get_xattr(&mut client, file, "user.color", 3), Err(libc::ERANGE));
    assert_eq!(
        get_xattr(&mut client, file, "user.color", u32::MAX).unwrap(),
        b"blue"
    );
    let list = |client: &mut Client, size: u32| {
        client.call(LISTXATTR, file, &[size, 0].map(u32::to_le_bytes).concat())
    };
    assert_eq!(list(&mut client, 100).unwrap(), b"user.color\0");
    assert_eq!(list(&mut client, 1), Err(libc::ERANGE));
    client.call(REMOVEXATTR, file, &text("user.color")).unwrap();
    assert_eq!(list(&mut client, 100).unwrap(), b"");
}

#[test]
fn a_folder_tells_how_much_room_its_file_system_has() {
    let host = Host::new();
    let mut client = host.client();
    let folder = client.walk("w");
    let space: Kstatfs = read(&client.call(STATFS, folder, &[]).unwrap());
    assert!(space.blocks > 0 && space.bsize > 0 && space.namelen == 255);
    assert!(client.call(STATFS, ROOT_ID, &[]).is_ok());
}

#[test]
fn a_guest_goes_on_after_a_restore() {
    let host = Host::new();
    let mut client = host.client();
    let (folder, file, inner) = (
        client.walk("w"),
        client.walk("w/file"),
        client.walk("w/sub/inner"),
    );
    let handle = client.open(file, libc::O_RDWR | libc::O_TRUNC).unwrap();
    client.write(file, handle, 0, b"kept").unwrap();
    let (gone, gone_handle) = client.create(folder, "gone", libc::O_RDWR, 0o600).unwrap();
    client.call(UNLINK, folder, &text("gone")).unwrap();
    rename(&mut client, (folder, "sub"), (folder, "moved"), 0).unwrap();
    let directory = client.open_directory(folder).unwrap();
    let first = client.list(READDIR, folder, directory, 0, 40).unwrap();

    let json = serde_json::to_string(&client.server.save()).unwrap();
    let state: ServerState = serde_json::from_str(&json).unwrap();
    client.server = host.server();
    client.server.restore(state.clone()).unwrap();

    assert_eq!(
        client.read(file, handle, 0, 100, 100).unwrap(),
        b"kept",
        "not truncated again"
    );
    assert_eq!(client.attributes(inner).unwrap().size, 5);
    assert_eq!(client.walk("w/file"), file);
    assert_eq!(client.attributes(gone).map(|_| ()), Err(libc::ESTALE));
    assert_eq!(client.read(gone, gone_handle, 0, 1, 1), Err(libc::EBADF));
    let rest = client
        .list(READDIR, folder, directory, first[0].offset, 4096)
        .unwrap();
    assert_eq!(rest.len() + first.len(), 2);
    let (new, new_handle) = client.create(folder, "new", libc::O_RDWR, 0o600).unwrap();
    let ServerState::Folders(saved) = state else {
        panic!("not folders")
    };
    assert!(
        saved.nodes.iter().all(|node| node.number < new),
        "numbers are not used again"
    );
    assert!(saved.handles.iter().all(|handle| handle.number < new_handle));
}

#[test]
fn a_damaged_state_leads_nowhere_outside() {
    let host = Host::new();
    symlink(host.dir.path(), host.path("w/out")).unwrap();
    let node = |number, folder, path: &[u8]| NodeState {
        number,
        lookups: 1,
        folder,
        path: Some(path.to_vec()),
    };
    let state = FoldersState {
        next_node: u64::MAX,
        nodes: vec![
            node(10, 0, b"../secret"),
            node(11, 0, b"/etc/passwd"),
            node(12, 0, b"out/secret"),
            node(13, 99, b"file"),
            node(14, 0, b""),
            node(15, 0, b"sub/../../secret"),
            node(u64::MAX, 0, b"file"),
            node(2, 0, b"file"),
            node(16, 0, b"file"),
            node(16, 0, b"sub"),
        ],
        handles: vec![
            HandleState {
                number: u64::MAX,
                node: 16,
                flags: 0,
            },
            HandleState {
                number: 7,
                node: 10,
                flags: 0,
            },
            HandleState {
                number: 8,
                node: 16,
                flags: u32::MAX,
            },
        ],
    };
    let mut client = Client::new(host.server());
    client.server.restore(ServerState::Folders(state)).unwrap();
    assert_eq!(nodes_of(&client.server), 1);
    assert_eq!(client.attributes(16).unwrap().size, 10);
    for number in 10..16 {
        assert_eq!(
            client.attributes(number).map(|_| ()),
            Err(libc::ESTALE),
            "{number}"
        );
    }
    assert_eq!(client.read(16, u64::MAX, 0, 1, 1), Err(libc::EBADF));
    let node = client.walk("w/sub");
    assert!(client.open_directory(node).is_ok(), "there are numbers left");
}

#[test]
fn folders_are_directories_or_files_with_names_of_their_own() {
    let host = Host::new();
    let folder = |name: &str, path: &Path| Folder {
        name: name.to_owned(),
        root: Host::root(path),
        read_only: true,
    };
    let refused = |folders| Folders::new(folders).err().unwrap();
    let w = host.path("w");
    assert!(matches!(refused(vec![folder("a/b", &w)]), FoldersError::Name(_)));
    assert!(matches!(
        refused(vec![folder("a", &w), folder("a", &w)]),
        FoldersError::Duplicate { .. }
    ));
    let null = Path::new("/dev/null");
    assert!(matches!(
        refused(vec![folder("a", null)]),
        FoldersError::Kind { .. }
    ));
}
