//! Building: from a graph of stages to an image.
//!
//! What the target needs is built, each stage as soon as what it begins with is there. COPY, ADD and WORKDIR make their layers from
//! files; RUN asks the [`Host`] to run its command. Between steps there are images that nobody sees: they are what the [`Cache`]
//! remembers, by what each was made of.

mod archive;
mod cache;
mod config;
mod copying;
mod error;
mod host;
mod layering;
mod portable;
mod progress;
mod running;
mod sources;
mod stage;
mod time_limit;
mod underway;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use dockerfile::{BuildOptions, BuildStage, Dockerfile, Graph, Origin};
use image_store::{Digest, Image, ImageStore, Reference};
use registry::Registry;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::archive::ChangesError;
pub use self::cache::{Cache, CacheEntry, CacheRecord, over_size};
use self::config::Config;
pub use self::config::STEP_LABEL;
pub use self::error::BuildError;
pub use self::host::{
    Command, CommandAgent, CommandFile, CommandMount, Ended, HeldImage, Host, HostError, SecretVariables,
    Secrets,
};
use self::portable::StageTrail;
pub use self::portable::{
    CacheArchive, CacheArchiveError, CacheExport, CacheFormatError, CacheImport, CacheManifest, CacheMode,
    LayerFeed, LayerSource, MOST_CACHE_BYTES, PortableCache, Trail,
};
use self::progress::OutputBudget;
pub use self::progress::{Event, Reporter};
use self::stage::{Base, Built, Finished, StageBuild};
use self::time_limit::Deadline;
pub use self::time_limit::{LimitOwner, TimeLimit};
use self::underway::Underway;
use crate::{Context, GitOptions, Layers};
pub use dockerfile::{Network, Platform, Sharing};

/// Triggers of all base images of a build.
const MOST_TRIGGERS: usize = 1000;

/// What to build.
#[derive(Debug)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// Target, arguments and platforms.
    pub options: BuildOptions,
    /// The target's platform, if one was asked for: then no image for another one will do.
    pub platform: Option<Platform>,
    /// The build context.
    pub context: Arc<Context>,
    /// Labels of the image, over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// The names that the image gets.
    pub references: Vec<Reference>,
    /// Whether no earlier result is used.
    pub no_cache: bool,
    /// Whether images are asked for at their registries, there or not.
    pub pull: bool,
    /// The network of commands that ask for none.
    pub network: Network,
    /// Secrets of the client.
    pub secrets: Secrets,
    /// The SSH agents that the client lends.
    pub agents: BTreeSet<String>,
    /// The time of everything that is made (`SOURCE_DATE_EPOCH`), in seconds since 1970.
    pub epoch: Option<i64>,
    /// How long it may take.
    pub time_limit: Option<TimeLimit>,
    /// Caches of other machines, for what is not in this one's. The first that has a step gives it.
    pub imports: Vec<CacheImport>,
    /// Whether the image's configuration tells the steps that led to it, so that the image is a cache.
    pub inline_cache: bool,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The image.
    pub image: Image,
    /// The steps that led to it.
    pub trail: Trail,
}

/// Builds images. What it has made is shared by all its builds.
pub struct Builder<H> {
    pub(super) host: Arc<H>,
    pub(super) store: ImageStore,
    pub(super) cache: Cache,
    pub(super) layers: Arc<Layers>,
    pub(super) registry: Registry,
    /// For temporary files.
    pub(super) folder: PathBuf,
    pub(super) git: GitOptions,
}

/// What all stages of a build share.
pub(super) struct Shared<H> {
    pub(super) builder: Arc<Builder<H>>,
    pub(super) request: BuildRequest,
    pub(super) graph: Graph,
    /// The images that are needed, by what the Dockerfile calls them.
    pub(super) images: HashMap<ImageKey, HeldImage>,
    /// The stages' results, when they are there.
    pub(super) finished: HashMap<usize, watch::Receiver<Option<Arc<Finished>>>>,
    /// The number of the first step of each stage.
    pub(super) first_steps: HashMap<usize, usize>,
    pub(super) steps: usize,
    pub(super) run: BuildRun,
    pub(super) made: MadeSteps,
}

