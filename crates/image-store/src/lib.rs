//! The images on one machine: blobs, manifests, layers and the names that lead to them. No network.
//!
//! On disk, under the store's root:
//!
//! ```text
//! blobs/sha256/HEX        manifests, configurations and layers as they came (OCI image layout)
//! layers/sha256-HEX.erofs one file system image for each layer, named by the digest of its archive
//! catalog.db              which images there are, which names lead to them, which files are whole (SQLite)
//! catalog.reserve         room kept free, so that images can be removed from a full disk
//! tmp/                    what is being written; swept when the store is opened
//! lock, sweep.lock        advisory locks between processes
//! ```
//!
//! Files are complete and synced before a name appears, and an image is complete before the catalog names
//! it, so that a crash at any moment loses nothing but the ingest that it interrupted. What no image needs is
//! collected while everything else goes on: see [`Hold`].
//!
//! Images are hostile: every byte is checked against its digest before it counts, sizes and counts are
//! bounded by [`Limits`], and nothing that an image names is ever created or opened on this machine.

mod append;
mod assembly;
mod blob;
mod catalog;
mod check;
mod compression;
mod digest;
mod flights;
// In tests, too, so that it is compiled wherever they are.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holds;
mod image;
mod import;
mod ingest;
mod layer;
mod layer_file;
mod layout;
mod limits;
mod load;
mod manifest;
mod read_ahead;
mod reading;
mod reference;
mod removal;
mod rootfs;
mod save;
mod state;
mod store;
mod usage;

pub use append::Addition;
pub use blob::BlobError;
pub use catalog::CatalogError;
pub use check::{CheckReport, DamagedObject, Problem};
pub use compression::{Compression, decompress};
pub use digest::{Digest, DigestError, Hasher};
pub use holds::Hold;
pub use image::{BlobDescriptor, DockerConfig, HistoryEntry, Image, ImageHealthCheck, ImageSummary, Layer};
pub use import::{ImportError, ImportFailure};
pub use ingest::{Ingest, IngestError, LayerOutcome};
pub use layer::LayerError;
pub use layer_file::LayerFileError;
pub use layout::LayoutError;
pub use limits::Limits;
pub use load::{LayerProgress, LoadError, Loaded, WantedPlatform};
pub use manifest::{ManifestError, platform_of};
pub use oci_spec::image::{ImageConfiguration, Platform};
pub use reading::RawManifest;
pub use reference::{Reference, ReferenceError};
pub use removal::{ImageUser, ImageUsers, NoUsers, Pruned, Removal, RemovalConflict};
pub use save::SaveError;
pub use state::StateError;
pub use store::{ImageStore, Result, StoreError};
pub use tar_stream::ArchiveError;
pub use usage::{ImageUsage, Usage};
