//! What is known in a stage: its environment and its arguments, at the place that the builder has come to.

use super::arguments::Arguments;
use super::global::GlobalScope;
use super::predefined::{PROXIES, is_hidden, is_proxy};
use super::variables::Variables;
use crate::diagnostic::{Diagnostic, nearest};
use crate::expansion::{Expander, ExpansionError};
use crate::instruction::{Arg, Env, KeyValue, ModeError, MountError, PortError};
use crate::limits::MAX_ENVIRONMENT;
use crate::lint::Rule;
use crate::position::{Span, Word};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// The path that commands get where an image says none, as Docker has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a stage. The builder walks it along: it gives it each `ARG` and `ENV`, and asks it what the words of
/// every other instruction are at that place.
#[derive(Debug, Clone)]
pub struct StageScope {
    global: Arc<GlobalScope>,
    /// Stages on this one share what they do not change.
    environment: Arc<Variables>,
    arguments: Arc<Arguments>,
    undefined: Undefined,
}

/// Those that were used, noted while words are expanded.
#[derive(Debug, Default)]
struct Undefined(Mutex<Vec<UndefinedVariable>>);

impl Undefined {
    fn lock(&self) -> MutexGuard<'_, Vec<UndefinedVariable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Undefined {
    fn clone(&self) -> Self {
        Undefined(Mutex::new(self.lock().clone()))
    }
}

/// A variable that was used and has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndefinedVariable {
    /// Its name.
    pub name: String,
    /// One that was perhaps meant.
    pub suggestion: Option<String>,
    /// The word it stands in.
    pub span: Span,
}

/// Words that cannot be expanded, or that make no sense once they are.
#[derive(Debug, Error, Clone, PartialEq)]
#[error("{what}")]
pub struct ScopeError {
    /// Where they stand.
    pub span: Span,
    /// What is wrong.
    pub what: String,
}

/// Names and values without variables in them.
pub type Expanded = Vec<(String, String)>;

/// What a command of `RUN` gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnvironment {
    /// Its variables: arguments, then the environment, which is stronger, then proxies.
    pub variables: Variables,
    /// `NAME=value` of the arguments that count for the cache, in the order of their declaration.
    pub arguments: Vec<String>,
}

impl RunEnvironment {
    /// The text of the step in the image's history, and what the cache knows the command by: `|2 A=1 B=2 /bin/sh -c …`.
    pub fn history(&self, command: &[String]) -> String {
        let mut parts = Vec::new();
        if !self.arguments.is_empty() {
            parts.push(format!("|{}", self.arguments.len()));
        }
        parts.extend(self.arguments.iter().chain(command).cloned());
        parts.join(" ")
    }
}

impl UndefinedVariable {
    /// As the check `UndefinedVar` tells it.
    pub fn warning(&self) -> Diagnostic {
        let hint = self
            .suggestion
            .as_ref()
            .map(|name| format!(" (did you mean ${name}?)"));
        let message = format!(
            "Usage of undefined variable '${}'{}",
            self.name,
            hint.unwrap_or_default()
        );
        Diagnostic::warning(Rule::UndefinedVar, self.span, message)
    }
}

impl ScopeError {
    pub(super) fn at(span: Span, error: ExpansionError) -> Self {
        Self::new(span, error.to_string())
    }

    pub(super) fn new(span: Span, what: String) -> Self {
        ScopeError { span, what }
    }

    pub(super) fn too_large(span: Span) -> Self {
        let what = format!("the stage's variables take more than {MAX_ENVIRONMENT} bytes");
        ScopeError { span, what }
    }

    pub(super) fn mode(span: Span, error: &ModeError) -> Self {
        Self::new(span, error.to_string())
    }

    pub(super) fn mount(span: Span, error: &MountError) -> Self {
        Self::new(span, error.to_string())
    }

    pub(super) fn port(span: Span, error: &PortError) -> Self {
        Self::new(span, error.to_string())
    }
}

impl From<ScopeError> for Diagnostic {
    fn from(error: ScopeError) -> Self {
        Diagnostic::error(error.span, error.what)
    }
}

impl StageScope {
    /// The scope of a stage that begins with an image: `environment` is `Env` of its configuration. An image without a
    /// `PATH` gets Docker's.
    pub fn new<S: AsRef<str>>(global: Arc<GlobalScope>, environment: impl IntoIterator<Item = S>) -> Self {
        let mut environment: Variables = environment.into_iter().collect();
        if environment.get("PATH").is_none() {
            environment.set("PATH", DEFAULT_PATH);
        }
        StageScope {
            global,
            environment: Arc::new(environment),
            arguments: Arc::default(),
            undefined: Undefined::default(),
        }
    }