/// The steps that were carried out, by their keys, each with the stage that did it. Held by who adds one.
pub(super) type MadeSteps = Mutex<HashMap<Digest, (usize, CacheEntry)>>;

/// What is known of a build while it goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildRun {
    /// Ends the work of threads that block.
    pub(super) token: CancellationToken,
    pub(super) underway: Underway,
}

/// An image as a stage calls it, and the platform that the stage asks for.
type ImageKey = (String, Option<Platform>);

impl<H: Host> Builder<H> {
    /// A builder whose cache and temporary files are in folders of their own.
    pub fn new(
        host: Arc<H>,
        store: ImageStore,
        cache: Cache,
        layers: Arc<Layers>,
        registry: Registry,
        folder: PathBuf,
    ) -> Self {
        Self {
            host,
            store,
            cache,
            layers,
            registry,
            folder,
            git: GitOptions::default(),
        }
    }

    /// Builds an image; what happens is told to `events`. Nothing of it goes on when this is dropped.
    pub async fn build(
        self: &Arc<Self>,
        request: BuildRequest,
        events: mpsc::Sender<Event>,
    ) -> Result<BuiltImage, BuildError> {
        let run = BuildRun::default();
        let _cancelled = run.token.clone().drop_guard();
        let deadline = Deadline::begin(request.time_limit, run.underway.clone());
        let graph = Graph::of(&request.dockerfile, &request.options)?;
        let output = OutputBudget::default();
        let (mut reporters, forward) = progress::reporters(1, &output, events.clone());
        let pulling = reporters.remove(0);
        let resolve = async {
            let pulling = pulling;
            let resolving = self.resolve(graph, &request, &run, &pulling);
            deadline.hold(resolving).await
        };
        let (resolved, ()) = tokio::join!(resolve, forward);
        let (graph, images) = resolved?;
        let order: Vec<usize> = graph.order().iter().map(|stage| stage.index).collect();
        let (reporters, forward) = progress::reporters(order.len(), &output, events);
        let building = self.build_stages(graph, images, request, order, reporters, run);
        let (built, ()) = tokio::join!(deadline.hold(building), forward);
        built
    }

    /// Finds the images that the target needs, also because of the triggers of some.
    async fn resolve(
        &self,
        mut graph: Graph,
        request: &BuildRequest,
        run: &BuildRun,
        reporter: &Reporter,
    ) -> Result<(Graph, HashMap<ImageKey, HeldImage>), BuildError> {
        let mut images = HashMap::new();
        let (mut triggered, mut count) = (Vec::new(), 0);
        loop {
            let stages = graph.order();
            let needs = stages
                .iter()
                .flat_map(|stage| stage.needs.iter().map(move |need| (*stage, need)));
            let missing = needs.into_iter().find_map(|(stage, need)| match &need.origin {
                Origin::Image(name) => {
                    let key = (name.clone(), stage.platform_of(&need.origin));
                    (!images.contains_key(&key)).then_some((need.span, key))
                }
                _ => None,
            });
            if let Some((span, key)) = missing {
                let _underway = run.underway.begin(0, span, || format!("the image {}", key.0));
                let platform = key.1.as_ref().or(request.platform.as_ref());
                let found = self.host.image(&key.0, platform, request.pull, reporter).await;
                images.insert(key, found.map_err(|error| BuildError::from(error).at(span))?);
                continue;
            }
            let untold = stages.iter().find(|stage| !triggered.contains(&stage.index));
            let Some((index, base, platform)) =
                untold.map(|stage| (stage.index, stage.base.clone(), stage.platform_of(&stage.base)))
            else {
                return Ok((graph, images));
            };
            triggered.push(index);
            if let Origin::Image(name) = &base
                && let Some(held) = images.get(&(name.clone(), platform))
            {
                let triggers = held.image.docker.on_build.clone().unwrap_or_default();
                count += triggers.len();
                if count > MOST_TRIGGERS {
                    return Err(BuildError::Unsupported(format!(
                        "the base images have more than {MOST_TRIGGERS} ONBUILD triggers together"
                    )));
                }
                graph.add_triggers(index, &triggers)?;
            }
        }
    }

