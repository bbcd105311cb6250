//! Steps that were carried out elsewhere: their layers are fetched when they are needed.

use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use image_store::{BlobDescriptor, Digest, Image};

use super::document::{PortableCache, PortableStep};
use crate::solve::cache::Key;
use crate::solve::layering::blocking;
use crate::solve::progress::Event;
use crate::solve::stage::StageBuild;
use crate::solve::{BuildError, BuildRequest, Host};

/// Where the layers of a cache are.
pub trait LayerSource: Send + Sync + fmt::Debug {
    /// A layer. Its bytes need not be what the descriptor says: whoever reads them finds out.
    fn open(&self, layer: &BlobDescriptor) -> LayerFeed;
}

/// A layer that comes: what is read, on a thread that may block, while the rest of it is awaited.
pub struct LayerFeed {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) feed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl LayerFeed {
    /// One that is there.
    pub fn there(reader: impl Read + Send + 'static) -> Self {
        Self::fed(reader, async {})
    }

    /// One that cannot be read.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::there(Failed(why.into()))
    }

    /// One that `feed` brings. It need not begin before the first byte is read, and is over when the reader is dropped.
    pub fn fed(reader: impl Read + Send + 'static, feed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            reader: Box::new(reader),
            feed: Box::pin(feed),
        }
    }
}

impl fmt::Debug for LayerFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerFeed").finish_non_exhaustive()
    }
}

/// A layer that cannot be read.
struct Failed(String);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.clone()))
    }
}

/// A cache of another machine that a build may use.
#[derive(Debug, Clone)]
pub struct CacheImport {
    /// For people.
    name: String,
    cache: Arc<PortableCache>,
    layers: Arc<dyn LayerSource>,
}

impl CacheImport {
    /// A cache, and where its layers are.
    pub fn new(name: String, cache: PortableCache, layers: Arc<dyn LayerSource>) -> Self {
        Self {
            name,
            cache: Arc::new(cache),
            layers,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many steps it has.
    pub fn steps(&self) -> usize {
        self.cache.len()
    }
}

impl BuildRequest {
    /// When an image was made elsewhere that was made of the same.
    pub(in crate::solve) fn imported_time(&self, key: &Digest) -> Option<String> {
        let mut imports = self.imports.iter().filter(|_| !self.no_cache);
        imports.find_map(|import| import.cache.images.get(key).cloned())
    }
}

impl<H: Host> StageBuild<H> {
    /// Takes a step's result from a cache of another machine, if one has it.
    pub(in crate::solve) async fn take_imported(
        &mut self,
        key: &Key,
        text: &str,
    ) -> Result<bool, BuildError> {
        let (shared, digest) = (self.shared.clone(), key.digest());
        for import in &shared.request.imports {
            let Some(step) = import.cache.steps.get(&digest) else {
                continue;
            };
            match self.assemble_imported(import, step).await {
                Ok(image) => {
                    self.reporter.tell(Event::Cached);
                    self.take(key, text, image, step.created.clone()).await?;
                    return Ok(true);
                }
                // It is slower without, and not wrong.
                Err(error) => self.reporter.tell_line(format!(
                    "The build cache {} has this step, but it cannot be used: {error}\n",
                    import.name
                )),
            }
        }
        Ok(false)
    }

    /// The image of the layers so far and that of a step.
    async fn assemble_imported(
        &self,
        import: &CacheImport,
        step: &PortableStep,
    ) -> Result<Image, BuildError> {
        let (state, builder, layer) = (
            self.state.clone(),
            self.shared.builder.clone(),
            step.layer.clone(),
        );
        let LayerFeed { reader, feed } = match &layer {
            Some((blob, _)) => import.layers.open(blob),
            None => LayerFeed::there(io::empty()),
        };
        let assembled = blocking(move || {
            let layer = layer.as_ref().map(|(blob, diff_id)| (blob, diff_id));
            let (below, config) = (state.image.as_ref(), state.config.bare());
            Ok(builder.store.assemble_known(below, layer, reader, config)?)
        });
        let (image, ()) = tokio::join!(assembled, feed);
        image
    }
}