    /// The scope of a stage that begins with this one at its end.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = self.clone();
        child.undefined.lock().clear();
        child
    }

    /// The value of a variable: the environment is stronger than arguments.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).or_else(|| self.arguments.get(name))
    }

    /// `Env` of the image's configuration, as it is now.
    pub fn environment(&self) -> &Variables {
        &self.environment
    }

    /// Walks over an `ARG`. A value given to the build is stronger than the default; without either, the argument in
    /// front of the first stage gives its own.
    pub fn declare(&mut self, arg: &Arg) -> Result<Vec<(String, Option<String>)>, ScopeError> {
        // All words of an instruction see what was known in front of it.
        let mut found = Vec::new();
        for argument in &arg.arguments {
            let name = self.word(&argument.name)?;
            let default = argument
                .default
                .as_ref()
                .map(|default| self.word(default))
                .transpose()?;
            found.push((name, default));
        }
        for ((name, default), argument) in found.iter_mut().zip(&arg.arguments) {
            let given = self.global.given(name).map(str::to_owned);
            let value = given
                .or(default.take())
                .or_else(|| self.global.get(name).map(str::to_owned));
            default.clone_from(&value);
            Arc::make_mut(&mut self.arguments).declare(name, value.as_deref());
            self.check_size(argument.name.span)?;
        }
        Ok(found)
    }

    /// Walks over an `ENV`.
    pub fn set_environment(&mut self, env: &Env) -> Result<Expanded, ScopeError> {
        let variables = self.key_values(&env.variables)?;
        for ((name, value), written) in variables.iter().zip(&env.variables) {
            Arc::make_mut(&mut self.environment).set(name, value);
            self.check_size(written.name.span)?;
        }
        Ok(variables)
    }

    fn check_size(&self, span: Span) -> Result<(), ScopeError> {
        match self.environment.bytes().saturating_add(self.arguments.bytes()) <= MAX_ENVIRONMENT {
            true => Ok(()),
            false => Err(ScopeError::too_large(span)),
        }
    }

    /// What a command of `RUN` gets.
    pub fn run_environment(&self) -> RunEnvironment {
        let mut variables = Variables::default();
        let mut arguments = Vec::new();
        for name in self.arguments.names() {
            if let Some(value) = self.arguments.get(name).filter(|_| !is_hidden(name)) {
                variables.set(name, value);
            }
            let value = self.get(name).unwrap_or_default();
            arguments.push(format!("{name}={value}"));
        }
        self.environment
            .iter()
            .for_each(|(name, value)| variables.set(name, value));
        // Proxies are neither in the image nor in what the cache knows a command by, unless an ARG asks for it.
        for proxy in PROXIES {
            let small = proxy.to_ascii_lowercase();
            let given = |name: &str| self.global.given(name).filter(|_| is_proxy(name));
            let Some(value) = given(&small).or_else(|| given(proxy)) else {
                continue;
            };
            for name in [proxy, &small] {
                if variables.get(name).is_none() {
                    variables.set(name, value);
                }
            }
        }
        RunEnvironment { variables, arguments }
    }

    /// The names of arguments that have a value: an empty one is not none.
    pub fn set_arguments(&self) -> impl Iterator<Item = &str> {
        self.arguments
            .names()
            .filter(|name| self.arguments.get(name).is_some())
    }

    /// Variables without a value that were used since this was asked last.
    pub fn take_undefined(&self) -> Vec<UndefinedVariable> {
        std::mem::take(&mut *self.undefined.lock())
    }

    /// Expands one word, which stays one.
    pub fn word(&self, word: &Word) -> Result<String, ScopeError> {
        self.expand_at(word, word.span)
    }

    pub(super) fn expand_at(&self, text: &str, span: Span) -> Result<String, ScopeError> {
        Ok(self.expander(text, span, false)?.0)
    }

    /// Expands the content of a here-document: quotes stand for themselves.
    pub(super) fn content(&self, text: &str, span: Span) -> Result<String, ScopeError> {
        Ok(self.expander(text, span, true)?.0)
    }

    /// Expands a word that becomes any number of words.
    pub(super) fn split(&self, word: &Word) -> Result<Vec<String>, ScopeError> {
        Ok(self.expander(word, word.span, false)?.1)
    }

    fn expander(
        &self,
        text: &str,
        span: Span,
        is_content: bool,
    ) -> Result<(String, Vec<String>), ScopeError> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        let expander = match is_content {
            true => Expander::new('\\', &lookup).literal_quotes(),
            false => Expander::new(self.global.escape(), &lookup),
        };
        let expansion = expander
            .expand(text)
            .map_err(|error| ScopeError::at(span, error))?;
        self.global
            .spend(expansion.work)
            .map_err(|error| ScopeError::at(span, error))?;
        self.note_undefined(&expansion.undefined, span);
        Ok((expansion.text, expansion.words))
    }

    fn note_undefined(&self, names: &BTreeSet<String>, span: Span) {
        let mut undefined = self.undefined.lock();
        for name in names
            .iter()
            .filter(|name| !self.arguments.declares(name) && !is_hidden(name))
        {
            // The first few tell enough.
            let suggestion = match undefined.len() < 100 {
                true => nearest(name, self.environment.names().chain(self.global.names())),
                false => return,
            };
            undefined.push(UndefinedVariable {
                name: name.clone(),
                suggestion: suggestion.map(str::to_owned),
                span,
            });
        }
    }

    pub(super) fn key_values(&self, pairs: &[KeyValue]) -> Result<Expanded, ScopeError> {
        let pair = |pair: &KeyValue| Ok((self.word(&pair.name)?, self.word(&pair.value)?));
        pairs.iter().map(pair).collect()
    }
}
