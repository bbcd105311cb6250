//! What an engine does about builds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use ::registry::Credentials;
use builder::{
    BuildError, BuildRequest, Builder, BuiltImage, CacheArchive, Cancellable, Context, ContextLimits, Event,
    FetchOptions, FileTree, GitOptions, GitReference, LastLink, LimitOwner, Network, Platform, Secrets,
    TimeLimit, fetch, fetch_git, lookup, resolve_git,
};
use bytes::Bytes;
use dockerfile::pattern::Ignore;
use dockerfile::{BuildOptions, Dockerfile, lint};
use image_store::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cache_export::{CacheTarget, Exports};
use super::cache_import::Imports;
use super::host::{BuildHost, BuildLimits};
use super::step_cache::sweep;
use crate::images::{PipeWriter, parse, pipe};
use crate::streams::blocking;
use crate::{Engine, EngineError, Result};

/// What a build tells before it waits for its client.
const EVENTS: usize = 256;
/// What is read at once of a context, in bytes.
const BUFFER: usize = 128 << 10;
/// The largest Dockerfile or ignore file, in bytes.
const MOST_TEXT: u64 = 1 << 20;

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct BuildSpec {
    /// Where the Dockerfile is in the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// The names that the image gets.
    pub names: Vec<String>,
    /// `ARG`s.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The stage that is wanted; empty for the last one.
    pub target: String,
    /// `OS/ARCHITECTURE[/VARIANT]`; empty for what microVMs of this machine run.
    pub platform: String,
    /// Whether no earlier result is used.
    pub no_cache: bool,
    /// Whether images are asked for at their registries, there or not.
    pub pull: bool,
    /// How long it may take, if that is less than the engine allows.
    pub time_limit: Option<Duration>,
    /// The network of commands: empty, `default`, `bridge` or `none`.
    pub network: String,
    /// What commands may use.
    pub limits: BuildLimits,
    /// For registries, by their hosts.
    pub credentials: HashMap<String, Credentials>,
    /// What `RUN --mount=type=secret` finds.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The SSH agents that the client lends, for `RUN --mount=type=ssh`.
    pub agents: BTreeSet<String>,
    /// What the client calls itself when it [lends](Engine::lend_ssh_agent) one.
    pub session: String,
    /// Images, in registries or here, whose caches may be used.
    pub cache_from: Vec<String>,
    /// Where the cache of this build is pushed to.
    pub cache_to: Vec<CacheTarget>,
    /// Whether the image itself carries its cache.
    pub inline_cache: bool,
}

/// The files that a build begins with.
#[derive(Debug)]
pub struct BuildFiles {
    /// The build context.
    pub context: Context,
    /// Caches that the client has sent.
    pub caches: Option<CacheArchive>,
}

/// A build context that comes in as a tar archive, and maybe an archive of caches before it.
pub struct ContextInput {
    writer: PipeWriter,
    read: JoinHandle<Result<BuildFiles, EngineError>>,
}

impl ContextInput {
    /// The next piece of the archive. False: nobody wants more, [`ContextInput::finish`] says why.
    pub async fn write(&self, piece: Bytes) -> bool {
        self.writer.write(piece).await.is_ok()
    }

    /// The archive is over.
    pub async fn finish(self) -> Result<BuildFiles> {
        self.writer.finish().await;
        self.read
            .await
            .unwrap_or_else(|error| Err(EngineError::Internal(error.to_string())))
    }
}

