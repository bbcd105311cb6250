//! Taking names from images, and images from the store, by Docker's rules.

use crate::image::ImageSummary;
use crate::store::{ImageStore, Result};

/// Who uses images: the engine's containers.
pub trait ImageUsers {
    /// A container that was made from the image with this identifier (`sha256:HEX`); a running one if there is
    /// one.
    fn user_of(&self, image_id: &str) -> Option<ImageUser>;
}

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// Its full identifier.
    pub container: String,
    /// Whether it runs.
    pub is_running: bool,
}

/// Nobody uses any image.
#[derive(Debug, Clone, Copy)]
pub struct NoUsers;

impl ImageUsers for NoUsers {
    fn user_of(&self, _: &str) -> Option<ImageUser> {
        None
    }
}

/// What a removal did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A full name, with tag or digest, leads nowhere any more.
    Untagged(String),
    /// An image (`sha256:HEX` of its configuration) or a layer (its chain identifier, as Docker tells it) is
    /// gone.
    Deleted(String),
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// All names, images and layers.
    pub removals: Vec<Removal>,
    /// The size in bytes of what is gone: the files of the layers, as Docker tells it.
    pub reclaimed: u64,
}

impl ImageStore {
    /// Removes the image or only its name `name`, as `docker rmi` does: of several names only this one goes; the
    /// last name takes the image along. `force` removes it with all its names, and under stopped containers.
    pub fn remove(&self, name: &str, force: bool, users: &dyn ImageUsers) -> Result<Vec<Removal>> {
        let _ = (name, force, users);
        todo!()
    }

    /// Removes the images that `select` wants gone and no container uses, with all their names.
    pub fn prune(
        &self,
        mut select: impl FnMut(&ImageSummary) -> bool,
        users: &dyn ImageUsers,
    ) -> Result<Pruned> {
        let _ = (&mut select, users);
        todo!()
    }
}
