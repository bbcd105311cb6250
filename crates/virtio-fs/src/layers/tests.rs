//! The layer directory, spoken to in FUSE messages.

use std::io::Write;

use fuse_backend_rs::abi::fuse_abi::{InitOut, OpenOut};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingIn, SetupmappingIn};
use fuse_backend_rs::api::filesystem::OpenOptions;
use vm_memory::ByteValued;

use super::*;
use crate::client::{Client, SMALL, read, text};
use crate::{FileServer, MAX_REQUEST, ServeError, ServerState};

const SETUPMAPPING: u32 = 48;
const REMOVEMAPPING: u32 = 49;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn client() -> Client {
    let files = vec![
        ("base".to_owned(), file(b"0123456789")),
        ("empty".to_owned(), file(b"")),
        ("large".to_owned(), file(&vec![7; 3 << 20])),
    ];
    Client::new(FileServer::layers(LayerDirectory::new(files).unwrap()))
}

/// A window that notes what is asked of it.
#[derive(Default)]
struct Window {
    calls: Vec<Call>,
}

#[derive(Debug, PartialEq, Eq)]
enum Call {
    Map { file_offset: u64, offset: u64, len: u64 },
    Unmap { offset: u64, len: u64 },
}

impl FsCacheReqHandler for Window {
    fn map(&mut self, file_offset: u64, offset: u64, len: u64, flags: u64, _: RawFd) -> io::Result<()> {
        assert_eq!(flags, SetupmappingFlags::READ.bits());
        self.calls.push(Call::Map {
            file_offset,
            offset,
            len,
        });
        Ok(())
    }

    fn unmap(&mut self, requests: Vec<RemovemappingOne>) -> io::Result<()> {
        let calls = requests.iter().map(|part| Call::Unmap {
            offset: part.moffset,
            len: part.len,
        });
        self.calls.extend(calls);
        Ok(())
    }
}

fn map(client: &mut Client, node: u64, mapping: SetupmappingIn) -> (Result<Vec<u8>, i32>, Vec<Call>) {
    let mut window = Window::default();
    let reply = client.call_with(SETUPMAPPING, node, mapping.as_slice(), SMALL, Some(&mut window));
    (reply, window.calls)
}

fn range(file_offset: u64, window_offset: u64) -> SetupmappingIn {
    SetupmappingIn {
        foffset: file_offset,
        moffset: window_offset,
        len: DAX_RANGE,
        flags: 2,
        fh: 0,
    }
}

#[test]
fn files_are_found_with_attributes_that_tell_nothing_of_the_host() {
    let mut client = client();
    let entry = client.lookup(ROOT_ID, "base").unwrap();
    assert_eq!((entry.attr.size, entry.attr.mode), (10, libc::S_IFREG | 0o444));
    assert_eq!((entry.attr.uid, entry.attr.gid, entry.attr.nlink), (0, 0, 1));
    assert_eq!((entry.attr.mtime, entry.attr.ctime, entry.attr.atime), (0, 0, 0));
    assert_eq!((entry.attr.ino, entry.nodeid), (2, 2));
    assert!(entry.entry_valid >= 86400 && entry.attr_valid >= 86400);
    assert_eq!(client.attributes(2).unwrap().size, 10);
    let root = client.attributes(ROOT_ID).unwrap();
    assert_eq!((root.mode, root.uid), (libc::S_IFDIR | 0o555, 0));
}

#[test]
fn a_missing_name_is_not_kept_as_missing() {
    let mut client = client();
    for name in ["", ".", "..", "nope", "base/", "../base", "/etc/passwd"] {
        let entry = client.lookup(ROOT_ID, name).map(|entry| entry.nodeid);
        assert_eq!(entry, Err(libc::ENOENT), "{name:?}");
    }
    assert_eq!(
        client.lookup(2, "base").map(|entry| entry.nodeid),
        Err(libc::ENOTDIR)
    );
}

#[test]
fn files_are_added_all_or_none_and_found_beside_those_that_were_there() {
    let mut client = client();
    let add = |client: &Client, names: &[&str]| {
        let files = names.iter().map(|name| ((*name).to_owned(), file(b"added")));
        client.server.add_layers(files.collect()).unwrap()
    };
    assert!(matches!(add(&client, &["new", "base"]), Err(LayersError::Duplicate { name }) if name == "base"));
    assert!(matches!(
        add(&client, &["new", "new"]),
        Err(LayersError::Duplicate { .. })
    ));
    assert!(matches!(add(&client, &["new", ".."]), Err(LayersError::Name(_))));
    assert_eq!(client.lookup(ROOT_ID, "new").map(drop), Err(libc::ENOENT));
    add(&client, &["new", "newer"]).unwrap();
    for (name, node) in [("base", 2), ("new", 5), ("newer", 6)] {
        assert_eq!(client.lookup(ROOT_ID, name).unwrap().nodeid, node, "{name}");
    }
    assert_eq!(client.read(6, 0, 0, 100, 100).unwrap(), b"added");
    assert_eq!(client.read(2, 0, 0, 4, 100).unwrap(), b"0123");
}

