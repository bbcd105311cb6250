//! Layers: taken from the cache, or made.

use std::io::{self, PipeReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use image_store::{Digest, Image};
use jiff::Timestamp as Time;
use serde_json::{Map, Value};
use tar_stream::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::cache::{CacheEntry, Key};
use super::config::Config;
use super::host::Host;
use super::portable::{self, Link, Made};
use super::progress::Event;
use super::stage::{Base, Finished, StageBuild};
use super::{BuildError, Builder, HeldImage, Shared};
use crate::LayerTree;

/// What goes through a pipe at once, in bytes.
const BUFFER: usize = 128 << 10;

impl<H: Host> Builder<H> {
    /// The files of an image.
    pub(super) fn tree(&self, image: &Image) -> Result<LayerTree, BuildError> {
        let open = |layer: &image_store::Layer| {
            let digest: Digest = layer.diff_id.parse().map_err(|error| {
                BuildError::Ended(format!("layer {} of image {}: {error}", layer.diff_id, image.id))
            })?;
            Ok::<_, BuildError>(self.layers.open(digest, &layer.path)?)
        };
        Ok(LayerTree::new(
            image.layers.iter().map(open).collect::<Result<_, _>>()?,
        ))
    }

    /// What a stage on this image begins with.
    pub(super) async fn base_of(self: &Arc<Self>, held: &HeldImage) -> Result<Base, BuildError> {
        let (builder, image) = (self.clone(), held.image.clone());
        blocking(move || {
            let document = builder.store.raw_config(&image)?;
            let document: Map<String, Value> = serde_json::from_slice(&document)
                .map_err(|error| BuildError::Ended(format!("the configuration of {}: {error}", image.id)))?;
            let config = Config::of_image(&document, image.layers.len());
            let tree = builder.tree(&image)?;
            Ok(Base::image(image, tree, config))
        })
        .await
    }

    /// An image of the layers of `below` and one more, which nobody sees.
    pub(super) fn assemble(
        &self,
        below: Option<&Image>,
        layer: Option<impl Read>,
        config: Map<String, Value>,
    ) -> Result<Image, BuildError> {
        Ok(self.store.assemble(below, layer, config, &[])?)
    }
}

impl<H: Host> Shared<H> {
    /// The time of what is made now (RFC 3339).
    pub(super) fn now(&self) -> String {
        let epoch = self.request.epoch.and_then(|epoch| Time::from_second(epoch).ok());
        epoch.unwrap_or_else(Time::now).to_string()
    }

    /// The same for files.
    pub(super) fn time(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        Timestamp {
            seconds: self.request.epoch.unwrap_or(now),
            nanoseconds: 0,
        }
    }

    /// The latest time that a file may have, where the build says so.
    pub(super) fn latest(&self) -> Option<Timestamp> {
        self.request.epoch.map(|_| self.time())
    }

    /// The finished image, and the steps that led to it. What was built before of the same is the same image again.
    pub(super) async fn complete(
        self: &Shared<H>,
        below: Option<Image>,
        config: Config,
        mut links: Vec<Link>,
    ) -> Result<(Image, Vec<Link>), BuildError> {
        let mut key = Key::new("image");
        key.add_all(layers_of(below.as_ref()));
        key.add(Value::from(config.document(None)).to_string());
        key.add_all(self.request.epoch.map(|epoch| epoch.to_string()));
        let (builder, now) = (self.builder.clone(), self.now());
        let (references, no_cache) = (self.request.references.clone(), self.request.no_cache);
        let (imported, is_inline) = (
            self.request.imported_time(&key.digest()),
            self.request.inline_cache,
        );
        blocking(move || {
            let known = builder.cache.find(&key).filter(|_| !no_cache);
            let created = known.map(|entry| entry.created).or(imported).unwrap_or(now);
            links.push(Link {
                key: key.digest(),
                made: Made::Image,
                created: created.clone(),
            });
            let mut document = config.document(Some(&created));
            document.extend(is_inline.then(|| portable::inline(&links, below.as_ref())));
            let image = builder
                .store
                .assemble(below.as_ref(), None::<io::Empty>, document, &references)?;
            let entry = CacheEntry {
                image: None,
                created,
                description: "an image".into(),
                size: 0,
            };
            builder.cache.keep(&key, &entry)?;
            Ok((image, links))
        })
        .await
    }
}

impl<H: Host> StageBuild<H> {
    /// The key of a step on what is there.
    pub(super) fn key(&self, kind: &str) -> Key {
        let mut key = Key::new(kind);
        key.add_all(layers_of(self.state.image.as_ref()));
        key.add_all(self.shared.request.epoch.map(|epoch| epoch.to_string()));
        key
    }

    /// Takes a step's result from the cache, or from one of another machine, if it is there; `text` is how the history tells it.
    pub(super) async fn take_cached(&mut self, key: &Key, text: &str) -> Result<bool, BuildError> {
        if self.shared.request.no_cache {
            return Ok(false);
        }
        Ok(self.take_known(key, text).await? || self.take_imported(key, text).await?)
    }

    async fn take_known(&mut self, key: &Key, text: &str) -> Result<bool, BuildError> {
        let Some(entry) = self.shared.builder.cache.find(key) else {
            return Ok(false);
        };
        let Some(id) = &entry.image else {
            return Ok(false);
        };
        // It may have been removed.
        let Some(held) = self.shared.builder.host.find(id).await? else {
            return Ok(false);
        };
        self.reporter.tell(Event::Cached);
        self.advance(held, key, text, &entry).await?;
        Ok(true)
    }

    /// Takes the result of a step that was carried out.
    pub(super) async fn take_made(&mut self, key: &Key, text: &str, image: Image) -> Result<(), BuildError> {
        let created = self.shared.now();
        self.take(key, text, image, created).await
    }

    /// Takes the image of a step, which was carried out at some time, and keeps it in the cache. Stages that carry out the same at the same
    /// time all take what the first of them made, so that what follows begins with the same for all, and in the next build, too.
    pub(super) async fn take(
        &mut self,
        key: &Key,
        text: &str,
        image: Image,
        created: String,
    ) -> Result<(), BuildError> {
        let shared = self.shared.clone();
        let mut made = shared.made.lock().await;
        if let Some((stage, entry)) = made.get(&key.digest())
            && *stage != self.index
            && let Some(id) = &entry.image
            && let Some(held) = shared.builder.host.find(id).await?
        {
            return self.advance(held, key, text, entry).await;
        }
        let id = image.id.clone();
        let below = self.state.image.as_ref().map_or(0, |image| image.layers.len());
        let size = image.layers.iter().skip(below).map(|layer| layer.size).sum();
        let entry = CacheEntry {
            image: Some(id.clone()),
            created,
            description: text.chars().take(1000).collect(),
            size,
        };
        let held = self.shared.builder.host.find(&id).await?;
        let held = held.ok_or_else(|| BuildError::Ended(format!("image {id}, just made, was removed")))?;
        let (builder, kept, of) = (self.shared.builder.clone(), entry.clone(), key.clone());
        blocking(move || builder.cache.keep(&of, &kept)).await?;
        made.insert(key.digest(), (self.index, entry.clone()));
        drop(made);
        self.advance(held, key, text, &entry).await
    }

    async fn advance(
        &mut self,
        held: HeldImage,
        key: &Key,
        text: &str,
        entry: &CacheEntry,
    ) -> Result<(), BuildError> {
        let image = held.image.clone();
        let below = self.state.image.as_ref().map_or(0, |image| image.layers.len());
        let layer = image.layers.get(below..).and_then(<[_]>::last);
        let created = layer.is_some().then_some(entry.created.as_str());
        self.state.config.note(text, created);
        self.state.links.push(Link {
            key: key.digest(),
            made: layer.map_or(Made::Nothing, |layer| Made::Layer(layer.diff_id.clone())),
            created: entry.created.clone(),
        });
        let (builder, of) = (self.shared.builder.clone(), image.clone());
        self.state.tree = blocking(move || builder.tree(&of)).await?;
        self.reporter.tell(Event::Made(image.id.clone()));
        self.state.image = Some(image);
        self.state.held.push(Arc::new(held));
        Ok(())
    }

    /// Makes a layer of what `write` writes, on top of what is there, and takes it.
    pub(super) async fn make_layer(
        &mut self,
        key: &Key,
        text: &str,
        write: impl FnOnce(&Finished, &mut dyn Write, &Path) -> Result<(), BuildError> + Send + 'static,
    ) -> Result<(), BuildError> {
        let (state, builder) = (self.state.clone(), self.shared.builder.clone());
        let image = blocking(move || {
            piped(
                |output| {
                    let mut output = io::BufWriter::with_capacity(BUFFER, output);
                    write(&state, &mut output, &builder.folder)?;
                    output.flush().map_err(BuildError::Pipe)
                },
                |input| builder.assemble(state.image.as_ref(), Some(input), state.config.bare()),
            )
        })
        .await?;
        self.take_made(key, text, image).await
    }
}

/// Has one thread write an archive and this one make an image of it. What the writer did not finish is none.
pub(super) fn piped(
    write: impl FnOnce(io::PipeWriter) -> Result<(), BuildError> + Send,
    read: impl FnOnce(Checked) -> Result<Image, BuildError>,
) -> Result<Image, BuildError> {
    let (reader, writer) = io::pipe().map_err(BuildError::Pipe)?;
    let complete = Arc::new(AtomicBool::new(false));
    let input = Checked {
        reader,
        complete: complete.clone(),
    };
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            // The reader is to see the end only when it knows what end it is.
            let end = writer.try_clone().map_err(BuildError::Pipe)?;
            let written = write(writer);
            complete.store(written.is_ok(), Ordering::Release);
            drop(end);
            written
        });
        let image = read(input);
        let written = writing.join();
        let written = written.unwrap_or_else(|_| Err(BuildError::Ended("a layer was not written".into())));
        match (image, written) {
            // Nobody reads any more: the reader says why.
            (Err(error), Err(written)) if written.is_broken_pipe() => Err(error),
            (_, Err(error)) => Err(error),
            (image, Ok(())) => image,
        }
    })
}

/// What a writer writes that says whether all of it came.
pub(super) struct Checked {
    reader: PipeReader,
    complete: Arc<AtomicBool>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.complete.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the layer was not finished",
            ));
        }
        Ok(count)
    }
}

/// The digests of an image's layers.
pub(super) fn layers_of(image: Option<&Image>) -> impl Iterator<Item = &str> {
    image
        .into_iter()
        .flat_map(|image| image.layers.iter().map(|layer| layer.diff_id.as_str()))
}

/// Does work that waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    // What nobody waits for any more before it has a thread does not begin.
    match AbortOnDropHandle::new(tokio::task::spawn_blocking(work)).await {
        Ok(done) => done,
        Err(error) => Err(BuildError::Ended(error.to_string())),
    }
}
