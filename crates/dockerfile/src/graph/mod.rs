//! The stages of a Dockerfile, what each needs, and which of them a target needs.

mod context;
mod error;
mod order;
mod origin;
mod triggers;

pub use context::{ContextFiles, ContextNeed};
pub use error::GraphError;
pub use origin::{Need, Origin};

use crate::diagnostic::did_you_mean;
use crate::dockerfile::{Dockerfile, Stage};
use crate::instruction::{From, Instruction, Statement};
use crate::limits::MAX_INSTRUCTIONS;
use crate::position::Word;
use crate::scope::{BuildOptions, GlobalScope, Platform, StageScope, is_builder_argument};
use crate::syntax::parse_trigger;
use origin::Names;
use std::collections::BTreeSet;
use std::sync::Arc;
use triggers::{TriggerBudget, triggers_of};

/// The stages of a build.
#[derive(Debug, Clone)]
pub struct Graph {
    stages: Vec<BuildStage>,
    target: usize,
    names: Names,
    global: Arc<GlobalScope>,
    build_args: BTreeSet<String>,
}

/// A stage of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildStage {
    /// Its place in the file, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<String>,
    /// What it begins with.
    pub base: Origin,
    /// `FROM --platform`, if it is not the target's.
    pub platform: Option<Platform>,
    /// Its `FROM`.
    pub from: Statement<From>,
    /// What its base asks to be done first (`ONBUILD`): a stage does so in the file, of an image see [`Graph::add_triggers`].
    pub triggers: Vec<Statement>,
    /// Its own instructions.
    pub body: Vec<Statement>,
    /// Everything it needs: its base first, then what its instructions name.
    pub needs: Vec<Need>,
}

impl BuildStage {
    /// What is to be done, in order: the triggers of the base, then its own instructions.
    pub fn instructions(&self) -> impl Iterator<Item = &Statement> {
        self.triggers.iter().chain(&self.body)
    }

    /// The platform that it asks for of what it needs; only what it begins with may be another one than the target's.
    pub fn platform_of(&self, origin: &Origin) -> Option<Platform> {
        self.platform.clone().filter(|_| *origin == self.base)
    }

    /// How messages call it: its name, or `stage-0`.
    pub fn display_name(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("stage-{}", self.index))
    }
}

impl Graph {
    /// Finds what the stages are and need.
    pub fn of(dockerfile: &Dockerfile, options: &BuildOptions) -> Result<Graph, GraphError> {
        let global = Arc::new(GlobalScope::new(dockerfile, options)?);
        let mut names = Names::new(options.contexts.clone());
        let mut stages = Vec::new();
        let mut triggers = TriggerBudget::default();
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let mut stage = build_stage(index, stage, &global, &names)?;
            stage.triggers = triggers_of(&stages, &stage.base, &mut triggers)?;
            names.add(stage.name.as_deref(), index);
            stages.push(stage);
        }
        let target = find_target(options.target.as_deref(), &names, stages.len())?;
        let mut graph = Graph {
            stages,
            target,
            names,
            global,
            build_args: options.build_args.keys().cloned().collect(),
        };
        for index in 0..graph.stages.len() {
            let Some(stage) = graph.stages.get(index) else {
                continue;
            };
            let needs = graph.needs_of(stage.instructions())?;
            if let Some(stage) = graph.stages.get_mut(index) {
                stage.needs.extend(needs);
            }
        }
        graph.check_cycles()?;
        Ok(graph)
    }

    /// All stages, in the order of the file.
    pub fn stages(&self) -> &[BuildStage] {
        &self.stages
    }

    /// The stage that is wanted.
    pub fn target(&self) -> &BuildStage {
        // `of` found it among the stages.
        &self.stages[self.target]
    }

    /// The stages that the target needs, each behind all that it needs itself; the target is the last one.
    pub fn order(&self) -> Vec<&BuildStage> {
        let order = order::order(&self.dependencies(), self.target).unwrap_or_default();
        order
            .into_iter()
            .filter_map(|index| self.stages.get(index))
            .collect()
    }

    /// Images and named contexts that the target needs, each once.
    pub fn external(&self) -> Vec<&Origin> {
        let mut found: Vec<&Origin> = Vec::new();
        let mut seen = BTreeSet::new();
        for need in self.order().into_iter().flat_map(|stage| &stage.needs) {
            if matches!(need.origin, Origin::Image(_) | Origin::Context(_)) && seen.insert(&need.origin) {
                found.push(&need.origin);
            }
        }
        found
    }

    /// What `--from` of a `COPY` or `from=` of a mount means.
    pub fn origin(&self, from: &Word) -> Result<Origin, GraphError> {
        self.names.origin(from, self.stages.len())
    }

    /// The variables in front of the first stage.
    pub fn global(&self) -> &Arc<GlobalScope> {
        &self.global
    }

    /// The variables at the beginning of a stage whose base is no stage: `environment` is `Env` of the image's configuration.
    /// A stage on another one begins with [`StageScope::child`] of the scope at that one's end.
    pub fn scope<S: AsRef<str>>(&self, environment: impl IntoIterator<Item = S>) -> StageScope {
        StageScope::new(self.global.clone(), environment)
    }

    /// Puts the triggers (`OnBuild`) of a stage's base image in front of its instructions, and returns what they need that
    /// the stage did not need before.
    pub fn add_triggers(&mut self, stage: usize, triggers: &[String]) -> Result<Vec<Need>, GraphError> {
        if triggers.len() > MAX_INSTRUCTIONS {
            return Err(GraphError::TooManyTriggers);
        }
        let mut statements = Vec::new();
        for text in triggers {
            let parsed = parse_trigger(text).map_err(|errors| GraphError::trigger(text, errors))?;
            statements.push(parsed);
        }
        let needs = self.needs_of(statements.iter())?;
        let mut with = self.clone();
        let Some(changed) = with.stages.get_mut(stage) else {
            return Err(GraphError::NoStage(stage));
        };
        let is_new = |need: &Need| !changed.needs.iter().any(|known| known.origin == need.origin);
        let new: Vec<Need> = needs.into_iter().filter(is_new).collect();
        changed.triggers.extend(statements);
        changed.needs.extend(new.iter().cloned());
        with.check_cycles()?;
        *self = with;
        Ok(new)
    }

    /// `--build-arg`s that no `ARG` declares and that mean nothing by themselves.
    pub fn unused_build_args(&self) -> Vec<&str> {
        let arguments = self
            .stages
            .iter()
            .flat_map(BuildStage::instructions)
            .filter_map(|statement| match &statement.instruction {
                Instruction::Arg(arg) => Some(&arg.arguments),
                _ => None,
            });
        let declared: BTreeSet<&str> = arguments
            .flatten()
            .map(|argument| argument.name.as_str())
            .collect();
        let is_used = |name: &str| {
            declared.contains(name)
                || self.global.declares(name)
                || self.global.is_platform_argument(name)
                || is_builder_argument(name)
                || crate::scope::is_proxy(name)
        };
        self.build_args
            .iter()
            .map(String::as_str)
            .filter(|name| !is_used(name))
            .collect()
    }

    /// `--build-arg SOURCE_DATE_EPOCH=…`: the time, in seconds, that the image and its files are said to be of.
    pub fn source_date_epoch(&self) -> Result<Option<i64>, GraphError> {
        let Some(text) = self
            .global
            .given("SOURCE_DATE_EPOCH")
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| GraphError::Epoch(crate::diagnostic::quoted(text)))
    }

    fn dependencies(&self) -> Vec<Vec<usize>> {
        let stage = |need: &Need| match need.origin {
            Origin::Stage(index) => Some(index),
            _ => None,
        };
        self.stages
            .iter()
            .map(|one| one.needs.iter().filter_map(stage).collect())
            .collect()
    }

    fn check_cycles(&self) -> Result<(), GraphError> {
        let Some(index) = order::cycle(&self.dependencies()) else {
            return Ok(());
        };
        let stage = self.stages.get(index);
        Err(GraphError::Circular {
            stage: stage.map(BuildStage::display_name).unwrap_or_default(),
            span: stage.map(|stage| stage.from.span).unwrap_or_default(),
        })
    }

    fn needs_of<'a>(&self, statements: impl Iterator<Item = &'a Statement>) -> Result<Vec<Need>, GraphError> {
        let mut needs = Vec::new();
        for from in statements.flat_map(|statement| origin::named_in(&statement.instruction)) {
            needs.push(Need {
                origin: self.origin(&from)?,
                span: from.span,
            });
        }
        Ok(needs)
    }
}

