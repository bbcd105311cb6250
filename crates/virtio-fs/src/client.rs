//! A FUSE client, for tests: it sends real messages through descriptor chains in guest memory.

use std::ffi::CString;

use fuse_backend_rs::abi::fuse_abi::{
    Attr, AttrOut, CreateIn, EntryOut, InHeader, InitIn, OpenIn, OpenOut, OutHeader, ROOT_ID, ReadIn, WriteIn,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use crate::{FileServer, ServeError};

/// Guest memory, and where the request and the reply lie in it.
const RAM: usize = 16 << 20;
const REQUEST: u64 = 1 << 20;
const REPLY: u64 = 8 << 20;

/// Flags of a descriptor (virtio 1.3, section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Room for a reply that carries no data.
pub(crate) const SMALL: u32 = 512;

/// A reply's body, or the error it carries.
pub(crate) type Reply = Result<Vec<u8>, i32>;

/// A guest's kernel in front of a file server.
pub(crate) struct Client {
    pub(crate) server: FileServer,
    /// Who makes the requests.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    memory: GuestMemoryMmap,
    unique: u64,
}

impl Client {
    /// A client that has not sent INIT.
    pub(crate) fn new(server: FileServer) -> Client {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
        Client {
            server,
            uid: 0,
            gid: 0,
            memory,
            unique: 0,
        }
    }

    /// Serves a chain of one readable and one writable buffer; returns how much was written.
    pub(crate) fn serve(
        &self,
        request: &[u8],
        room: u32,
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> Result<u32, ServeError> {
        self.memory.write_slice(request, GuestAddress(REQUEST)).unwrap();
        self.serve_chain(
            &[(REQUEST, request.len() as u32, 0), (REPLY, room, WRITE)],
            window,
        )
    }

    /// Serves a chain of buffers, given as address, length and flags.
    pub(crate) fn serve_chain(
        &self,
        buffers: &[(u64, u32, u16)],
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> Result<u32, ServeError> {
        let queue = MockSplitQueue::new(&self.memory, 64);
        let last = buffers.len() - 1;
        let descriptors: Vec<_> = buffers
            .iter()
            .enumerate()
            .map(|(index, &(address, len, flags))| {
                let flags = flags | if index < last { NEXT } else { 0 };
                RawDescriptor::from(Descriptor::new(address, len, flags, index as u16 + 1))
            })
            .collect();
        let chain = queue.build_desc_chain(&descriptors).unwrap();
        self.server.serve(&self.memory, chain, window)
    }

    /// The header and body of a request.
    pub(crate) fn request(&mut self, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        self.unique += 1;
        let header = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode,
            unique: self.unique,
            nodeid: node,
            uid: self.uid,
            gid: self.gid,
            pid: 1,
            padding: 0,
        };
        [header.as_slice(), body].concat()
    }

    /// Sends a request that is answered.
    pub(crate) fn call_with(
        &mut self,
        opcode: u32,
        node: u64,
        body: &[u8],
        room: u32,
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> Reply {
        let request = self.request(opcode, node, body);
        let written = self.serve(&request, room, window).unwrap() as usize;
        let mut reply = vec![0; written];
        self.memory.read_slice(&mut reply, GuestAddress(REPLY)).unwrap();
        let (header, body) = reply.split_at(size_of::<OutHeader>());
        let header: OutHeader = read(header);
        assert_eq!(header.unique, self.unique);
        assert_eq!(header.len as usize, written);
        if header.error == 0 {
            Ok(body.to_vec())
        } else {
            Err(-header.error)
        }
    }

    /// The same without a DAX window, for a reply without data.
    pub(crate) fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Reply {
        self.call_with(opcode, node, body, SMALL, None)
    }

    /// INIT with every feature.
    pub(crate) fn init(&mut self) -> Vec<u8> {
        let init = InitIn {
            major: 7,
            minor: 40,
            max_readahead: 1 << 20,
            flags: u32::MAX,
        };
        self.call(26, 0, &[init.as_slice(), &[0xff; 48]].concat())
            .unwrap()
    }

    /// LOOKUP.
    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> Result<EntryOut, i32> {
        self.call(1, parent, &text(name)).map(|body| read(&body))
    }

    /// The node behind a path from the root.
    pub(crate) fn walk(&mut self, path: &str) -> u64 {
        path.split('/')
            .fold(ROOT_ID, |node, name| self.lookup(node, name).unwrap().nodeid)
    }

    /// GETATTR.
    pub(crate) fn attributes(&mut self, node: u64) -> Result<Attr, i32> {
        self.call(3, node, &[0; 16])
            .map(|body| read::<AttrOut>(&body).attr)
    }

    /// OPEN; returns the handle.
    pub(crate) fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        let open = OpenIn {
            flags: flags as u32,
            fuse_flags: 0,
        };
        self.call(14, node, open.as_slice())
            .map(|body| read::<OpenOut>(&body).fh)
    }

    /// OPENDIR; returns the handle.
    pub(crate) fn open_directory(&mut self, node: u64) -> Result<u64, i32> {
        self.call(27, node, &[0; 8]).map(|body| read::<OpenOut>(&body).fh)
    }

    /// READ of `size` bytes into room for `room`.
    pub(crate) fn read(&mut self, node: u64, fh: u64, offset: u64, size: u32, room: u32) -> Reply {
        let read = ReadIn {
            fh,
            offset,
            size,
            ..ReadIn::default()
        };
        self.call_with(
            15,
            node,
            read.as_slice(),
            room + size_of::<OutHeader>() as u32,
            None,
        )
    }

    /// WRITE; returns how many bytes were taken.
    pub(crate) fn write(&mut self, node: u64, fh: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let write = WriteIn {
            fh,
            offset,
            size: data.len() as u32,
            ..WriteIn::default()
        };
        let body = self.call(16, node, &[write.as_slice(), data].concat())?;
        Ok(u32::from_le_bytes(body[..4].try_into().unwrap()))
    }

    /// CREATE; returns the node and the handle.
    pub(crate) fn create(
        &mut self,
        parent: u64,
        name: &str,
        flags: i32,
        mode: u32,
    ) -> Result<(u64, u64), i32> {
        let create = CreateIn {
            flags: flags as u32,
            mode,
            umask: 0,
            fuse_flags: 0,
        };
        let body = self.call(35, parent, &[create.as_slice(), &text(name)].concat())?;
        let (entry, open) = body.split_at(size_of::<EntryOut>());
        Ok((read::<EntryOut>(entry).nodeid, read::<OpenOut>(open).fh))
    }

    /// READDIR (28) or READDIRPLUS (44) from `offset` into room for `room` bytes.
    pub(crate) fn list(
        &mut self,
        opcode: u32,
        node: u64,
        fh: u64,
        offset: u64,
        room: u32,
    ) -> Result<Vec<Listed>, i32> {
        let read = ReadIn {
            fh,
            offset,
            size: room,
            ..ReadIn::default()
        };
        let body = self.call_with(opcode, node, read.as_slice(), room + 16, None)?;
        Ok(listed(&body, opcode == 44))
    }

    /// All names of an open directory.
    pub(crate) fn names(&mut self, opcode: u32, node: u64, fh: u64, room: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let batch = self.list(opcode, node, fh, offset, room).unwrap();
            let Some(last) = batch.last() else { return names };
            offset = last.offset;
            names.extend(batch.into_iter().map(|entry| entry.name));
        }
    }

    /// FORGET.
    pub(crate) fn forget(&mut self, node: u64, lookups: u64) {
        let request = self.request(2, node, &lookups.to_le_bytes());
        assert_eq!(self.serve(&request, 0, None).unwrap(), 0);
    }
}

/// An entry of a directory as a reply lists it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    /// With READDIRPLUS.
    pub(crate) node: Option<u64>,
}