#[test]
fn a_guest_that_can_is_spared_open_and_release() {
    let mut client = client();
    assert_eq!(client.open(2, libc::O_RDONLY), Ok(0));
    let out: InitOut = read(&client.init());
    assert_eq!((out.major, out.minor), (7, 33));
    assert!(out.max_write >= 1 << 20);
    assert_eq!(client.open(2, libc::O_RDONLY), Err(libc::ENOSYS));
    assert_eq!(client.open_directory(ROOT_ID), Err(libc::ENOSYS));
    assert_eq!(client.read(2, 0, 0, 4, 4).unwrap(), b"0123");
}

#[test]
fn an_opened_file_may_be_cached() {
    let mut client = client();
    let body = client.call(14, 2, &[0; 8]).unwrap();
    assert_eq!(read::<OpenOut>(&body).open_flags, OpenOptions::KEEP_CACHE.bits());
    assert!(client.call(18, 2, &[0; 24]).is_ok());
    assert_eq!(client.open(ROOT_ID, libc::O_RDONLY), Err(libc::EISDIR));
    assert_eq!(client.open_directory(2), Err(libc::ENOTDIR));
}

#[test]
fn reads_end_where_the_file_and_the_room_end() {
    let mut client = client();
    assert_eq!(client.read(2, 0, 0, 100, 100).unwrap(), b"0123456789");
    assert_eq!(client.read(2, 0, 4, 3, 100).unwrap(), b"456");
    assert_eq!(client.read(2, 0, 8, u32::MAX, 100).unwrap(), b"89");
    assert_eq!(client.read(2, 0, 0, u32::MAX, 5).unwrap(), b"01234");
    for offset in [10, 11, 1 << 40, i64::MAX as u64, u64::MAX] {
        assert_eq!(client.read(2, 0, offset, 100, 100).unwrap(), b"", "{offset}");
    }
    assert_eq!(client.read(3, 0, 0, 100, 100).unwrap(), b"");
    assert_eq!(
        client.read(4, 0, 1 << 20, 1 << 20, 1 << 20).unwrap(),
        vec![7; 1 << 20]
    );
}

#[test]
fn the_directory_lists_its_files_in_order_and_from_any_place() {
    let mut client = client();
    for opcode in [28, 44] {
        assert_eq!(client.names(opcode, ROOT_ID, 0, 4096), ["base", "empty", "large"]);
        assert_eq!(client.names(opcode, ROOT_ID, 0, 200), ["base", "empty", "large"]);
        assert_eq!(
            client.list(opcode, ROOT_ID, 0, 0, 8).unwrap(),
            [],
            "no room for one"
        );
        for offset in [3, 4, u64::MAX] {
            assert_eq!(
                client.list(opcode, ROOT_ID, 0, offset, 4096).unwrap(),
                [],
                "{offset}"
            );
        }
        assert_eq!(client.list(opcode, 2, 0, 0, 4096), Err(libc::ENOTDIR));
    }
    let entries = client.list(44, ROOT_ID, 0, 1, 4096).unwrap();
    assert_eq!(entries[0].node, Some(3));
    assert_eq!(entries[0].kind, u32::from(libc::DT_REG));
}

#[test]
fn nothing_can_be_changed() {
    let mut client = client();
    let named = |fixed: usize, name: &str| [vec![0; fixed], text(name)].concat();
    let requests = [
        ("setattr", 4, 2, vec![0; 88]),
        ("symlink", 6, 1, [text("new"), text("target")].concat()),
        ("mknod", 8, 1, named(16, "new")),
        ("mkdir", 9, 1, named(8, "new")),
        ("unlink", 10, 1, text("base")),
        ("rmdir", 11, 1, text("base")),
        ("rename", 12, 1, [named(8, "base"), text("new")].concat()),
        ("link", 13, 1, named(8, "new")),
        ("write", 16, 2, vec![0; 40]),
        ("setxattr", 21, 2, named(8, "user.a")),
        ("removexattr", 24, 2, text("user.a")),
        ("create", 35, 1, named(16, "new")),
        ("fallocate", 43, 2, vec![0; 32]),
        ("rename2", 45, 1, [named(16, "base"), text("new")].concat()),
    ];
    for (name, opcode, node, body) in requests {
        assert_eq!(client.call(opcode, node, &body), Err(libc::EROFS), "{name}");
    }
    for flags in [
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_TRUNC,
        libc::O_RDWR | libc::O_TRUNC,
    ] {
        assert_eq!(client.open(2, flags), Err(libc::EROFS), "{flags:o}");
    }
    for opcode in [
        0,
        7,
        19,
        22,
        23,
        25,
        30,
        31,
        32,
        33,
        37,
        40,
        46,
        47,
        50,
        51,
        4096,
        u32::MAX,
    ] {
        assert_eq!(client.call(opcode, 2, &[0; 256]), Err(libc::ENOSYS), "{opcode}");
    }
    assert_eq!(client.read(2, 0, 0, 100, 100).unwrap(), b"0123456789");
}

