//! Caches that a client has in folders, as they come: one archive of the files of OCI image layouts.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use image_store::{BlobDescriptor, Digest};
use serde::Deserialize;
use tar_stream::{ArchiveError, EntryKind, Reader};

use super::document::{CacheManifest, MOST, MOST_CACHE_BYTES, PortableCache};
use super::import::{LayerFeed, LayerSource};
use crate::solve::CacheImport;
use crate::spool::{Spool, SpoolError, SpoolWriter};

/// Caches of one archive.
const MOST_CACHES: usize = 16;
/// All of it, in bytes.
const MOST_BYTES: u64 = 64 << 30;
/// What the index of a layout is called.
const INDEX: &[u8] = b"index.json";
/// Bytes of the second block of the mark that ends an archive: its reader takes one of two.
const END: usize = 512;

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheArchiveError {
    /// It is no archive, or was cut.
    #[error("the archive of build caches cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    /// It did not come to its end.
    #[error("the archive of build caches did not come: {0}")]
    Read(#[source] io::Error),
    /// The disk.
    #[error("cannot keep the build caches that were sent: {0}")]
    Keep(#[source] io::Error),
    /// There is too much in it.
    #[error("the build caches that were sent are too much: {0}")]
    TooMuch(String),
}

/// What the archive had in it: contents by their digests, whatever they were called, in a file without a name.
#[derive(Debug)]
pub struct CacheArchive {
    spool: Spool,
    contents: HashMap<Digest, (u64, u64)>,
    /// The name of each index and what it says.
    indices: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize)]
struct IndexEntry {
    digest: Digest,
}

impl CacheArchive {
    /// Reads an archive that is not compressed, and nothing of what follows it.
    pub fn read(mut input: impl Read, folder: &Path) -> Result<Self, CacheArchiveError> {
        let mut spool = SpoolWriter::new(folder).map_err(CacheArchiveError::Keep)?;
        let (mut contents, mut indices, mut left) = (HashMap::new(), Vec::new(), MOST_BYTES);
        let too_much = |what: String| Err(CacheArchiveError::TooMuch(what));
        let mut archive = Reader::new(&mut input);
        while let Some(entry) = archive.next()? {
            if entry.kind != EntryKind::Regular {
                continue;
            }
            let mut content = archive.content(&entry);
            if entry.path.ends_with(INDEX) {
                if indices.len() == MOST_CACHES || entry.size > MOST_CACHE_BYTES {
                    return too_much(format!(
                        "{MOST_CACHES} are possible, and {MOST_CACHE_BYTES} bytes of an index"
                    ));
                }
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(CacheArchiveError::Read)?;
                indices.push((String::from_utf8_lossy(&entry.path).into_owned(), bytes));
                continue;
            }
            if contents.len() >= MOST * MOST_CACHES {
                return too_much(format!("they have more than {} files", MOST * MOST_CACHES));
            }
            let extent = spool.append(&mut content, left).map_err(|error| match error {
                SpoolError::Read(error) => CacheArchiveError::Read(error),
                SpoolError::Write(error) => CacheArchiveError::Keep(error),
            })?;
            let Some(extent) = extent else {
                return too_much(format!("they have more than {MOST_BYTES} bytes"));
            };
            left = left.saturating_sub(extent.length);
            contents.insert(extent.digest, (extent.offset, extent.length));
        }
        input.read_exact(&mut [0; END]).map_err(CacheArchiveError::Read)?;
        Ok(Self {
            spool: spool.finish().map_err(CacheArchiveError::Keep)?,
            contents,
            indices,
        })
    }

    /// The caches in it; what is wrong with one that cannot be used is told, by its name.
    pub fn imports(self) -> Vec<Result<CacheImport, String>> {
        let archive = Arc::new(self);
        let indices = archive.indices.iter();
        let imports = indices.map(|(name, index)| {
            let name = name.trim_end_matches("/index.json");
            let cache = archive.cache(index);
            let cache = cache.map_err(|what| format!("the build cache {name} cannot be used: {what}"))?;
            Ok(CacheImport::new(name.to_owned(), cache, archive.clone()))
        });
        imports.collect()
    }

    fn cache(&self, index: &[u8]) -> Result<PortableCache, String> {
        let index: Index =
            serde_json::from_slice(index).map_err(|error| format!("its index is not understood: {error}"))?;
        // One that was written by hull has one.
        let newest = index.manifests.last().ok_or("its index is empty")?;
        let manifest = CacheManifest::parse(&self.document(&newest.digest)?);
        let manifest = manifest.map_err(|error| error.to_string())?;
        let config = self.document(&manifest.config.digest)?;
        PortableCache::parse(&manifest.layers, &config).map_err(|error| error.to_string())
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let found = self.contents.get(digest);
        let (offset, length) = *found.ok_or_else(|| format!("{digest} was not sent"))?;
        if length > MOST_CACHE_BYTES {
            return Err(format!(
                "{digest} has {length} bytes, {MOST_CACHE_BYTES} are possible"
            ));
        }
        let mut bytes = Vec::new();
        let read = self.spool.read(offset, length).read_to_end(&mut bytes);
        read.map_err(|error| format!("{digest} cannot be read: {error}"))?;
        Ok(bytes)
    }
}

impl LayerSource for CacheArchive {
    fn open(&self, layer: &BlobDescriptor) -> LayerFeed {
        match self.contents.get(&layer.digest) {
            Some((offset, length)) => LayerFeed::there(self.spool.read(*offset, *length)),
            None => LayerFeed::failed("the client did not send it"),
        }
    }
}
