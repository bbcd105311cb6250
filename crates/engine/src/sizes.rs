//! What containers take on the disk.

use std::collections::HashMap;

use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// What a container takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerSizes {
    /// What it has written, in bytes, as far as it is on the host's disk: its guest may keep the last of it in memory.
    pub written: u64,
    /// The files of its image and what it has written, in bytes; `None` when the image was removed.
    pub root: Option<u64>,
}

impl Engine {
    /// What these containers take, by their ids; those that are removed meanwhile are left out.
    pub async fn container_sizes(&self, ids: &[String]) -> Result<HashMap<String, ContainerSizes>> {
        let images = self.images().await?;
        let images: HashMap<_, _> = images.into_iter().map(|image| (image.id, image.size)).collect();
        let mut sizes = HashMap::new();
        for id in ids {
            let Ok(live) = self.find(id) else { continue };
            let (shared, disk) = (self.shared.clone(), live.folder.disk());
            let blank = live.record().blank_disk_bytes;
            let look = move || shared.disks.written(&disk, blank);
            let written = blocking("look at a container's disk", look).await;
            let written = match written {
                Ok(written) => written,
                Err(EngineError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let root = images
                .get(&live.record().image_id)
                .map(|image| image.saturating_add(written));
            sizes.insert(id.clone(), ContainerSizes { written, root });
        }
        Ok(sizes)
    }
}
