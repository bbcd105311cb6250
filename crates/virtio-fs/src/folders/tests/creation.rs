//! What the guest makes: owner, group and mode.

use super::*;

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
