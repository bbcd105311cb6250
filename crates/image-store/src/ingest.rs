//! One image coming in.

use crate::digest::Digest;
use crate::image::{BlobDescriptor, Image};
use crate::reference::Reference;
use crate::store::Result;
use std::io::Read;

/// One image coming in, from a registry, an archive or a build. Nothing of it shows before [`Ingest::commit`],
/// and what it has brought is held against garbage collection until it is dropped. Its methods may be called
/// from several threads at once.
#[derive(Debug)]
pub struct Ingest {}

/// Whether a layer had to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOutcome {
    /// It was read, verified and written.
    Written,
    /// It was there, or another ingest brought it meanwhile: the source was not read.
    Present,
}

impl Ingest {
    /// Whether the blob is there, verified and whole, and its file system image with it; then it is held, and
    /// need not be fetched. `diff_id` is what the configuration says of the layer, where it is known.
    pub fn has_layer(&self, layer: &BlobDescriptor, diff_id: Option<&Digest>) -> Result<bool> {
        todo!("{layer:?} {diff_id:?}")
    }

    /// Takes a manifest as it came; its digest.
    pub fn put_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        todo!("{media_type} {bytes:?}")
    }

    /// Takes a configuration as it came, which must be what its descriptor says.
    pub fn put_config(&self, descriptor: &BlobDescriptor, bytes: &[u8]) -> Result<()> {
        todo!("{descriptor:?} {bytes:?}")
    }

    /// Reads a layer once: its bytes become the kept blob, its files a file system image, and both digests are
    /// checked on the way. At most a few layers are read at once, others wait; while another ingest brings
    /// the same layer this one waits for it and then does not read `source`.
    pub fn put_layer(
        &self,
        layer: &BlobDescriptor,
        diff_id: Option<&Digest>,
        source: impl Read,
    ) -> Result<LayerOutcome> {
        let _ = source;
        todo!("{layer:?} {diff_id:?}")
    }

    /// Makes the image visible under these names (with a tag or with a digest), if it is complete: the manifest
    /// that was put, its configuration and all its layers. A name with a tag moves here from the image that
    /// had it.
    pub fn commit(&self, references: &[Reference]) -> Result<Image> {
        todo!("{references:?}")
    }
}
