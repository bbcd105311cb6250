//! Taking names from images, and images from the store, by Docker's rules.

use crate::catalog::{ImageLayerRow, NamesOfImage, Removed, repository_of};
use crate::digest::Digest;
use crate::holds::Files;
use crate::image::ImageSummary;
use crate::store::{Found, ImageStore, Result, Shared, StoreError};
use std::collections::BTreeSet;

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

/// What stands in the way of a removal, in Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum RemovalConflict {
    /// The last name is to go, but a container needs the image.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
        short(.container), short(.image)
    )]
    ReferenceInUse {
        /// The name.
        name: String,
        /// The container.
        container: String,
        /// The image's identifier.
        image: String,
    },
    /// The image was given by its identifier, and has names in several repositories.
    #[error("conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories", short(.image))]
    SeveralRepositories {
        /// The image's identifier.
        image: String,
    },
    /// A stopped container was made from it.
    #[error("conflict: unable to delete {} (must be forced) - image is being used by stopped container {}", short(.image), short(.container))]
    Stopped {
        /// The image's identifier.
        image: String,
        /// The container.
        container: String,
    },
    /// A running container was made from it.
    #[error("conflict: unable to delete {} (cannot be forced) - image is being used by running container {}", short(.image), short(.container))]
    Running {
        /// The image's identifier.
        image: String,
        /// The container.
        container: String,
    },
}

/// The first twelve digits of an identifier.
fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
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
        let found = self.shared.find(name)?;
        let not_found = || StoreError::NotFound {
            name: name.to_owned(),
        };
        let row = self
            .shared
            .catalog
            .image(&found.manifest)?
            .ok_or_else(not_found)?;
        let user = users.user_of(&row.config.to_string());
        let removed = self
            .shared
            .catalog
            .remove(&row.config, |image| decide(image, &found, force, user.as_ref()))??;
        Ok(self.shared.finish_removal(&row.config, removed)?.removals)
    }

    /// Removes the images that `select` wants gone and no container uses, with all their names.
    pub fn prune(
        &self,
        mut select: impl FnMut(&ImageSummary) -> bool,
        users: &dyn ImageUsers,
    ) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for image in self.shared.catalog.images()? {
            let (id, names) = (image.row.config, image.names.clone());
            let summary = ImageSummary::from(image);
            if !select(&summary) || users.user_of(&summary.id).is_some() {
                continue;
            }
            // It is only removed as it was selected: no name has been given to it since.
            let unchanged = |now: &NamesOfImage| match now.names == names {
                true => Ok((names.iter().cloned().collect(), true)),
                false => Err(()),
            };
            if let Ok(removed) = self.shared.catalog.remove(&id, unchanged)? {
                let removed = self.shared.finish_removal(&id, removed)?;
                pruned.removals.extend(removed.removals);
                pruned.reclaimed += removed.reclaimed;
            }
        }
        Ok(pruned)
    }
}

/// Which names go, and whether the image does.
fn decide(
    image: &NamesOfImage,
    found: &Found,
    force: bool,
    user: Option<&ImageUser>,
) -> Result<(Vec<String>, bool), RemovalConflict> {
    let id = image.id.to_string();
    let is_single = is_single_reference(&image.names);
    let Some(name) = found.name.as_ref().filter(|name| image.names.contains(*name)) else {
        if !is_single && !force {
            return Err(RemovalConflict::SeveralRepositories { image: id });
        }
        check_user(&id, force, user)?;
        return Ok((image.names.iter().cloned().collect(), true));
    };
    if let Some(user) = user.filter(|_| is_single && !force) {
        return Err(RemovalConflict::ReferenceInUse {
            name: name.clone(),
            container: user.container.clone(),
            image: id,
        });
    }
    let mut names = vec![name.clone()];
    let mut left: BTreeSet<&String> = image.names.iter().filter(|other| *other != name).collect();
    let of_repository = |other: &String| repository_of(other) == repository_of(name);
    // When the last tag of a repository goes, its digests go along.
    if !name.contains('@')
        && !left
            .iter()
            .any(|other| !other.contains('@') && of_repository(other))
    {
        let digests: Vec<&String> = left
            .iter()
            .copied()
            .filter(|other| of_repository(other))
            .collect();
        for digest in digests {
            left.remove(digest);
            names.push(digest.clone());
        }
    }
    if !left.is_empty() {
        return Ok((names, false));
    }
    check_user(&id, force, user)?;
    Ok((names, true))
}

/// Whether the names are at most one tag and digests of its repository.
fn is_single_reference(names: &BTreeSet<String>) -> bool {
    let repositories: BTreeSet<&str> = names.iter().map(|name| repository_of(name)).collect();
    let tags = names.iter().filter(|name| !name.contains('@')).count();
    names.len() <= 1 || (repositories.len() == 1 && tags <= 1)
}

fn check_user(id: &str, force: bool, user: Option<&ImageUser>) -> Result<(), RemovalConflict> {
    let (image, Some(user)) = (id.to_owned(), user) else {
        return Ok(());
    };
    let container = user.container.clone();
    match (user.is_running, force) {
        (true, _) => Err(RemovalConflict::Running { image, container }),
        (false, false) => Err(RemovalConflict::Stopped { image, container }),
        (false, true) => Ok(()),
    }
}

impl Shared {
    /// Removes the files that nobody needs after a removal, and tells it as Docker does.
    fn finish_removal(&self, id: &Digest, removed: Removed) -> Result<Pruned> {
        let mut pruned = Pruned {
            removals: removed.names.into_iter().map(Removal::Untagged).collect(),
            reclaimed: 0,
        };
        if removed.images.is_empty() {
            return Ok(pruned);
        }
        let mut files = Files::default();
        let mut chains: BTreeSet<Digest> = BTreeSet::new();
        pruned.removals.push(Removal::Deleted(id.to_string()));
        for (image, layers) in &removed.images {
            files.blobs.extend([image.manifest, image.config]);
            files.blobs.extend(layers.iter().map(|layer| layer.blob));
            files.layers.extend(layers.iter().map(|layer| layer.diff_id));
            let shared = self.catalog.shared_layers(layers)?;
            for (chain, size) in chain_ids(layers).into_iter().skip(shared).rev() {
                if chains.insert(chain) {
                    pruned.removals.push(Removal::Deleted(chain.to_string()));
                    pruned.reclaimed += size;
                }
            }
        }
        self.collect(&files)?;
        Ok(pruned)
    }
}

/// The chain identifier of each layer (OCI image specification, config.md, "Layer ChainID") and the size of its
/// files, bottom first.
pub(crate) fn chain_ids(layers: &[ImageLayerRow]) -> Vec<(Digest, u64)> {
    let mut chain: Option<Digest> = None;
    let next = |layer: &ImageLayerRow| {
        let id = match chain {
            None => layer.diff_id,
            Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
        };
        chain = Some(id);
        (id, layer.files_size)
    };
    layers.iter().map(next).collect()
}
