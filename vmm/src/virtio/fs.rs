//! virtio-fs (virtio 1.3, section 5.11) over the file servers of the `virtio-fs` crate.
//!
//! One request queue, served in order by one thread. The layers device may have a DAX window: shared memory region 0,
//! in which the guest sees pages of layer files as the host's page cache holds them. It pays for reading a file of
//! the device itself, mounted with `dax=always`; an EROFS mount on such a file needs the page cache of the guest, and
//! Linux refuses it on a DAX file, so the device never asks for DAX by itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_fs::{
    FileServer, Folder, Folders, FoldersError, FsCacheReqHandler, LayerDirectory, LayersError,
    RemovemappingOne,
};
use vm_spec::{FoldersSpec, LayersSpec, Resource, SharedFolder};

use super::device::{Activation, DeviceError, Identity, VirtioDevice, read_config_bytes};
use super::queue::Virtqueue;
use super::worker::{Worker, serve_queues};
use crate::log::log;
use crate::memory::{MemoryError, SharedRegion};
use crate::resource::{self, Access, ResourceError};

/// Bytes of a tag in the configuration space; a shorter one is padded with NUL.
const TAG_LEN: usize = 36;

/// Bytes of the configuration space: the tag and `num_request_queues`.
const CONFIG_LEN: usize = TAG_LEN + 4;

/// Sizes of the queue for FORGET and INTERRUPT, and of the one for all other requests. Linux limits a transfer to the
/// pages that this many descriptors can name: 512 leave room for its largest, 1 MiB.
const QUEUE_SIZES: [u16; 2] = [64, 512];

/// The queue for FORGET, which nobody waits for, and INTERRUPT.
const HIPRIO: u16 = 0;

const MIB: u64 = 1 << 20;

/// Why a virtio-fs device could not be made.
#[derive(Debug, Error)]
pub enum FsError {
    /// A tag that does not fit.
    #[error("virtio-fs tag {tag:?} has {} bytes; it must have 1 to {TAG_LEN}, none of them NUL", .tag.len())]
    Tag {
        /// The tag.
        tag: String,
    },
    /// A window that is no whole number of the pages it is made of.
    #[error("a DAX window of {mib} MiB cannot be had: give an even number of MiB, or 0 for none")]
    Window {
        /// The size asked for.
        mib: u64,
    },
    /// A file or folder of the spec could not be opened.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// A folder of the spec could not be opened.
    #[error("cannot open shared folder {path}: {source}", path = path.display())]
    Folder {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files do not make a directory.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The folders do not make a file system.
    #[error(transparent)]
    Folders(#[from] FoldersError),
}

/// A virtio-fs device.
pub struct Fs {
    identity: Identity,
    config: [u8; CONFIG_LEN],
    server: Arc<FileServer>,
    window: Option<SharedRegion>,
    // A restored server expects mappings that the window does not have yet.
    refill: bool,
    worker: Option<Worker<Vec<Virtqueue>>>,
}

impl Fs {
    /// A device that shows the layer files of `spec`.
    pub fn layers(spec: LayersSpec) -> Result<Fs, FsError> {
        let window = spec
            .dax_window_mib
            .checked_mul(MIB)
            .filter(|bytes| bytes % virtio_fs::DAX_RANGE == 0);
        let window = window.ok_or(FsError::Window {
            mib: spec.dax_window_mib,
        })?;
        let open = |layer: vm_spec::LayerFile| {
            let file = resource::open(&layer.file, Access::Read)?;
            Ok((layer.name, file))
        };
        let files = spec
            .files
            .into_iter()
            .map(open)
            .collect::<Result<Vec<_>, ResourceError>>()?;
        let server = FileServer::layers(LayerDirectory::new(files)?);
        Fs::new(spec.tag, server, (window > 0).then_some(window))
    }

    /// A device that shows the folders of `spec`. Raises the process's limit on open files as far as it may: the
    /// server holds a descriptor for each file that the guest knows.
    pub fn folders(spec: FoldersSpec) -> Result<Fs, FsError> {
        let folders = spec
            .folders
            .into_iter()
            .map(open_folder)
            .collect::<Result<Vec<_>, FsError>>()?;
        let server = FileServer::folders(Folders::new(folders)?);
        raise_descriptor_limit();
        Fs::new(spec.tag, server, None)
    }

    fn new(tag: String, server: FileServer, shared_memory: Option<u64>) -> Result<Fs, FsError> {
        if tag.is_empty() || tag.len() > TAG_LEN || tag.contains('\0') {
            return Err(FsError::Tag { tag });
        }
        let mut config = [0; CONFIG_LEN];
        config[..tag.len()].copy_from_slice(tag.as_bytes());
        config[TAG_LEN..].copy_from_slice(&1u32.to_le_bytes());
        let identity = Identity {
            device_id: VIRTIO_ID_FS,
            name: device_name(&tag),
            features: 0,
            queue_sizes: QUEUE_SIZES.to_vec(),
            shared_memory,
        };
        Ok(Fs {
            identity,
            config,
            server: Arc::new(server),
            window: None,
            refill: false,
            worker: None,
        })
    }
}

/// What the device with this tag is called.
pub fn device_name(tag: &str) -> String {
    format!("fs-{tag}")
}

fn open_folder(spec: SharedFolder) -> Result<Folder, FsError> {
    let root = match &spec.root {
        Resource::Fd(_) => resource::open(&spec.root, Access::Read)?,
        // A place in the tree is all the server wants of it; the right to read it may be missing.
        Resource::Path(path) => OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .map_err(|source| FsError::Folder {
                path: path.clone(),
                source,
            })?,
    };
    Ok(Folder {
        name: spec.name,
        root,
        read_only: spec.read_only,
    })
}

fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Limit::Nofile);
    // Without it the guest sees ENFILE or EMFILE earlier.
    let _ = setrlimit(
        Limit::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

impl VirtioDevice for Fs {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            mut queues,
            interrupt,
            shared_memory,
            ..
        } = activation;
        self.window = shared_memory;
        let mut window = self.window.clone().map(Window);
        if let Some(window) = window.as_mut().filter(|_| self.refill) {
            self.server.fill_window(window)?;
        }
        self.refill = false;
        let server = self.server.clone();
        self.worker = Some(Worker::spawn(&self.identity.name, move |stop| {
            serve_queues(stop, &mut queues, interrupt.as_ref(), |queue| {
                let memory = queue.memory().clone();
                let serve = |chain| {
                    let window = window.as_mut().map(|window| window as &mut dyn FsCacheReqHandler);
                    // A request that cannot be answered is the driver's own doing: it gets its buffers back empty.
                    server.serve(memory.as_ref(), chain, window).unwrap_or_default()
                };
                match queue.index() {
                    HIPRIO => queue.drain_quietly(serve),
                    _ => queue.drain_together(serve),
                }
            });
            queues
        })?);
        Ok(())
    }