fn build_stage(
    index: usize,
    stage: &Stage,
    global: &GlobalScope,
    names: &Names,
) -> Result<BuildStage, GraphError> {
    let from = &stage.from.instruction;
    let name = from.stage_name();
    // A context of the stage's name stands for the whole stage.
    let replaced = name.as_deref().and_then(|name| names.context(name));
    let is_replaced = replaced.is_some();
    let base = match replaced {
        Some(context) => Origin::Context(context),
        None => base(&from.image, global, names)?,
    };
    let platform = match from.platform.as_ref().filter(|_| !is_replaced) {
        Some(word) => Some(platform(word, global)?),
        None => None,
    };
    Ok(BuildStage {
        index,
        name,
        needs: vec![Need {
            origin: base.clone(),
            span: from.image.span,
        }],
        base,
        platform,
        from: stage.from.clone(),
        triggers: Vec::new(),
        body: if is_replaced {
            Vec::new()
        } else {
            stage.body.clone()
        },
    })
}

fn base(image: &Word, global: &GlobalScope, names: &Names) -> Result<Origin, GraphError> {
    let expanded = global
        .expand(image)
        .map_err(|error| GraphError::expansion(image.span, &error))?
        .text;
    if expanded.is_empty() {
        return Err(GraphError::BlankBase {
            written: crate::diagnostic::quoted(image),
            span: image.span,
        });
    }
    Ok(names.base(&expanded))
}

fn platform(word: &Word, global: &GlobalScope) -> Result<Platform, GraphError> {
    let expanded = global
        .expand(word)
        .map_err(|error| GraphError::expansion(word.span, &error))?
        .text;
    if expanded.is_empty() {
        return Err(GraphError::BlankPlatform {
            written: crate::diagnostic::quoted(word),
            span: word.span,
        });
    }
    expanded.parse().map_err(|error| GraphError::Platform {
        error,
        span: word.span,
    })
}

/// A stage by its name, else by its number; the last one without either.
fn find_target(target: Option<&str>, names: &Names, count: usize) -> Result<usize, GraphError> {
    let last = count.checked_sub(1).ok_or(GraphError::NoStage(0))?;
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(last);
    };
    let number = || target.parse().ok().filter(|index| *index < count);
    names
        .stage(target)
        .or_else(number)
        .ok_or_else(|| GraphError::Target {
            name: crate::diagnostic::quoted(target),
            hint: did_you_mean(target, names.stages()),
        })
}
