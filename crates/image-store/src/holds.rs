//! What garbage collection must leave alone, and the collection itself.
//!
//! A file may be removed when no image names it and nobody in this process holds it, and never while another
//! process has the store open. Whoever starts to rely on a file holds it before looking whether it is there, and
//! the collector looks for holders and removes under the same lock, so neither can slip in between.

use crate::digest::Digest;
use crate::image::Image;
use crate::state;
use crate::store::{ImageStore, Result, Shared};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files whose fate is decided at once: the lock is held that long.
const BATCH: usize = 64;

/// Blobs and layers, by their digests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) layers: BTreeSet<Digest>,
}

/// How many hold which file.
#[derive(Debug, Default)]
pub(crate) struct HoldTable(Mutex<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    blobs: HashMap<Digest, usize>,
    layers: HashMap<Digest, usize>,
}

impl HoldTable {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files that somebody uses: as long as this lives they are not removed, whatever happens to their images.
/// Dropping it removes nothing: what no image needs by then goes with the next
/// [`ImageStore::collect_garbage`].
#[must_use = "dropping it gives the layers free"]
pub struct Hold {
    shared: Arc<Shared>,
    files: Files,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.files).finish()
    }
}

impl Hold {
    pub(crate) fn nothing(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            files: Files::default(),
        }
    }

    pub(crate) fn add_blob(&mut self, digest: Digest) {
        if self.files.blobs.insert(digest) {
            *self.shared.holds.lock().blobs.entry(digest).or_default() += 1;
        }
    }

    pub(crate) fn add_layer(&mut self, diff_id: Digest) {
        if self.files.layers.insert(diff_id) {
            *self.shared.holds.lock().layers.entry(diff_id).or_default() += 1;
        }
    }

    /// Gives everything free; what it was.
    pub(crate) fn release(&mut self) -> Files {
        let files = std::mem::take(&mut self.files);
        let mut counts = self.shared.holds.lock();
        files
            .blobs
            .iter()
            .for_each(|digest| decrement(&mut counts.blobs, digest));
        files
            .layers
            .iter()
            .for_each(|digest| decrement(&mut counts.layers, digest));
        files
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

fn decrement(counts: &mut HashMap<Digest, usize>, digest: &Digest) {
    if let Some(count) = counts.get_mut(digest) {
        *count -= 1;
        if *count == 0 {
            counts.remove(digest);
        }
    }
}

impl ImageStore {
    /// Holds the layers of an image, for a container that is being made from it.
    pub fn hold(&self, image: &Image) -> Hold {
        let paths = image.layers.iter().map(|layer| layer.path.clone());
        self.hold_layers(&paths.collect::<Vec<_>>())
    }

    /// Holds layers by the paths that [`Layer::path`](crate::Layer::path) told, for containers that exist.
    /// Paths that are none of this store's layers are ignored.
    pub fn hold_layers(&self, paths: &[PathBuf]) -> Hold {
        let mut hold = Hold::nothing(&self.shared);
        let layers = paths.iter().filter_map(|path| self.shared.state.layer_at(path));
        layers.for_each(|diff_id| hold.add_layer(diff_id));
        hold
    }

    /// Removes every file that no image, no [`Hold`] and no [`Ingest`](crate::Ingest) needs; returns how many
    /// bytes that were on the disk. To be called after opening, when the layers of all existing containers
    /// are held, and when a container is gone whose image is gone; removals collect what they free themselves.
    /// Does nothing while another process has the store open.
    pub fn collect_garbage(&self) -> Result<u64> {
        let shared = &self.shared;
        let blobs = files_in(&shared.state.blobs())?;
        let layers = files_in(&shared.state.layers())?;
        let mut files = Files::default();
        let mut foreign = Vec::new();
        for name in blobs {
            match name
                .to_str()
                .and_then(|name| format!("sha256:{name}").parse().ok())
            {
                Some(digest) => drop(files.blobs.insert(digest)),
                None => foreign.push(shared.state.blobs().join(name)),
            }
        }
        for name in layers {
            let path = shared.state.layers().join(name);
            match shared.state.layer_at(&path) {
                Some(diff_id) => drop(files.layers.insert(diff_id)),
                None => foreign.push(path),
            }
        }
        let (blob_rows, layer_rows) = (shared.catalog.blobs()?, shared.catalog.layers()?);
        files.blobs.extend(blob_rows.iter().map(|row| row.digest));
        files.layers.extend(layer_rows.iter().map(|row| row.diff_id));
        let freed = shared.collect(&files)?;
        if !foreign.is_empty() && shared.state.alone()?.is_some() {
            foreign.iter().try_for_each(|path| state::remove(path))?;
        }
        Ok(freed)
    }
}

impl Shared {
    /// Removes those of `files` that nobody needs; how many bytes that were on the disk.
    pub(crate) fn collect(&self, files: &Files) -> Result<u64> {
        let Some(_alone) = self.state.alone()? else {
            return Ok(0);
        };
        let blobs: Vec<Digest> = files.blobs.iter().copied().collect();
        let layers: Vec<Digest> = files.layers.iter().copied().collect();
        let mut freed = 0;
        for batch in blobs.chunks(BATCH) {
            freed += self.collect_batch(batch, &[])?;
        }
        for batch in layers.chunks(BATCH) {
            freed += self.collect_batch(&[], batch)?;
        }
        Ok(freed)
    }

    fn collect_batch(&self, blobs: &[Digest], layers: &[Digest]) -> Result<u64> {
        let counts = self.holds.lock();
        let free = |held: &HashMap<Digest, usize>, digests: &[Digest]| {
            let free = digests.iter().filter(|digest| !held.contains_key(digest));
            free.copied().collect::<Vec<_>>()
        };
        let (blobs, layers) = (free(&counts.blobs, blobs), free(&counts.layers, layers));
        let (blobs, layers) = self.catalog.forget_unused(&blobs, &layers)?;
        let blobs = blobs.iter().map(|digest| self.state.blob(digest));
        let paths = blobs.chain(layers.iter().map(|diff_id| self.state.layer(diff_id)));
        let mut freed = 0;
        for path in paths {
            freed += fs::metadata(&path).map_or(0, |metadata| metadata.blocks() * 512);
            state::remove(&path)?;
        }
        Ok(freed)
    }

    /// Takes a damaged blob out, so that it can be brought again; false if it was gone already.
    pub(crate) fn take_out_blob(&self, digest: &Digest) -> Result<bool> {
        let _counts = self.holds.lock();
        let known = self.catalog.forget_blob(digest)?;
        state::remove(&self.state.blob(digest))?;
        Ok(known)
    }

    /// Takes a damaged layer out, so that it can be brought again; false if it was gone already.
    pub(crate) fn take_out_layer(&self, diff_id: &Digest) -> Result<bool> {
        let _counts = self.holds.lock();
        let known = self.catalog.forget_layer(diff_id)?;
        state::remove(&self.state.layer(diff_id))?;
        Ok(known)
    }
}

fn files_in(directory: &Path) -> Result<Vec<OsString>> {
    let list = || {
        let entries = fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    };
    let names: std::io::Result<Vec<OsString>> = list();
    Ok(names.map_err(state::StateError::of("list", directory))?)
}