    fn quiesce(&mut self) -> Vec<Virtqueue> {
        self.worker.take().map(Worker::stop).unwrap_or_default()
    }

    fn add_layers(&mut self, files: Vec<(String, File)>) -> Result<(), DeviceError> {
        match self.server.add_layers(files) {
            Some(added) => Ok(added?),
            None => Err("it shows folders".into()),
        }
    }

    fn reset(&mut self) {
        self.server.reset();
        let emptied = self
            .window
            .take()
            .map_or(Ok(()), |window| window.unmap(0, window.len()));
        if let Err(error) = emptied {
            log!("{}: cannot empty the DAX window: {error}", self.identity.name);
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        Ok(serde_json::to_value(self.server.save())?)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError> {
        self.server.restore(serde_json::from_value(state)?)?;
        self.refill = true;
        Ok(())
    }
}

/// The DAX window as the file server uses it.
struct Window(SharedRegion);

impl FsCacheReqHandler for Window {
    fn map(&mut self, foffset: u64, moffset: u64, len: u64, _: u64, file: RawFd) -> io::Result<()> {
        self.0.map(moffset, len, &file, foffset).map_err(refusal)
    }

    fn unmap(&mut self, requests: Vec<RemovemappingOne>) -> io::Result<()> {
        requests
            .iter()
            .try_for_each(|part| self.0.unmap(part.moffset, part.len))
            .map_err(refusal)
    }
}

/// What the guest is told.
fn refusal(error: MemoryError) -> io::Error {
    match error {
        MemoryError::Map { source, .. } | MemoryError::File(source) => source,
        MemoryError::Range { .. } | MemoryError::Layout(_) => io::Error::from_raw_os_error(libc::EINVAL),
    }
}

#[cfg(test)]
mod tests;
