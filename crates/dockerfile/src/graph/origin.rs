//! What names of stages, images and contexts mean.

use super::error::GraphError;
use crate::diagnostic::quoted;
use crate::instruction::Instruction;
use crate::position::{Span, Word};
use std::collections::{BTreeMap, BTreeSet};

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Nothing at all.
    Scratch,
    /// A stage, by its place in the file.
    Stage(usize),
    /// An image: a reference as written, its variables expanded.
    Image(String),
    /// A context that the client gives a name.
    Context(String),
}

/// Something that a stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub origin: Origin,
    /// Where it is named.
    pub span: Span,
}

/// Names that are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    stages: BTreeMap<String, usize>,
    contexts: BTreeSet<String>,
}

impl Names {
    pub(super) fn new(contexts: BTreeSet<String>) -> Self {
        Names {
            stages: BTreeMap::new(),
            contexts,
        }
    }

    /// A stage; a later one of the same name hides it.
    pub(super) fn add(&mut self, name: Option<&str>, index: usize) {
        if let Some(name) = name {
            self.stages.insert(name.to_owned(), index);
        }
    }

    pub(super) fn stage(&self, name: &str) -> Option<usize> {
        self.stages.get(&name.to_ascii_lowercase()).copied()
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = &str> {
        self.stages.keys().map(String::as_str)
    }

    /// The context that stands for this name: `alpine`, `alpine:latest` and `docker.io/library/alpine` are one.
    pub(super) fn context(&self, name: &str) -> Option<String> {
        let found = self.contexts.get(name);
        let same = |context: &&String| familiar(context) == familiar(name);
        found.or_else(|| self.contexts.iter().find(same)).cloned()
    }

    /// What a `FROM` means: only stages in front of it have been added.
    pub(super) fn base(&self, name: &str) -> Origin {
        match self.stage(name) {
            Some(index) => Origin::Stage(index),
            None => self.external(name),
        }
    }

    /// What `--from` means: a stage by name or number, else an image.
    pub(super) fn origin(&self, from: &Word, count: usize) -> Result<Origin, GraphError> {
        let is_number = from
            .strip_prefix(['-', '+'])
            .unwrap_or(from)
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        if is_number {
            let index = from.parse().ok().filter(|index| *index < count);
            return index.map(Origin::Stage).ok_or_else(|| GraphError::Index {
                index: quoted(from),
                span: from.span,
            });
        }
        Ok(self.base(from))
    }

    fn external(&self, name: &str) -> Origin {
        match self.context(name) {
            Some(context) => Origin::Context(context),
            None if name == "scratch" => Origin::Scratch,
            None => Origin::Image(name.to_owned()),
        }
    }
}

fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

/// The names in `--from` and `from=` of an instruction.
pub(super) fn named_in(instruction: &Instruction) -> Vec<Word> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| {
                let span = mount.options.first()?.span;
                Some(Word::new(mount.from()?.to_owned(), span))
            })
            .collect(),
        _ => Vec::new(),
    }
}
