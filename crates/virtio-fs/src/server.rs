//! One FUSE server over either kind of file system, fed from descriptor chains.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::{MAX_BUFFER_SIZE, Server};
use fuse_backend_rs::transport::{FsCacheReqHandler, Reader, VirtioFsWriter, Writer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;

use crate::{Folders, FoldersState, LayerDirectory, LayersError, LayersState};

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

/// What a guest knows of a file server, for saving: how it is to go on after a restore as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// Of layer files.
    Layers(LayersState),
    /// Of host folders.
    Folders(FoldersState),
}

/// A saved state belongs to the other kind of server.
#[derive(Debug, Error)]
#[error("the saved state is of another kind of file server")]
pub struct StateError;

/// A file system and the FUSE protocol in front of it.
///
/// Requests may be served from several threads; the device serves them from one, in order.
pub enum FileServer {
    /// The layer files of a container.
    Layers(Box<Served<LayerDirectory>>),
    /// Folders of the host.
    Folders(Box<Served<Folders>>),
}

/// A file system, reachable by its own methods and by FUSE messages.
pub struct Served<F: FileSystem + Send + Sync> {
    files: Arc<F>,
    server: Server<Arc<F>>,
}

impl<F: FileSystem + Send + Sync> Served<F> {
    fn new(files: F) -> Box<Served<F>> {
        let files = Arc::new(files);
        Box::new(Served {
            server: Server::new(files.clone()),
            files,
        })
    }
}

impl FileServer {
    /// A server over layer files.
    pub fn layers(directory: LayerDirectory) -> FileServer {
        FileServer::Layers(Served::new(directory))
    }

    /// A server over host folders.
    pub fn folders(folders: Folders) -> FileServer {
        FileServer::Folders(Served::new(folders))
    }

    /// Adds layer files at the end of those that there are, all of them or none; `None` for a server over folders.
    pub fn add_layers(&self, files: Vec<(String, File)>) -> Option<Result<(), LayersError>> {
        match self {
            FileServer::Layers(served) => Some(served.files.add(files)),
            FileServer::Folders(_) => None,
        }
    }

    /// Forgets the guest: all it looked up, opened and mapped. The DAX window is the caller's to empty.
    pub fn reset(&self) {
        match self {
            FileServer::Layers(served) => served.files.destroy(),
            FileServer::Folders(served) => served.files.destroy(),
        }
    }

    /// What the guest knows.
    pub fn save(&self) -> ServerState {
        match self {
            FileServer::Layers(served) => ServerState::Layers(served.files.save()),
            FileServer::Folders(served) => ServerState::Folders(served.files.save()),
        }
    }

    /// Takes over what [`save`](Self::save) of a server over the same files returned. Files that are gone since are
    /// stale to the guest.
    pub fn restore(&self, state: ServerState) -> Result<(), StateError> {
        match (self, state) {
            (FileServer::Layers(served), ServerState::Layers(state)) => served.files.restore(state),
            (FileServer::Folders(served), ServerState::Folders(state)) => served.files.restore(state),
            _ => return Err(StateError),
        }
        Ok(())
    }

    /// Maps into an empty DAX window what the guest expects to see there.
    ///
    /// # Errors
    /// A restored mapping cannot be had.
    pub fn fill_window(&self, window: &mut dyn FsCacheReqHandler) -> io::Result<()> {
        match self {
            FileServer::Layers(served) => served.files.fill_window(window),
            FileServer::Folders(_) => Ok(()),
        }
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
            FileServer::Layers(served) => answer(&served.server, memory, chain, window),
            FileServer::Folders(served) => answer(&served.server, memory, chain, window),
        }
    }
}

fn answer<F, M>(
    server: &Server<Arc<F>>,
    memory: &M::Target,
    chain: DescriptorChain<M>,
    window: Option<&mut dyn FsCacheReqHandler>,
) -> Result<u32, ServeError>
where
    F: FileSystem + Send + Sync,
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
