//! Directories, and the nodes that listing them makes known.

use super::*;

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
