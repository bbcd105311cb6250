//! A cache that leaves its machine: an OCI manifest whose layers are those of steps, and whose configuration says which step made
//! which.
//!
//! ```text
//! build ─► Trail ─► CacheExport ─► registry, or a folder (OCI image layout) ─► PortableCache ─► CacheImport ─► build
//! ```
//!
//! The configuration of an image can carry the same, for the layers that the image has. Who may write a cache says what is in the
//! images that are built with it, as with the images that a Dockerfile begins with; a damaged one costs no more than its use.

mod document;
mod export;
mod folder;
mod import;
#[cfg(test)]
mod tests;
mod trail;

pub use self::document::{CacheFormatError, CacheManifest, MOST_CACHE_BYTES, PortableCache};
pub use self::export::{CacheExport, CacheMode};
pub use self::folder::{CacheArchive, CacheArchiveError};
pub use self::import::{CacheImport, LayerFeed, LayerSource};
pub use self::trail::Trail;
pub(super) use self::trail::{Link, Made, StageTrail, inline};
