//! RUN: a command in a microVM.

use std::io::{BufReader, BufWriter, Empty, Read, Seek};
use std::sync::Arc;

use dockerfile::{MountSpec, Network, Run, Script, Security, Span, Word};
use image_store::{Digest, Image};
use tar_stream::Timestamp;
use tokio_util::sync::CancellationToken;

use super::archive::Filter;
use super::cache::Key;
use super::host::{Command, CommandAgent, CommandFile, CommandMount, Ended, Host, SecretVariables};
use super::layering::{blocking, piped};
use super::stage::{Finished, StageBuild};
use super::{BuildError, Builder};
use crate::{CopyOptions, FileTree, LastLink, LayerTree, Source, Times, What, copy, lookup, source_digest};

/// Where a script that names its own interpreter is while it runs: in memory, in no layer.
const SCRIPTS: &str = "/dev/pipes";

/// Where sockets of SSH agents are that nobody has named, as with BuildKit; a number follows.
const AGENTS: &str = "/run/buildkit/ssh_agent";
/// The variable by which ssh finds the agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// What runs a script, as the kernel finds it in the first line: it may not execute files that are only in memory.
fn interpreter(script: &str, path: String) -> Vec<String> {
    let line = script.lines().next().unwrap_or_default();
    let line = line.strip_prefix("#!").unwrap_or_default().trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let words = [program, argument.trim()]
        .into_iter()
        .filter(|word| !word.is_empty());
    words.map(str::to_owned).chain([path]).collect()
}

/// What is mounted for a command.
#[derive(Default)]
struct Mounted {
    mounts: Vec<CommandMount>,
    files: Vec<CommandFile>,
    /// SSH agents of the client.
    agents: Vec<CommandAgent>,
    /// Variables that secrets are put into.
    variables: Vec<String>,
    /// Files of the context, of a stage or of an image, and where.
    bound: Vec<Bound>,
    /// The places of those that are not to be written.
    read_only: Vec<String>,
    /// All places.
    targets: Vec<String>,
}

/// Files that a command sees, as if they were there.
#[derive(Clone)]
struct Bound {
    tree: Arc<dyn FileTree>,
    source: String,
    target: String,
    token: CancellationToken,
}

impl<H: Host> StageBuild<H> {
    pub(super) async fn run(&mut self, run: &Run) -> Result<(), BuildError> {
        self.commands_left = self.commands_left.saturating_sub(1);
        let environment = self.scope.run_environment();
        let mut files = Vec::new();
        let shell = self.state.config.shell();
        let (arguments, shown) = match run.script() {
            Script::Exec(arguments) => (arguments.clone(), arguments.join(" ")),
            Script::Shell(text) => {
                let arguments: Vec<String> = shell.into_iter().chain([text]).collect();
                (arguments.clone(), arguments.join(" "))
            }
            Script::File { name, content } => {
                let target = format!("{SCRIPTS}/{name}");
                files.push(CommandFile {
                    target: target.clone(),
                    mode: 0o755,
                    owner: (0, 0),
                    content: content.clone().into_bytes(),
                });
                (interpreter(&content, target), content)
            }
        };
        let text = format!("RUN {}", environment.history(std::slice::from_ref(&shown)));
        let mut mounted = Mounted::default();
        let mut key = self.key("run");
        for mount in &run.mounts {
            let spec = self.scope.mount(mount)?;
            key.add(format!("{spec:?}"));
            self.mount(spec, &mut mounted).await?;
        }
        key.add_all(&arguments);
        key.add(&shown);
        key.add(self.shared.builder.host.key());
        key.add_all(self.scope.environment().to_list());
        key.add_all(self.scope.set_arguments());
        key.add_all(&environment.arguments);
        key.add(self.state.config.user());
        key.add(self.state.config.working_directory());
        let network = run.network.unwrap_or(self.shared.request.network);
        let privileged = run.security == Some(Security::Insecure);
        key.add(format!("{network:?} {privileged}"));
        let bound = mounted.bound.clone();
        let mut key = blocking(move || {
            for bound in &bound {
                key.add(bound.digest()?.as_bytes());
            }
            Ok(key)
        })
        .await?;
        key.add("end");
        if self.take_cached(&key, &text).await? {
            return Ok(());
        }
        if network == Network::Host {
            let text = "network mode host is not what a microVM can have: its network is its own; use --network=default";
            return Err(BuildError::Unsupported(text.into()));
        }
        files.append(&mut mounted.files);
        let mut variables = environment.variables.to_list();
        if let Some(agent) = mounted.agents.first()
            && environment.variables.get(AGENT_VARIABLE).is_none()
        {
            variables.push(format!("{AGENT_VARIABLE}={}", agent.target));
        }
        let command = Command {
            image: self.base_for(&mounted).await?,
            arguments,
            environment: variables,
            secret_variables: SecretVariables(std::mem::take(&mut mounted.variables)),
            user: self.state.config.user().to_owned(),
            working_directory: self.state.config.working_directory().to_owned(),
            network: network != Network::None,
            privileged,
            has_next: self.commands_left > 0,
            mounts: mounted.mounts,
            read_only: mounted.read_only,
            files,
            agents: mounted.agents,
        };
        self.carry_out(command, mounted.targets, &key, &text, shown).await
    }

