//! Why a build ends.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dockerfile::{Diagnostic, GraphError, ScopeError, Span};
use image_store::StoreError;
use tar_stream::WriteError;

use super::archive::ChangesError;
use super::host::HostError;
use super::time_limit::{self, TimeLimit};
use crate::{ContextError, CopyError, FetchError, GitError, OwnerError, TreeError};

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The stages do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Words of an instruction make no sense.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A command failed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// COPY and ADD.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// `--chown`
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Files of an image or of the context cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A here-document.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A URL.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// What a command has changed.
    #[error(transparent)]
    Changes(#[from] ChangesError),
    /// It takes longer than it may.
    #[error("{}", time_limit::message(limit, at.as_ref()))]
    TooSlow {
        /// How long it may take.
        limit: TimeLimit,
        /// What it was at, and for how long.
        at: Option<(String, Duration)>,
    },
    /// A pattern is none.
    #[error("{0}")]
    Pattern(String),
    /// A secret that the client did not give.
    #[error("secret {id}: not found; give it to the build with --secret id={id},src=FILE")]
    Secret {
        /// Its name.
        id: String,
    },
    /// An SSH agent that the client does not lend.
    #[error("SSH agent {id}: not found; lend it to the build with --ssh {id}")]
    Agent {
        /// Its name.
        id: String,
    },
    /// What hull does not do.
    #[error("{0}")]
    Unsupported(String),
    /// The store of images.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host cannot do something.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The cache's folder.
    #[error("cannot keep a step in the build cache {}: {source}", .folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe between two threads.
    #[error("cannot make a layer: {0}")]
    Pipe(#[source] io::Error),
    /// A thread has panicked, which is told in the log.
    #[error("a step ended unexpectedly: {0}")]
    Ended(String),
    /// Any of these, at a place in the Dockerfile.
    #[error("{error}")]
    At {
        /// What went wrong.
        error: Box<BuildError>,
        /// Where it stands.
        span: Span,
    },
}

impl BuildError {
    /// At a place in the Dockerfile, unless it tells one that is nearer.
    pub(super) fn at(self, span: Span) -> Self {
        match self.span() {
            Some(_) => self,
            None => BuildError::At {
                error: Box::new(self),
                span,
            },
        }
    }

    /// Whether it is only that nobody reads what is written.
    pub(super) fn is_broken_pipe(&self) -> bool {
        let error = match self {
            BuildError::Pipe(error) => error,
            BuildError::Copy(CopyError::Write(WriteError::Write(error)))
            | BuildError::Changes(ChangesError::Write(WriteError::Write(error))) => error,
            _ => return false,
        };
        error.kind() == io::ErrorKind::BrokenPipe
    }

    /// Where in the Dockerfile it is, if it is there.
    pub fn span(&self) -> Option<Span> {
        match self {
            BuildError::Graph(error) => error.span(),
            BuildError::Scope(error) => Some(error.span),
            BuildError::At { span, .. } => Some(*span),
            _ => None,
        }
    }

    /// The exit code of a command that failed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            BuildError::Command { code, .. } => Some(*code),
            BuildError::At { error, .. } => error.exit_code(),
            _ => None,
        }
    }

    /// What went wrong, and beneath it the lines of the Dockerfile that it is about, as a compiler shows them.
    pub fn render(&self, file: &str, source: &str) -> String {
        match self.span() {
            Some(span) => {
                Diagnostic::error(span, self.to_string()).with_lines(self.to_string(), file, source)
            }
            None => self.to_string(),
        }
    }
}
