//! A stage: its instructions, one after the other.

use std::sync::Arc;

use dockerfile::{Instruction, Origin, StageScope, Statement};
use image_store::Image;

use super::config::Config;
use super::host::Host;
use super::portable::{Link, StageTrail};
use super::progress::{Event, Reporter};
use super::{BuildError, HeldImage, Shared};
use crate::LayerTree;

/// Where a stage has come to.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// All layers so far; `None` if there are none.
    pub(super) image: Option<Image>,
    /// Their files.
    pub(super) tree: LayerTree,
    pub(super) config: Config,
    pub(super) scope: Option<StageScope>,
    /// Keep its layers.
    pub(super) held: Vec<Arc<HeldImage>>,
    /// The steps that made the layers, but for those of the image that it begins with.
    pub(super) links: Vec<Link>,
}

impl Finished {
    /// Its steps.
    pub(super) fn trail(&self) -> StageTrail {
        StageTrail {
            image: self.image.clone(),
            links: self.links.clone(),
        }
    }
}

/// What a stage begins with.
pub(crate) struct Base(Finished);

impl Base {
    /// Nothing.
    pub(super) fn scratch(config: Config) -> Self {
        Self(Finished {
            image: None,
            tree: LayerTree::new(Vec::new()),
            config,
            scope: None,
            held: Vec::new(),
            links: Vec::new(),
        })
    }

    /// Another stage at its end.
    pub(super) fn stage(finished: &Finished) -> Self {
        let mut state = finished.clone();
        state.scope = state.scope.as_ref().map(StageScope::child);
        Self(state)
    }

    /// An image.
    pub(super) fn image(image: Image, tree: LayerTree, config: Config) -> Self {
        Self(Finished {
            image: Some(image),
            tree,
            config,
            scope: None,
            held: Vec::new(),
            links: Vec::new(),
        })
    }

    /// Its files.
    pub(super) fn tree(&self) -> &LayerTree {
        &self.0.tree
    }
}

/// A stage that is being built.
pub(super) struct StageBuild<H: Host> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) index: usize,
    pub(super) reporter: Reporter,
    pub(super) scope: StageScope,
    pub(super) state: Finished,
    /// What its commands have in common.
    pub(super) commands: H::Stage,
    /// How many of them are yet to come.
    pub(super) commands_left: usize,
}

/// A stage that was built.
pub(super) struct Built {
    pub(super) state: Finished,
}

impl<H: Host> StageBuild<H> {
    /// Waits for what the stage begins with.
    pub(super) async fn begin(
        shared: Arc<Shared<H>>,
        index: usize,
        reporter: Reporter,
    ) -> Result<Self, BuildError> {
        let stage = shared.stage(index)?;
        let (base, origin, from) = (stage.base.clone(), stage.from.clone(), stage.display_name());
        let text = match &base {
            Origin::Image(name) | Origin::Context(name) => name.clone(),
            Origin::Scratch => "scratch".to_owned(),
            Origin::Stage(_) => origin.instruction.image.value.clone(),
        };
        let text = match &stage.name {
            Some(_) => format!("FROM {text} AS {from}"),
            None => format!("FROM {text}"),
        };
        let Base(mut state) = shared
            .base(&base, index)
            .await
            .map_err(|error| error.at(origin.span))?;
        let triggers = stage.triggers.len();
        let is_command = |statement: &&Statement| matches!(statement.instruction, Instruction::Run(_));
        let commands_left = stage.instructions().filter(is_command).count();
        state.config = state.config.begin_stage();
        let scope = match state.scope.take() {
            Some(scope) => scope,
            None => shared.graph.scope(state.config.environment()),
        };
        let number = shared.first_steps.get(&index).copied().unwrap_or(1);
        let total = shared.steps;
        reporter.tell(Event::Step { number, total, text });
        if let Some(image) = &state.image {
            reporter.tell(Event::Made(image.id.clone()));
        }
        if triggers > 0 {
            reporter.tell_line(format!("# Executing {triggers} build triggers\n"));
        }
        Ok(Self {
            shared,
            index,
            reporter,
            scope,
            state,
            commands: H::Stage::default(),
            commands_left,
        })
    }

