//! Reading, writing and attributes of files.

use super::*;

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
