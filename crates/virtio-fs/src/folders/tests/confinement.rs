//! The guest reaches what was shared, as it was shared, and nothing else.

use super::*;

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