#[test]
fn nodes_that_do_not_exist_are_stale() {
    let mut client = client();
    for node in [0, 5, 1 << 32, u64::MAX] {
        assert_eq!(client.attributes(node).map(|_| ()), Err(libc::ESTALE), "{node}");
        assert_eq!(client.read(node, 0, 0, 10, 10), Err(libc::ESTALE), "{node}");
        assert_eq!(client.open(node, 0), Err(libc::ESTALE), "{node}");
        assert_eq!(
            client.lookup(node, "base").map(|_| ()),
            Err(libc::ESTALE),
            "{node}"
        );
        assert_eq!(
            map(&mut client, node, range(0, 0)),
            (Err(libc::ESTALE), vec![]),
            "{node}"
        );
        client.forget(node, u64::MAX);
    }
}

#[test]
fn malformed_messages_get_no_reply_and_do_no_harm() {
    let mut client = client();
    let good = client.request(3, 2, &[0; 16]);
    for len in 0..good.len() {
        assert!(
            matches!(
                client.serve(&good[..len], SMALL, None),
                Err(ServeError::Message(_))
            ),
            "{len}"
        );
    }
    assert!(
        matches!(client.serve(&good, 8, None), Err(ServeError::Message(_))),
        "no room for a header"
    );
    let mut long = good.clone();
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(client.serve(&long, SMALL, None).unwrap(), 16, "an error");
    let outside = [(1 << 40, 40, 0)];
    assert!(matches!(
        client.serve_chain(&outside, None),
        Err(ServeError::Buffers(_))
    ));
    assert_eq!(client.attributes(2).unwrap().size, 10);
}

#[test]
fn chains_larger_than_any_request_are_refused() {
    let mut client = client();
    let request = client.request(39, 2, &[0; 32]);
    client.serve(&request, SMALL, None).unwrap();
    // The same guest memory many times over: it costs the guest nothing.
    for flags in [0, 2] {
        let buffers = vec![(0, 15 << 20, flags); 60];
        let refused = client.serve_chain(&buffers, None);
        assert!(matches!(refused, Err(ServeError::TooLarge { .. })), "{refused:?}");
    }
    let most = vec![(1 << 20, MAX_REQUEST as u32, 2)];
    assert!(matches!(
        client.serve_chain(&most, None),
        Err(ServeError::Message(_))
    ));
}

#[test]
fn noise_of_any_kind_is_survived() {
    let mut client = client();
    crate::client::send_noise(&mut client, &[0, 1, 2, 3, 4, 5, u64::MAX]);
    assert_eq!(client.read(2, 0, 0, 100, 100).unwrap(), b"0123456789");
}

#[test]
fn a_mapping_ends_with_the_files_last_page() {
    let mut client = client();
    let (reply, calls) = map(&mut client, 4, range(0, 4 << 20));
    assert_eq!(reply, Ok(vec![]));
    assert_eq!(
        calls,
        [Call::Map {
            file_offset: 0,
            offset: 4 << 20,
            len: DAX_RANGE
        }]
    );

    let (_, calls) = map(&mut client, 4, range(2 << 20, 0));
    let begin = Call::Unmap {
        offset: 0,
        len: DAX_RANGE,
    };
    assert_eq!(
        calls,
        [
            begin,
            Call::Map {
                file_offset: 2 << 20,
                offset: 0,
                len: 1 << 20
            }
        ]
    );

    let (_, calls) = map(&mut client, 2, range(0, 0));
    assert_eq!(
        calls[1],
        Call::Map {
            file_offset: 0,
            offset: 0,
            len: 4096
        }
    );

    for (node, offset) in [(3, 0), (4, 4 << 20), (4, u64::MAX - DAX_RANGE + 1)] {
        let (reply, calls) = map(&mut client, node, range(offset, 0));
        assert_eq!(reply, Ok(vec![]));
        assert_eq!(
            calls,
            [Call::Unmap {
                offset: 0,
                len: DAX_RANGE
            }],
            "nothing of the file is there"
        );
    }
}

