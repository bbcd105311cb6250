//! One FUSE server over either kind of file system, fed from descriptor chains.

use std::ops::Deref;

use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::{MAX_BUFFER_SIZE, Server};
use fuse_backend_rs::transport::{FsCacheReqHandler, Reader, VirtioFsWriter, Writer};
use thiserror::Error;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;

use crate::{Folders, LayerDirectory};

/// The most bytes that a request or its reply may have: the largest transfer and room for its headers.
pub const MAX_REQUEST: usize = MAX_BUFFER_SIZE as usize + 4096;

/// A request that got no reply because it could not be understood, or its chain could not be used.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A buffer of the chain lies outside the guest's memory.
    #[error("a FUSE request's buffers could not be mapped: {0}")]
    Buffers(fuse_backend_rs::transport::Error),
    /// The buffers of the chain are larger than any request may be.
    #[error("a FUSE request has {readable} bytes and room for {writable}; at most {MAX_REQUEST} are taken")]
    TooLarge {
        /// Bytes the guest offers to be read.
        readable: usize,
        /// Bytes the guest offers to be written.
        writable: usize,
    },
    /// The request is malformed.
    #[error("a FUSE request could not be decoded or answered: {0}")]
    Message(fuse_backend_rs::Error),
}

/// A file system and the FUSE protocol in front of it.
///
/// Requests may be served from several threads; the device serves them from one, in order.
pub enum FileServer {
    /// The layer files of a container.
    Layers(Server<LayerDirectory>),
    /// Folders of the host.
    Folders(Server<Folders>),
}

impl FileServer {
    /// A server over layer files.
    pub fn layers(directory: LayerDirectory) -> FileServer {
        FileServer::Layers(Server::new(directory))
    }

    /// A server over host folders.
    pub fn folders(folders: Folders) -> FileServer {
        FileServer::Folders(Server::new(folders))
    }

    /// Answers the request in `chain`; returns how many bytes of its reply were written to the chain. Requests without
    /// a reply (FORGET) return 0.
    ///
    /// `window` carries out SETUPMAPPING and REMOVEMAPPING; without it they are refused.
    ///
    /// # Errors
    /// Nothing has been written to the chain then. The guest's own driver made the request, so the caller gives the
    /// chain back with a length of 0 and goes on.
    pub fn serve<M>(
        &self,
        memory: &M::Target,
        chain: DescriptorChain<M>,
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> Result<u32, ServeError>
    where
        M: Deref + Clone,
        M::Target: GuestMemory + Sized,
    {
        match self {
            FileServer::Layers(server) => answer(server, memory, chain, window),
            FileServer::Folders(server) => answer(server, memory, chain, window),
        }
    }
}

fn answer<F, M>(
    server: &Server<F>,
    memory: &M::Target,
    chain: DescriptorChain<M>,
    window: Option<&mut dyn FsCacheReqHandler>,
) -> Result<u32, ServeError>
where
    F: FileSystem + Sync,
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    let reader = Reader::from_descriptor_chain(memory, chain.clone()).map_err(ServeError::Buffers)?;
    let writer = VirtioFsWriter::new(memory, chain).map_err(ServeError::Buffers)?;
    // The server sizes its own buffers by what the chain offers, and a chain may name the same guest memory many
    // times over: without this limit a guest could have the host allocate gigabytes.
    let (readable, writable) = (reader.available_bytes(), writer.available_bytes());
    if readable > MAX_REQUEST || writable > MAX_REQUEST {
        return Err(ServeError::TooLarge { readable, writable });
    }
    let written = server
        .handle_message(reader, Writer::VirtioFs(writer), window, None)
        .map_err(ServeError::Message)?;
    // A reply is at most `MAX_REQUEST` bytes.
    Ok(written as u32)
}
