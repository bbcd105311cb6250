//! Layers that are open, shared by all builds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image_store::Digest;

use crate::file_tree::TreeError;
use crate::layer::Layer;

/// Layers that stay open: each is a file descriptor, and up to 8 MiB of directories.
const MAX_OPEN: usize = 64;

/// Keeps layers open that were used last, with what was read and computed of them: the next build reads the same ones.
#[derive(Debug, Default)]
pub struct Layers(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    layers: HashMap<Digest, (u64, Arc<Layer>)>,
    clock: u64,
}

impl Layers {
    /// The layer that the image store made of the archive `diff_id`; `path` is its file system image.
    pub fn open(&self, diff_id: Digest, path: &Path) -> Result<Arc<Layer>, TreeError> {
        if let Some(layer) = self.lock().used(&diff_id) {
            return Ok(layer);
        }
        let layer = Layer::open(diff_id, path)?;
        self.lock().keep(layer.clone());
        Ok(layer)
    }

    /// Closes all layers that no tree uses. The space of a layer that was removed is free only when nobody has it open: whoever
    /// removes some calls this.
    pub fn close_unused(&self) {
        self.lock()
            .layers
            .retain(|_, (_, layer)| Arc::strong_count(layer) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn used(&mut self, diff_id: &Digest) -> Option<Arc<Layer>> {
        self.clock += 1;
        let (used, layer) = self.layers.get_mut(diff_id)?;
        *used = self.clock;
        Some(layer.clone())
    }

    fn keep(&mut self, layer: Arc<Layer>) {
        if self.layers.len() >= MAX_OPEN {
            let oldest = self.layers.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(diff_id, _)| *diff_id) {
                self.layers.remove(&oldest);
            }
        }
        self.clock += 1;
        self.layers.insert(layer.diff_id(), (self.clock, layer));
    }
}
