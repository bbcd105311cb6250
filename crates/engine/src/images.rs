//! The images of an engine.

use std::path::Path;
use std::sync::Arc;

use image_store::{Image, ImageStore, StoreError};

use crate::streams::blocking;
use crate::{EngineError, Result};

/// The reference of the image that comes with hull.
const EMBEDDED: &str = "localhost/busybox:latest";

/// The images of an engine. The store waits for its disk, so it is asked on threads that may.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    store: Arc<ImageStore>,
}

impl Images {
    /// Opens the store under `root`, and puts the image that comes with hull into it if it is not there as it is in
    /// `lib`.
    pub(crate) fn open(root: &Path, lib: &Path) -> Result<Images> {
        let store = ImageStore::open(root).map_err(EngineError::Images)?;
        let layout = lib.join("busybox");
        if layout.is_dir() {
            // Broken or not, the other images can be used.
            if let Err(error) = store.import_oci_layout(&layout, EMBEDDED) {
                tracing::warn!(layout = %layout.display(), %error, "the embedded image cannot be used");
            }
        }
        Ok(Images {
            store: Arc::new(store),
        })
    }

    pub(crate) async fn resolve(&self, name: &str) -> Result<Image> {
        let (store, name) = (self.store.clone(), name.to_owned());
        blocking("look up an image", move || match store.resolve(&name) {
            Ok(image) => Ok(image),
            Err(StoreError::NotFound { .. }) => Err(EngineError::NoSuchImage(with_tag(&name))),
            Err(StoreError::Reference(error)) => {
                Err(EngineError::Invalid(format!("invalid reference format: {error}")))
            }
            Err(error @ StoreError::AmbiguousId { .. }) => Err(EngineError::Invalid(error.to_string())),
            Err(error) => Err(EngineError::Images(error)),
        })
        .await
    }

    pub(crate) async fn list(&self) -> Result<Vec<Image>> {
        let store = self.store.clone();
        blocking("list the images", move || {
            store.list().map_err(EngineError::Images)
        })
        .await
    }
}

/// The name as Docker tells it of an image that it does not have.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_told_with_one() {
        assert_eq!(with_tag("alpine"), "alpine:latest");
        assert_eq!(with_tag("alpine:3"), "alpine:3");
        assert_eq!(with_tag("host:5000/a/b"), "host:5000/a/b:latest");
        assert_eq!(with_tag("a@sha256:00"), "a@sha256:00");
    }

    #[tokio::test]
    async fn an_unknown_image_is_dockers_error() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path(), Path::new("/nonexistent")).unwrap();
        let error = images.resolve("nosuch").await.unwrap_err();
        assert_eq!(error.to_string(), "No such image: nosuch:latest");
        assert!(images.list().await.unwrap().is_empty());
    }
}