/// A build that goes on until this is dropped.
#[derive(Debug)]
pub struct Build {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<Result<String, BuildFailure>>,
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildFailure {
    /// For people.
    pub message: String,
    /// The exit code of the command that failed, if it was one.
    pub code: Option<i32>,
}

impl Build {
    /// What happens next; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// How it ended: the identifier of the image.
    pub async fn end(mut self) -> Result<String, BuildFailure> {
        (&mut self.task).await.unwrap_or_else(|error| {
            Err(BuildFailure {
                message: error.to_string(),
                code: None,
            })
        })
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Engine {
    /// The contents, by their digests and sizes, that a client has to send with a context: they are not here.
    pub fn missing_contents(&self, contents: Vec<(Digest, u64)>) -> Vec<Digest> {
        self.shared.builds.contents.missing(contents)
    }

    /// Takes in a build context, with an archive of caches before it if the client has said so. A client whose context is
    /// elsewhere sends nothing after that. One that has asked which contents are [missing](Engine::missing_contents) may leave out
    /// those that are not.
    pub async fn build_context(&self, with_caches: bool, in_parts: bool) -> ContextInput {
        let (writer, reader) = pipe();
        // A client that sends slowly keeps no thread from others.
        let reader = reader.at(self.shared.images.places().take().await);
        let builds = &self.shared.builds;
        let (folder, contents) = (builds.temporary().to_owned(), builds.contents.clone());
        let read = tokio::spawn(blocking("read a build context", move || {
            let invalid = |error: &dyn std::fmt::Display| EngineError::Invalid(error.to_string());
            let mut reader = BufReader::with_capacity(BUFFER, reader);
            let caches = with_caches.then(|| CacheArchive::read(&mut reader, &folder));
            let caches = caches.transpose().map_err(|error| invalid(&error))?;
            let limits = ContextLimits::default();
            let context = match in_parts {
                true => Context::from_tar_and_store(reader, &contents, &folder, limits),
                false => Context::from_tar(reader, &folder, limits),
            };
            let context = context.map_err(|error| invalid(&error))?;
            Ok(BuildFiles { context, caches })
        }));
        ContextInput { writer, read }
    }

    /// Fetches a build context: a repository, an archive or a Dockerfile of the web.
    pub async fn remote_build_context(&self, url: &str) -> Result<Context> {
        let folder = self.shared.builds.temporary().to_owned();
        let invalid = |error: &dyn std::fmt::Display| EngineError::Invalid(error.to_string());
        if let Ok(reference) = url.parse::<GitReference>() {
            let options = GitOptions::default();
            let _cancelled = options.token.clone().drop_guard();
            return blocking("fetch a repository", move || {
                let commit = resolve_git(&reference, &options, &folder).map_err(|error| invalid(&error))?;
                fetch_git(&reference, &commit, &options, &folder).map_err(|error| invalid(&error))
            })
            .await;
        }
        let registry = self.shared.images.web();
        let fetched = fetch(registry, url, None, &FetchOptions::default(), &folder).await;
        let fetched = fetched.map_err(|error| invalid(&error))?;
        let fetched = fetched.ok_or_else(|| EngineError::Internal(format!("{url} was not sent")))?;
        let token = CancellationToken::new();
        let _cancelled = token.clone().drop_guard();
        blocking("read a build context", move || {
            let file = lookup(&fetched.context, fetched.name.as_bytes(), LastLink::Keep)
                .map_err(|error| invalid(&error))?
                .ok_or_else(|| EngineError::Internal("the file that was fetched is not there".into()))?;
            let archive = fetched
                .context
                .open(&file.node)
                .map_err(|error| invalid(&error))?;
            match Context::from_tar(
                Cancellable::new(archive, &token),
                &folder,
                ContextLimits::default(),
            ) {
                Ok(context) if !context.is_empty() => Ok(context),
                // What is no archive is a Dockerfile.
                _ => {
                    let mut text = fetched
                        .context
                        .open(&file.node)
                        .map_err(|error| invalid(&error))?;
                    let mut builder = builder::ContextBuilder::new(&folder, ContextLimits::default())
                        .map_err(|error| invalid(&error))?;
                    let attributes = builder::ContextAttributes {
                        mode: 0o644,
                        ..Default::default()
                    };
                    builder
                        .file(b"Dockerfile", attributes, &mut text)
                        .map_err(|error| invalid(&error))?;
                    builder.finish().map_err(|error| invalid(&error))
                }
            }
        })
        .await
    }

    /// Builds an image.
    ///
    /// # Errors
    /// What is wrong with the request or the Dockerfile; all else is how the build ends.
    pub async fn build(&self, spec: BuildSpec, files: BuildFiles) -> Result<Build> {
        let BuildFiles { mut context, caches } = files;
        let exports = Exports::of(&spec)?;
        let file = match spec.dockerfile.as_str() {
            "" => "Dockerfile".to_owned(),
            file => file.to_owned(),
        };
        let text;
        (context, text) = blocking("read the Dockerfile", {
            let file = file.clone();
            move || {
                let text = read_text(&context, &file)?.ok_or_else(|| {
                    EngineError::Invalid(format!(
                        "Cannot locate specified Dockerfile: {file}: it is not in the build context; name it with -f"
                    ))
                })?;
                let own = format!("{file}.dockerignore");
                let ignored = match read_text(&context, &own)? {
                    None => read_text(&context, ".dockerignore")?,
                    found => found,
                };
                if let Some(ignored) = ignored {
                    let ignore = Ignore::parse(&ignored);
                    context.ignore(&ignore.map_err(|error| EngineError::Invalid(format!(".dockerignore: {error}")))?);
                }
                Ok((context, text))
            }
        })
        .await?;
        let context = Arc::new(context);
        let parsed = dockerfile::parse(&text).map_err(|errors| parse_error(&errors, &file, &text))?;
        let warnings = lint_warnings(&parsed);
        let shared = self.shared.clone();
        let mut request = request(&spec, parsed, context)?;
        request.time_limit = time_limit(spec.time_limit, shared.spec.build_time_limit);
        let imports = Imports::of(&shared, &spec, caches);
        let host = BuildHost {
            shared: shared.clone(),
            limits: spec.limits,
            credentials: spec.credentials,
            session: spec.session,
        };
        let builds = &shared.builds;
        let builder = Arc::new(Builder::new(
            Arc::new(host),
            shared.images.store().clone(),
            builds.cache.clone(),
            builds.layers.clone(),
            shared.images.web().clone(),
            builds.temporary.clone(),
        ));
        let (sender, events) = mpsc::channel(EVENTS);
        let (tasks, stop) = (builds.tasks.clone(), builds.stop.clone());
        let task = async move {
            request.imports = imports.find(&sender).await;
            let built = builder.build(request, sender.clone()).await;
            let BuiltImage { image, trail } = built.map_err(|error| failure(&error, &file, &text))?;
            let trail = shared.builds.trails.keep(&image.id, trail);
            exports.push(&shared, &trail, &sender).await?;
            for warning in warnings {
                let _ = sender.send(Event::Warning(warning)).await;
            }
            let names: Vec<String> = image.references.clone();
            for name in &spec.names {
                shared.events.image("tag", &image.id, name);
            }
            let id = image.id.clone();
            let _ = sender
                .send(Event::Built {
                    id: id.clone(),
                    names,
                })
                .await;
            Ok(id)
        };
        let shared = self.shared.clone();
        let task = tasks.spawn(async move {
            let running = shared.builds.running.clone().read_owned().await;
            let built = stop.run_until_cancelled(task).await.unwrap_or_else(|| {
                Err(BuildFailure {
                    message: "the daemon ends, and the build with it".into(),
                    code: None,
                })
            });
            drop(running);
            // Nobody waits for it.
            tokio::spawn(async move { sweep(&shared).await });
            built
        });
        Ok(Build { events, task })
    }
}

/// A text in the context; `None` if it is not there.
fn read_text(context: &Context, file: &str) -> Result<Option<String>> {
    let invalid = |error: &dyn std::fmt::Display| EngineError::Invalid(format!("{file}: {error}"));
    let Some(found) = lookup(context, file.as_bytes(), LastLink::Follow).map_err(|error| invalid(&error))?
    else {
        return Ok(None);
    };
    let content = context.open(&found.node).map_err(|error| invalid(&error))?;
    let mut bytes = Vec::new();
    let read = content.take(MOST_TEXT + 1).read_to_end(&mut bytes);
    read.map_err(|error| invalid(&error))?;
    if bytes.len() as u64 > MOST_TEXT {
        return Err(invalid(&format!("it has more than {MOST_TEXT} bytes")));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| invalid(&"it is no text in UTF-8"))
}

/// In the words that Docker's clients know, with the places beneath.
fn parse_error(errors: &[dockerfile::Diagnostic], file: &str, text: &str) -> EngineError {
    let shown = errors.iter().map(|error| error.with_place(file, text));
    EngineError::Invalid(shown.collect::<Vec<_>>().join("\n\n"))
}

fn failure(error: &BuildError, file: &str, text: &str) -> BuildFailure {
    BuildFailure {
        message: error.render(file, text),
        code: error.exit_code(),
    }
}

fn lint_warnings(dockerfile: &Dockerfile) -> Vec<String> {
    let found = lint::check(dockerfile, &lint::Options::default());
    found.iter().map(ToString::to_string).collect()
}

fn request(spec: &BuildSpec, dockerfile: Dockerfile, context: Arc<Context>) -> Result<BuildRequest> {
    let invalid = |error: &dyn std::fmt::Display| EngineError::Invalid(error.to_string());
    let own = Platform::linux("amd64");
    let platform: Option<Platform> = match spec.platform.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| invalid(&error))?),
    };
    let mut options = BuildOptions::new(own.clone());
    options.target_platform = platform.clone().unwrap_or(own);
    options.target = Some(spec.target.clone()).filter(|target| !target.is_empty());
    options.build_args.clone_from(&spec.arguments);
    let network = match spec.network.as_str() {
        "" | "default" | "bridge" => Network::Default,
        "none" => Network::None,
        "host" => Network::Host,
        other => {
            return Err(EngineError::Invalid(format!(
                "a build cannot be in network {other}: its commands have the default network, or none"
            )));
        }
    };
    let epoch = spec
        .arguments
        .get("SOURCE_DATE_EPOCH")
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<i64>().map_err(|_| {
                EngineError::Invalid(format!(
                    "invalid SOURCE_DATE_EPOCH: {text:?} is not a number of seconds"
                ))
            })
        });
    Ok(BuildRequest {
        dockerfile,
        options,
        platform,
        context,
        labels: spec.labels.clone(),
        references: spec.names.iter().map(|name| parse(name)).collect::<Result<_>>()?,
        no_cache: spec.no_cache,
        pull: spec.pull,
        network,
        secrets: Secrets(spec.secrets.clone()),
        agents: spec.agents.clone(),
        epoch: epoch.transpose()?,
        time_limit: None,
        imports: Vec::new(),
        inline_cache: spec.inline_cache,
    })
}

/// The smaller one of two limits.
fn time_limit(request: Option<Duration>, daemon: Option<Duration>) -> Option<TimeLimit> {
    let of = |time: Option<Duration>, owner| time.map(|time| TimeLimit { time, owner });
    let both = [of(request, LimitOwner::Request), of(daemon, LimitOwner::Daemon)];
    both.into_iter().flatten().min_by_key(|limit| limit.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_holds() {
        let [short, long] = [1, 2].map(|seconds| Some(Duration::from_secs(seconds)));
        let owner =
            |request, daemon| time_limit(request, daemon).map(|limit| (limit.time.as_secs(), limit.owner));
        assert_eq!(owner(short, long), Some((1, LimitOwner::Request)));
        assert_eq!(owner(long, short), Some((1, LimitOwner::Daemon)));
        assert_eq!(owner(None, long), Some((2, LimitOwner::Daemon)));
        assert_eq!(owner(long, None), Some((2, LimitOwner::Request)));
        assert_eq!(owner(None, None), None);
    }
}
