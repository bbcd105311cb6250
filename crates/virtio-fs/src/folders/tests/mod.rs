//! Host folders, spoken to in FUSE messages.

mod confinement;
mod content;
mod creation;
mod listing;
mod restoring;

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

/// The folders behind a client.
fn nodes_of(folders: &FileServer) -> usize {
    match folders.save() {
        ServerState::Folders(state) => state.nodes.len(),
        ServerState::Layers(_) => panic!("not folders"),
    }
}
