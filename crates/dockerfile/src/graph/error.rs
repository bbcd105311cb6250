//! Why there is no graph.

use crate::diagnostic::{Diagnostic, Diagnostics, quoted};
use crate::expansion::ExpansionError;
use crate::limits::{MAX_FILE, MAX_INSTRUCTIONS};
use crate::position::Span;
use crate::scope::{PlatformError, ScopeError};
use thiserror::Error;

/// Stages that cannot be put together.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum GraphError {
    /// `--target` names no stage.
    #[error("target stage \"{name}\" could not be found{hint}")]
    Target {
        /// What it names.
        name: String,
        /// A stage that was perhaps meant.
        hint: String,
    },
    /// Stages need each other, or one needs itself.
    #[error("circular dependency detected on stage: {stage}")]
    Circular {
        /// One of them.
        stage: String,
        /// Its `FROM`.
        span: Span,
    },
    /// `--from` is a number that no stage has.
    #[error("invalid stage index {index}")]
    Index {
        /// The number.
        index: String,
        /// Where it stands.
        span: Span,
    },
    /// The variables of a `FROM` are empty.
    #[error("base name ({written}) should not be blank")]
    BlankBase {
        /// The name as written.
        written: String,
        /// Where it stands.
        span: Span,
    },
    /// The variables of a `--platform` are empty.
    #[error("empty platform value from expression {written}")]
    BlankPlatform {
        /// The platform as written.
        written: String,
        /// Where it stands.
        span: Span,
    },
    /// A `--platform` is none.
    #[error("{error}")]
    Platform {
        /// What is wrong.
        error: PlatformError,
        /// Where it stands.
        span: Span,
    },
    /// A word cannot be expanded.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A trigger of a base image is no instruction.
    #[error("the base image's ONBUILD trigger \"{text}\" cannot be read: {what}")]
    Trigger {
        /// The trigger.
        text: String,
        /// What is wrong with it.
        what: String,
    },
    /// Triggers without end.
    #[error(
        "the bases of the stages have more than {MAX_INSTRUCTIONS} ONBUILD triggers, or {MAX_FILE} bytes of them"
    )]
    TooManyTriggers,
    /// A number that no stage has, asked for by the builder.
    #[error("there is no stage {0}")]
    NoStage(usize),
    /// A time that is none.
    #[error("invalid SOURCE_DATE_EPOCH: \"{0}\" is not a number of seconds")]
    Epoch(String),
}

impl GraphError {
    pub(super) fn expansion(span: Span, error: &ExpansionError) -> Self {
        let what = error.to_string();
        ScopeError { span, what }.into()
    }

    pub(super) fn trigger(text: &str, errors: Diagnostics) -> Self {
        GraphError::Trigger {
            text: quoted(text),
            what: errors
                .into_iter()
                .next()
                .map(|error| error.message)
                .unwrap_or_default(),
        }
    }

    /// Where in the Dockerfile it is, if it is there.
    pub fn span(&self) -> Option<Span> {
        match self {
            GraphError::Circular { span, .. }
            | GraphError::Index { span, .. }
            | GraphError::BlankBase { span, .. }
            | GraphError::BlankPlatform { span, .. }
            | GraphError::Platform { span, .. } => Some(*span),
            GraphError::Scope(error) => Some(error.span),
            GraphError::Target { .. }
            | GraphError::Trigger { .. }
            | GraphError::TooManyTriggers
            | GraphError::NoStage(_)
            | GraphError::Epoch(_) => None,
        }
    }

    /// To be shown with the lines of the Dockerfile, when it is in them.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        Some(Diagnostic::error(self.span()?, self.to_string()))
    }
}
