//! What is known in front of the first stage: platforms, and the `ARG`s there.

use super::budget::Budget;
use super::platform::Platform;
use super::stage::ScopeError;
use super::variables::Variables;
use crate::dockerfile::Dockerfile;
use crate::expansion::{Expander, Expansion, ExpansionError};
use crate::limits::MAX_ENVIRONMENT;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// `--target`: the stage that is wanted; without it the last one
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// What the builder is.
    pub build_platform: Platform,
    /// `--platform`: what the image is for
    pub target_platform: Platform,
    /// `--build-context`: names of contexts that stand for stages and images of these names
    pub contexts: BTreeSet<String>,
}

impl BuildOptions {
    /// Nothing special, for one platform.
    pub fn new(platform: Platform) -> Self {
        BuildOptions {
            target: None,
            build_args: BTreeMap::new(),
            build_platform: platform.clone(),
            target_platform: platform,
            contexts: BTreeSet::new(),
        }
    }
}

/// The variables of `FROM`, and those that a stage's `ARG` inherits.
#[derive(Debug, Clone)]
pub struct GlobalScope {
    variables: Variables,
    /// Names that an `ARG` in front of the first stage declares.
    declared: BTreeSet<String>,
    build_args: BTreeMap<String, String>,
    escape: char,
    budget: Budget,
}

impl GlobalScope {
    /// Walks the `ARG`s in front of the first stage; each sees those in front of it.
    pub fn new(dockerfile: &Dockerfile, options: &BuildOptions) -> Result<Self, ScopeError> {
        let mut scope = GlobalScope {
            variables: platform_variables(options),
            declared: BTreeSet::new(),
            build_args: options.build_args.clone(),
            escape: dockerfile.directives.escape,
            budget: Budget::new(),
        };
        for argument in dockerfile
            .arguments
            .iter()
            .flat_map(|statement| &statement.instruction.arguments)
        {
            let at = |error| ScopeError::at(argument.name.span, error);
            let name = scope.expand(&argument.name).map_err(at)?.text;
            let default = argument.default.as_ref().map(|default| scope.expand(default));
            let value = match (scope.build_args.get(&name), default) {
                (Some(value), _) => Some(value.clone()),
                (None, default) => default.transpose().map_err(at)?.map(|default| default.text),
            };
            if let Some(value) = value {
                scope.variables.set(&name, &value);
            }
            scope.declared.insert(name);
            if scope.variables.bytes() > MAX_ENVIRONMENT {
                return Err(ScopeError::too_large(argument.name.span));
            }
        }
        Ok(scope)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)
    }

    /// Whether an `ARG` in front of the first stage declares it, with a value or without.
    pub fn declares(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    /// Names of everything that has a value, and of everything declared.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables
            .names()
            .chain(self.declared.iter().map(String::as_str))
    }

    /// The Dockerfile's escape character.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// `--build-arg` of this name.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).map(String::as_str)
    }

    /// Whether it is an argument that Docker defines, about platforms.
    pub(crate) fn is_platform_argument(&self, name: &str) -> bool {
        let rest = name.strip_prefix("BUILD").or(name.strip_prefix("TARGET"));
        rest.is_some_and(|rest| ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"].contains(&rest))
            || name == "TARGETSTAGE"
    }

    /// Takes work off what is left for the build.
    pub(super) fn spend(&self, work: usize) -> Result<(), ExpansionError> {
        match self.budget.spend(work) {
            true => Ok(()),
            false => Err(ExpansionError::BuildWork),
        }
    }

    /// Expands a word of `FROM`.
    pub fn expand(&self, text: &str) -> Result<Expansion, ExpansionError> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        let expansion = Expander::new(self.escape, &lookup).expand(text)?;
        self.spend(expansion.work)?;
        Ok(expansion)
    }
}

/// What Docker says of platforms; a `--build-arg` of the name is stronger.
fn platform_variables(options: &BuildOptions) -> Variables {
    let mut variables = Variables::default();
    for (which, platform) in [
        ("BUILD", &options.build_platform),
        ("TARGET", &options.target_platform),
    ] {
        for (what, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            variables.set(&format!("{which}{what}"), &value);
        }
    }
    variables.set("TARGETSTAGE", options.target.as_deref().unwrap_or("default"));
    for (name, value) in &options.build_args {
        if variables.get(name).is_some() {
            variables.set(name, value);
        }
    }
    variables
}