    async fn build_stages(
        self: &Arc<Self>,
        graph: Graph,
        images: HashMap<ImageKey, HeldImage>,
        request: BuildRequest,
        order: Vec<usize>,
        reporters: Vec<Reporter>,
        run: BuildRun,
    ) -> Result<BuiltImage, BuildError> {
        let (mut senders, mut finished) = (Vec::new(), HashMap::new());
        let (mut first_steps, mut steps) = (HashMap::new(), 0);
        for index in &order {
            let (sender, receiver) = watch::channel(None);
            senders.push(sender);
            finished.insert(*index, receiver);
            first_steps.insert(*index, steps + 1);
            let stage = graph.stages().get(*index);
            steps += 1 + stage.map_or(0, |stage| stage.instructions().count());
        }
        let target = graph.target().index;
        let shared = Arc::new(Shared {
            builder: self.clone(),
            request,
            graph,
            images,
            finished,
            first_steps,
            steps,
            run,
            made: MadeSteps::default(),
        });
        let mut stages = JoinSet::new();
        for ((index, sender), reporter) in order.into_iter().zip(senders).zip(reporters) {
            let shared = shared.clone();
            stages.spawn(async move {
                let built = async {
                    let build = StageBuild::begin(shared, index, reporter).await?;
                    build.build().await
                };
                (index, sender, built.await)
            });
        }
        let mut built: Option<Built> = None;
        while let Some(stage) = stages.join_next().await {
            let (index, sender, made) = stage.map_err(|error| BuildError::Ended(error.to_string()))?;
            // The first failure ends all others, before those who wait for this stage could tell that it was not built.
            let made = made?;
            if index == target {
                built = Some(made);
            } else {
                // Nobody may have waited for it.
                let _ = sender.send(Some(Arc::new(made.state)));
            }
        }
        let built = built.ok_or_else(|| BuildError::Ended("no image was made".into()))?;
        let (image, links) = built.image(&shared).await?;
        let trail = shared.trail(StageTrail {
            image: Some(image.clone()),
            links,
        });
        Ok(BuiltImage { image, trail })
    }
}

impl<H: Host> Shared<H> {
    pub(super) fn stage(&self, index: usize) -> Result<&BuildStage, BuildError> {
        let stage = self.graph.stages().get(index);
        stage.ok_or_else(|| BuildError::Ended(format!("there is no stage {index}")))
    }

    /// What another stage was at its end, once it has come there.
    pub(super) async fn finished(&self, stage: usize) -> Result<Arc<Finished>, BuildError> {
        let failed = || BuildError::Ended(format!("stage {stage} was not built"));
        let mut receiver = self.finished.get(&stage).cloned().ok_or_else(failed)?;
        let finished = receiver.wait_for(Option::is_some).await.map_err(|_| failed())?;
        finished.clone().ok_or_else(failed)
    }

    /// The steps of all stages, when they were built: those of the target, and of all others.
    fn trail(&self, target: StageTrail) -> Trail {
        let others = self.graph.order().into_iter().filter_map(|stage| {
            let finished = self.finished.get(&stage.index)?.borrow().clone()?;
            Some(finished.trail())
        });
        Trail {
            stages: std::iter::once(target).chain(others).collect(),
        }
    }

    /// What a stage begins with.
    pub(super) async fn base(&self, origin: &Origin, stage: usize) -> Result<Base, BuildError> {
        match origin {
            Origin::Scratch => Ok(Base::scratch(Config::scratch(
                &self.request.options.target_platform,
            ))),
            Origin::Stage(index) => {
                let _waits = self.run.underway.wait(stage);
                Ok(Base::stage(&*self.finished(*index).await?))
            }
            Origin::Image(name) => {
                let held = self
                    .images
                    .get(&(name.clone(), self.stage(stage)?.platform_of(origin)));
                let held = held.ok_or_else(|| BuildError::Ended(format!("image {name} was not found")))?;
                self.builder.base_of(held).await
            }
            Origin::Context(name) => Err(unknown_context(name)),
        }
    }
}

fn unknown_context(name: &str) -> BuildError {
    BuildError::Unsupported(format!(
        "the build context {name} was not given: hull builds with one context; copy from a stage or an image instead"
    ))
}
