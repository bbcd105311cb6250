//! The file servers behind hull's virtio-fs devices: they answer the FUSE requests (protocol 7.33) that a guest puts
//! on its queue, from open descriptors alone.
//!
//! - [`LayerDirectory`]: one flat, immutable, read-only directory of files that were handed over.
//! - [`Folders`]: host folders and files, each under its own name at the root, confined to what was handed over.
//!
//! [`FileServer`] is what a device holds. The guest is the client and is not trusted: node numbers, handles, names,
//! offsets and lengths are all its own invention, and none of them may make the server panic, block on anything but
//! the files it serves, leave those files, or grow without bound.

mod attributes;
#[cfg(test)]
mod client;
mod folders;
mod layers;
mod name;
mod server;

pub use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
pub use fuse_backend_rs::transport::FsCacheReqHandler;

pub use folders::{Folder, Folders, FoldersError, FoldersState, HandleState, NodeState};
pub use layers::{DAX_RANGE, LayerDirectory, LayersError, LayersState, Mapping};
pub use name::NameError;
pub use server::{FileServer, MAX_REQUEST, ServeError, ServerState, StateError};