    async fn carry_out(
        &mut self,
        command: Command,
        targets: Vec<String>,
        key: &Key,
        text: &str,
        shown: String,
    ) -> Result<(), BuildError> {
        let (state, builder, latest) = (
            self.state.clone(),
            self.shared.builder.clone(),
            self.shared.latest(),
        );
        let keep = move |changes: Box<dyn Read + Send>| builder.filtered(&state, changes, targets, latest);
        let host = self.shared.builder.host.clone();
        match host
            .run(&mut self.commands, command, &self.reporter, keep)
            .await?
        {
            Ended::Done(image) => self.take_made(key, text, image?).await,
            Ended::Failed(code) => Err(BuildError::Command { command: shown, code }),
        }
    }

    /// What a command runs in: the image so far without what it says of itself, and over it what is bound for the command.
    async fn base_for(&mut self, mounted: &Mounted) -> Result<Image, BuildError> {
        let (state, builder) = (self.state.clone(), self.shared.builder.clone());
        let bare = blocking(move || {
            let bare = state.config.bare();
            builder.assemble(state.image.as_ref(), None::<Empty>, bare)
        })
        .await?;
        if mounted.bound.is_empty() {
            return Ok(bare);
        }
        let (state, builder) = (self.state.clone(), self.shared.builder.clone());
        let (mut bound, time) = (mounted.bound.clone(), self.shared.time());
        // What is mounted within another mount is not covered by that.
        bound.sort_by_key(|bound| bound.target.split('/').filter(|name| !name.is_empty()).count());
        blocking(move || {
            let mut image = bare;
            for bound in bound {
                image = builder.bind(&state, &image, &bound, time)?;
            }
            Ok(image)
        })
        .await
    }

    /// Finds what a mount needs.
    async fn mount(&mut self, spec: MountSpec, mounted: &mut Mounted) -> Result<(), BuildError> {
        match spec {
            MountSpec::Bind {
                from,
                source,
                target,
                read_only,
            } => {
                let tree: Arc<dyn FileTree> = match from {
                    None => self.shared.request.context.clone(),
                    Some(from) => self.tree_of(&from).await?,
                };
                let target = self.absolute(&target);
                if target.trim_end_matches('/').is_empty() {
                    return Err(BuildError::Pattern("invalid mount target \"/\"".into()));
                }
                mounted.targets.push(target.clone());
                if read_only {
                    mounted.read_only.push(target.clone());
                }
                mounted.bound.push(Bound {
                    tree,
                    source,
                    target,
                    token: self.shared.run.token.clone(),
                });
            }
            MountSpec::Cache {
                id,
                from,
                target,
                read_only,
                sharing,
                mode,
                owner,
                ..
            } => {
                if from.is_some() {
                    let text = "a cache mount with from= is not supported: copy the files into the cache with a command";
                    return Err(BuildError::Unsupported(text.into()));
                }
                let target = self.absolute(&target);
                mounted.targets.push(target.clone());
                mounted.mounts.push(CommandMount::Cache {
                    id,
                    target,
                    read_only,
                    sharing,
                    mode,
                    owner: (owner.uid, owner.gid),
                });
            }
            MountSpec::Tmpfs { target, size } => {
                let target = self.absolute(&target);
                mounted.targets.push(target.clone());
                mounted.mounts.push(CommandMount::Tmpfs { target, size });
            }
            MountSpec::Secret {
                id,
                target,
                env,
                required,
                mode,
                owner,
            } => {
                let Some(content) = self.shared.request.secrets.0.get(&id).cloned() else {
                    return if required {
                        Err(BuildError::Secret { id })
                    } else {
                        Ok(())
                    };
                };
                if let Some(name) = &env {
                    let value = String::from_utf8_lossy(&content);
                    mounted.variables.push(format!("{name}={value}"));
                }
                if env.is_none() || target.is_some() {
                    let target = self.absolute(&target.unwrap_or_else(|| format!("/run/secrets/{id}")));
                    mounted.targets.push(target.clone());
                    mounted.files.push(CommandFile {
                        target,
                        mode,
                        owner: (owner.uid, owner.gid),
                        content,
                    });
                }
            }
            MountSpec::Ssh {
                id,
                target,
                required,
                mode,
                owner,
            } => {
                if !self.shared.request.agents.contains(&id) {
                    return if required {
                        Err(BuildError::Agent { id })
                    } else {
                        Ok(())
                    };
                }
                let named = || format!("{AGENTS}.{}", mounted.agents.len());
                let target = self.absolute(&target.unwrap_or_else(named));
                mounted.targets.push(target.clone());
                mounted.agents.push(CommandAgent {
                    id,
                    target,
                    mode,
                    owner: (owner.uid, owner.gid),
                });
            }
        }
        Ok(())
    }