#[test]
fn mappings_that_make_no_sense_are_refused() {
    let mut client = client();
    let good = range(0, 0);
    for bad in [
        SetupmappingIn { len: 4096, ..good },
        SetupmappingIn { len: 0, ..good },
        SetupmappingIn {
            len: u64::MAX,
            ..good
        },
        SetupmappingIn {
            foffset: 4096,
            ..good
        },
        SetupmappingIn {
            moffset: 4096,
            ..good
        },
        SetupmappingIn {
            moffset: u64::MAX,
            ..good
        },
    ] {
        assert_eq!(map(&mut client, 4, bad), (Err(libc::EINVAL), vec![]), "{bad:?}");
    }
    let writable = SetupmappingIn { flags: 3, ..good };
    assert_eq!(map(&mut client, 4, writable), (Err(libc::EROFS), vec![]));
    assert_eq!(
        client.call(SETUPMAPPING, 4, good.as_slice()),
        Err(libc::EINVAL),
        "no window"
    );
}

fn remove(client: &mut Client, parts: &[RemovemappingOne]) -> (Result<Vec<u8>, i32>, Vec<Call>) {
    let count = RemovemappingIn {
        count: parts.len() as u32,
    };
    let parts: Vec<u8> = parts.iter().flat_map(|part| part.as_slice()).copied().collect();
    let mut window = Window::default();
    let body = [count.as_slice(), &parts].concat();
    let reply = client.call_with(REMOVEMAPPING, 4, &body, SMALL, Some(&mut window));
    (reply, window.calls)
}

#[test]
fn mappings_are_saved_and_can_be_made_again_until_they_are_removed() {
    let mut client = client();
    client.init();
    map(&mut client, 4, range(0, 0)).0.unwrap();
    map(&mut client, 4, range(2 << 20, 2 << 20)).0.unwrap();
    map(&mut client, 2, range(0, 2 << 20)).0.unwrap();
    map(&mut client, 2, range(0, 8 << 20)).0.unwrap();
    let gone = RemovemappingOne {
        moffset: 8 << 20,
        len: DAX_RANGE,
    };
    let (reply, calls) = remove(&mut client, &[gone]);
    assert_eq!((reply, calls.len()), (Ok(vec![]), 1));
    let odd = RemovemappingOne { moffset: 1, ..gone };
    assert_eq!(remove(&mut client, &[gone, odd]), (Err(libc::EINVAL), vec![]));

    let state = client.server.save();
    let json = serde_json::to_string(&state).unwrap();
    let state: ServerState = serde_json::from_str(&json).unwrap();
    let mut restored = self::client();
    restored.server.restore(state.clone()).unwrap();
    assert_eq!(restored.server.save(), state);
    assert_eq!(
        restored.open(2, libc::O_RDONLY),
        Err(libc::ENOSYS),
        "the guest was told once"
    );
    let mut window = Window::default();
    restored.server.fill_window(&mut window).unwrap();
    assert_eq!(
        window.calls,
        [
            Call::Map {
                file_offset: 0,
                offset: 0,
                len: DAX_RANGE
            },
            Call::Unmap {
                offset: 2 << 20,
                len: DAX_RANGE
            },
            Call::Map {
                file_offset: 0,
                offset: 2 << 20,
                len: 4096
            },
        ]
    );

    restored.server.reset();
    let mut window = Window::default();
    restored.server.fill_window(&mut window).unwrap();
    assert_eq!(window.calls, []);
}

#[test]
fn state_of_another_kind_is_refused() {
    let folders = ServerState::Folders(crate::FoldersState::default());
    assert!(client().server.restore(folders).is_err());
}

#[test]
fn a_damaged_state_cannot_map_what_is_not_there() {
    let client = client();
    let mapping = Mapping {
        window_offset: 0,
        node: 99,
        file_offset: 0,
    };
    let state = LayersState {
        mappings: vec![mapping],
        ..LayersState::default()
    };
    client.server.restore(ServerState::Layers(state)).unwrap();
    assert!(client.server.fill_window(&mut Window::default()).is_err());
}

#[test]
fn a_directory_is_made_of_regular_files_with_names_of_their_own() {
    let make = |files: Vec<(&str, File)>| {
        LayerDirectory::new(
            files
                .into_iter()
                .map(|(name, file)| (name.to_owned(), file))
                .collect(),
        )
        .err()
    };
    let empty = || file(b"");
    assert!(make(vec![]).is_none());
    assert!(matches!(
        make(vec![("../x", empty())]),
        Some(LayersError::Name(_))
    ));
    assert!(matches!(
        make(vec![("a", empty()), ("a", empty())]),
        Some(LayersError::Duplicate { .. })
    ));
    let directory = File::open("/").unwrap();
    assert!(matches!(
        make(vec![("a", directory)]),
        Some(LayersError::NotAFile { .. })
    ));
}