    /// Walks over all instructions.
    pub(super) async fn build(mut self) -> Result<Built, BuildError> {
        let shared = self.shared.clone();
        let first = shared.first_steps.get(&self.index).copied().unwrap_or(1);
        for (statement, number) in shared.stage(self.index)?.instructions().zip(first + 1..) {
            let text = text_of(statement);
            let total = shared.steps;
            let _underway = shared.run.underway.begin(self.index, statement.span, || {
                format!("step {number}/{total} ({text})")
            });
            self.reporter.tell(Event::Step { number, total, text });
            self.step(statement)
                .await
                .map_err(|error| error.at(statement.span))?;
            for undefined in self.scope.take_undefined() {
                self.reporter.tell(Event::Warning(undefined.warning().message));
            }
        }
        shared.builder.host.end(self.commands).await;
        self.state.scope = Some(self.scope);
        Ok(Built { state: self.state })
    }

    async fn step(&mut self, statement: &Statement) -> Result<(), BuildError> {
        match &statement.instruction {
            Instruction::Copy(copy) => return self.copy(copy, statement.span).await,
            Instruction::Add(add) => return self.add(add).await,
            Instruction::Run(run) => return self.run(run).await,
            Instruction::Workdir(path) => {
                let path = self.scope.word(path)?;
                return self.work_in(&path).await;
            }
            instruction => {
                let text = self.describe(instruction)?;
                self.state.config.note(&text, None);
            }
        }
        Ok(())
    }

    /// Carries out an instruction that only changes the configuration; how the image's history tells it.
    fn describe(&mut self, instruction: &Instruction) -> Result<String, BuildError> {
        let (scope, config) = (&mut self.scope, &mut self.state.config);
        let pairs = |pairs: &[(String, String)]| {
            let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let json = |words: &[String]| serde_json::Value::from(words.to_vec()).to_string();
        let rest = match instruction {
            Instruction::Arg(arg) => {
                let declared = scope.declare(arg)?;
                let text = declared.into_iter().map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => name,
                });
                text.collect::<Vec<_>>().join(" ")
            }
            Instruction::Env(env) => {
                let set = scope.set_environment(env)?;
                config.set_environment(scope.environment());
                pairs(&set)
            }
            Instruction::Label(label) => {
                let labels = scope.labels(label)?;
                labels
                    .iter()
                    .for_each(|(name, value)| config.set_label(name, value));
                pairs(&labels)
            }
            Instruction::Cmd(command) => {
                let arguments = config.arguments(command);
                config.set_command(arguments.clone());
                json(&arguments)
            }
            Instruction::Entrypoint(command) => {
                let arguments = config.arguments(command);
                config.set_entrypoint(arguments.clone());
                json(&arguments)
            }
            Instruction::Shell(words) => {
                let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
                config.set_shell(words.clone());
                json(&words)
            }
            Instruction::Expose(words) => {
                let ports = scope.ports(words)?;
                ports
                    .iter()
                    .flat_map(|port| port.names())
                    .for_each(|name| config.add_port(name));
                let names = ports.iter().flat_map(|port| port.names());
                names.collect::<Vec<_>>().join(" ")
            }
            Instruction::Volume(volume) => {
                let paths = scope.volumes(volume)?;
                paths.iter().for_each(|path| config.add_volume(path));
                json(&paths)
            }
            Instruction::User(user) => {
                let user = scope.word(user)?;
                config.set_user(&user);
                user
            }
            Instruction::StopSignal(signal) => {
                let signal = scope.word(signal)?;
                config.set_stop_signal(&signal);
                signal
            }
            Instruction::Healthcheck(check) => {
                config.set_health_check(check);
                String::new()
            }
            Instruction::Maintainer(name) => {
                config.set_author(name);
                name.value.clone()
            }
            Instruction::Onbuild(trigger) => {
                config.add_trigger(&trigger.text);
                trigger.text.clone()
            }
            // They make layers, and are carried out elsewhere.
            Instruction::Copy(_) | Instruction::Add(_) | Instruction::Run(_) | Instruction::Workdir(_) => {
                String::new()
            }
        };
        Ok(format!("{} {rest}", instruction.keyword()).trim_end().to_owned())
    }
}

impl Built {
    /// The image of the stage, with the names that the build gives it, and the steps that led to it.
    pub(super) async fn image<H: Host>(self, shared: &Shared<H>) -> Result<(Image, Vec<Link>), BuildError> {
        let mut config = self.state.config;
        for (name, value) in &shared.request.labels {
            config.set_label(name, value);
        }
        if config.environment().is_empty()
            && let Some(scope) = &self.state.scope
        {
            config.set_environment(scope.environment());
        }
        shared.complete(self.state.image, config, self.state.links).await
    }
}

/// An instruction on one line, for people.
fn text_of(statement: &Statement) -> String {
    const MOST: usize = 200;
    let text = statement.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
