//! The images on one machine: blobs, manifests, layers and the names that lead to them. No network.
//!
//! On disk, under the store's root:
//!
//! ```text
//! blobs/sha256/HEX       manifests, configurations and layers as they came (OCI image layout)
//! layers/sha256-HEX.erofs one file system image for each layer, named by the digest of its archive
//! catalog.json           which images there are, and which names lead to them
//! tmp/                   what is being written; swept when the store is opened
//! lock, catalog.lock     advisory locks between processes
//! ```
//!
//! Files are complete and synced before a name appears, and an image is complete before the catalog names
//! it, so that a crash at any moment loses nothing but the import that it interrupted.
//!
//! Images are hostile: every byte is checked against its digest before it counts, sizes and counts are
//! bounded by [`Limits`], and nothing that an image names is ever created or opened on this machine.

mod archive;
mod blob;
mod catalog;
mod check;
mod compression;
mod digest;
mod holds;
mod image;
mod import;
mod ingest;
mod layer;
mod layout;
mod reading;
mod reference;
mod removal;
mod state;
mod store;
mod transfer;
mod usage;

pub use archive::ArchiveError;
pub use blob::BlobError;
pub use catalog::CatalogError;
pub use check::{CheckReport, DamagedObject, Problem};
pub use digest::{Digest, DigestError};
pub use holds::Hold;
pub use image::{BlobDescriptor, HistoryEntry, Image, ImageSummary, Layer};
pub use import::{ImportError, Limits};
pub use ingest::{Ingest, LayerOutcome};
pub use layer::LayerError;
pub use layout::LayoutError;
pub use oci_spec::image::ImageConfiguration;
pub use reading::RawManifest;
pub use reference::{Reference, ReferenceError};
pub use removal::{ImageUser, ImageUsers, NoUsers, Pruned, Removal};
pub use state::StateError;
pub use store::{ImageStore, Result, StoreError};
pub use transfer::Loaded;
pub use usage::{ImageUsage, Usage};
