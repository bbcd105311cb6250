//! Saving what a guest knows, and going on from there.

use super::*;

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