fn listed(mut body: &[u8], plus: bool) -> Vec<Listed> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let mut node = None;
        if plus {
            let (entry, rest) = body.split_at(size_of::<EntryOut>());
            node = Some(read::<EntryOut>(entry).nodeid);
            body = rest;
        }
        let number = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        let offset = u64::from_le_bytes(body[8..16].try_into().unwrap());
        let (len, kind) = (number(16) as usize, number(20));
        let name = String::from_utf8(body[24..24 + len].to_vec()).unwrap();
        entries.push(Listed {
            name,
            offset,
            kind,
            node,
        });
        body = &body[(24 + len).next_multiple_of(8)..];
    }
    entries
}

/// A structure of the protocol, wherever it starts.
pub(crate) fn read<T: ByteValued>(bytes: &[u8]) -> T {
    let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
    memory
        .write_slice(&bytes[..size_of::<T>()], GuestAddress(0))
        .unwrap();
    memory.read_obj(GuestAddress(0)).unwrap()
}

/// A name as requests carry it.
pub(crate) fn text(name: &str) -> Vec<u8> {
    CString::new(name).unwrap().into_bytes_with_nul()
}

/// Sends every opcode with bodies of many lengths, made of zeros, of ones and of noise, to each of `nodes`. Replies
/// are as they may be; what counts is that the server lives on.
pub(crate) fn send_noise(client: &mut Client, nodes: &[u64]) {
    struct NoWindow;

    impl FsCacheReqHandler for NoWindow {
        fn map(&mut self, _: u64, _: u64, _: u64, _: u64, _: std::os::fd::RawFd) -> std::io::Result<()> {
            Ok(())
        }

        fn unmap(&mut self, _: Vec<crate::RemovemappingOne>) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut byte = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    for opcode in (0..=64).chain([4096, 1 << 31, u32::MAX]) {
        for &node in nodes {
            for len in [0, 1, 4, 8, 16, 17, 24, 32, 40, 41, 64, 88, 300] {
                for body in [vec![0; len], vec![0xff; len], noise(len)] {
                    let request = client.request(opcode, node, &body);
                    for room in [0, 16, 4096] {
                        // Refused or answered: both are fine.
                        let _ = client.serve(&request, room, Some(&mut NoWindow));
                    }
                }
            }
        }
    }
}
