//! Which containers use which images.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use image_store::{Hold, Image, ImageUser, ImageUsers, Reference};

use super::Images;
use crate::container::Live;
use crate::{EngineError, Result, Status};

/// The containers of an engine at one moment, by the images that they were made from.
#[derive(Debug)]
pub(crate) struct Users(HashMap<String, ImageUser>);

impl Users {
    pub(crate) fn of(containers: &[Arc<Live>]) -> Self {
        let mut users: HashMap<String, ImageUser> = HashMap::new();
        for live in containers {
            let user = ImageUser {
                container: live.id().to_owned(),
                is_running: live.is_up() || live.status() == Status::Restarting,
            };
            let image_id = live.record().image_id.clone();
            match users.get_mut(&image_id) {
                // One that runs is the stronger reason.
                Some(other) if other.is_running || !user.is_running => {}
                Some(other) => *other = user,
                None => {
                    users.insert(image_id, user);
                }
            }
        }
        Self(users)
    }
}

impl ImageUsers for Users {
    fn user_of(&self, image_id: &str) -> Option<ImageUser> {
        self.0.get(image_id).cloned()
    }
}

impl Images {
    /// The image that a container is to be made from, and its layers held until they are
    /// [given to the container](Images::hold_for).
    pub(crate) async fn resolve_and_hold(&self, name: &str) -> Result<(Image, Hold)> {
        let wanted = name.to_owned();
        let (image, hold, whole) = self
            .ask("look up an image", move |store| {
                let image = store.resolve(&wanted)?;
                let hold = store.hold(&image);
                // It may have been removed before it was held.
                let whole = image.layers.iter().all(|layer| layer.path.exists());
                Ok((image, hold, whole))
            })
            .await?;
        if !whole {
            return Err(EngineError::Conflict(format!(
                "the image {name} has layers that are not there: it is being removed, or its store was hurt; \
                 `hull system check` finds out, and pulling it again heals it"
            )));
        }
        Ok((image, hold))
    }

    /// Keeps a container's layers until it [is gone](Images::release).
    pub(crate) fn hold_for(&self, container: &str, hold: Hold) {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.insert(container.to_owned(), hold);
    }

    /// Gives the layers of a container free that is gone.
    pub(crate) fn release(&self, container: &str) {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.remove(container);
    }

    /// Holds the layers of the containers that there are, then removes what nobody needs: what a crash left.
    pub(crate) fn hold_existing(&self, containers: &[Arc<Live>]) {
        for live in containers {
            let paths: Vec<PathBuf> = live.record().layers.clone();
            self.hold_for(live.id(), self.store.hold_layers(&paths));
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || match store.collect_garbage() {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "what no image needs was removed"),
            Err(error) => tracing::warn!(%error, "what no image needs was not removed"),
        });
    }

    /// The names that lead to the image they led to when a container was made with them: each name and identifier that
    /// was asked for, as it was.
    pub(crate) async fn current(
        &self,
        wanted: HashSet<(String, String)>,
    ) -> Result<HashSet<(String, String)>> {
        self.ask("look up the images of containers", move |store| {
            let mut ids: HashMap<String, String> = HashMap::new();
            for summary in store.summaries()? {
                for name in summary.references.iter().chain(&summary.digests) {
                    ids.insert(name.clone(), summary.id.clone());
                }
            }
            let leads_there = |(name, id): &(String, String)| match name.parse::<Reference>() {
                Ok(reference) => leads_to(&reference, &ids) == Some(id),
                // An identifier is what it is.
                Err(_) => true,
            };
            Ok(wanted.into_iter().filter(leads_there).collect())
        })
        .await
    }
}

/// The image that a name leads to: of its repositories the first that is there counts.
fn leads_to<'a>(reference: &Reference, ids: &'a HashMap<String, String>) -> Option<&'a String> {
    let suffix = match reference.digest() {
        Some(digest) => format!("@{digest}"),
        None => format!(":{}", reference.tag()),
    };
    reference
        .repositories()
        .iter()
        .find_map(|repository| ids.get(&format!("{repository}{suffix}")))
}