    /// The files of a stage or an image by its name.
    async fn tree_of(&self, from: &str) -> Result<Arc<dyn FileTree>, BuildError> {
        let name = Word::new(from.to_owned(), Span::default());
        let origin = self.shared.graph.origin(&name)?;
        let base = self.shared.base(&origin, self.index).await?;
        Ok(Arc::new(base.tree().clone()))
    }
}

impl Bound {
    fn source(&self) -> Source<'_> {
        Source {
            tree: &*self.tree,
            base: Vec::new(),
            what: What::Path(self.source.as_bytes().to_vec()),
            parents: false,
            unpack: false,
        }
    }

    fn options(&self, is_folder: bool, time: Timestamp) -> CopyOptions<'static> {
        let slash = if is_folder { "/" } else { "" };
        let target = format!("{}{slash}", self.target.trim_end_matches('/'));
        CopyOptions {
            covers: is_folder,
            token: self.token.clone(),
            ..CopyOptions::to(target.as_bytes(), Times::Kept { created: time })
        }
    }

    fn digest(&self) -> Result<Digest, BuildError> {
        let options = self.options(true, Timestamp::default());
        Ok(source_digest(&[self.source()], &options)?)
    }
}

impl<H: Host> Builder<H> {
    /// An image with files over those that it has, which it hides.
    fn bind(
        &self,
        state: &Finished,
        image: &Image,
        bound: &Bound,
        time: Timestamp,
    ) -> Result<Image, BuildError> {
        let found = lookup(&*bound.tree, bound.source.as_bytes(), LastLink::Follow)?;
        let is_folder = found.is_some_and(|found| found.node.is_directory());
        let tree: LayerTree = self.tree(image)?;
        let mut layer = tempfile::tempfile_in(&self.folder).map_err(BuildError::Pipe)?;
        copy(
            &tree,
            &[bound.source()],
            &bound.options(is_folder, time),
            &self.folder,
            BufWriter::new(&mut layer),
        )?;
        layer.rewind().map_err(BuildError::Pipe)?;
        self.assemble(Some(image), Some(layer), state.config.bare())
    }

    /// Keeps the changes of a command, without what only its microVM has brought.
    fn filtered(
        &self,
        state: &Finished,
        changes: Box<dyn Read + Send>,
        targets: Vec<String>,
        latest: Option<Timestamp>,
    ) -> Result<Image, BuildError> {
        let tree = &state.tree;
        piped(
            move |output| {
                let filter = Filter::new(tree, targets, latest)?;
                let input = BufReader::with_capacity(128 << 10, changes);
                Ok(filter.copy(input, BufWriter::with_capacity(128 << 10, output))?)
            },
            |input| self.assemble(state.image.as_ref(), Some(input), state.config.bare()),
        )
    }
}
