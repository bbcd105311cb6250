//! Dockerfiles: their text, the stages they describe, and what their words mean where they stand. Nothing here reads a file
//! or talks to anyone.
//!
//! ```text
//! text ── parse ──► Dockerfile ── Graph::of ──► Graph ── scope, instruction by instruction ──► words without variables
//!                       │
//!                       └── lint ──► warnings
//! ```
//!
//! The language is that of Docker's reference (version 1 of BuildKit's frontend). A Dockerfile may be hostile: what it can
//! make grow is bounded in [`limits`], and patterns are matched in time linear in what they are matched with.
//!
//! A builder walks each stage of the graph with a scope: `tests/walk.rs` does.

mod diagnostic;
mod dockerfile;
mod expansion;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod graph;
mod instruction;
pub mod limits;
pub mod lint;
pub mod pattern;
mod position;
mod print;
mod scope;
mod syntax;
#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use dockerfile::{Dockerfile, Stage};
pub use expansion::{Expander, Expansion, ExpansionError};
pub use graph::{BuildStage, ContextFiles, ContextNeed, Graph, GraphError, Need, Origin};
pub use instruction::{
    Add, Arg, Argument, CommandLine, Copy, Env, Files, From, Healthcheck, HealthcheckCommand, Heredoc,
    Instruction, KeyValue, Label, Mode, ModeError, Mount, MountError, MountOption, MountSpec, Network,
    Onbuild, Owner, Port, PortError, Protocol, Run, Script, Security, Sharing, Source, Statement, Words,
};
pub use position::{Located, Position, Span, Word};
pub use scope::{
    BuildOptions, DEFAULT_PATH, Expanded, ExpandedAdd, ExpandedCopy, ExpandedFiles, ExpandedSource,
    GlobalScope, Platform, PlatformError, RunEnvironment, ScopeError, StageScope, UndefinedVariable,
    Variables,
};
pub use syntax::{Check, Directive, Directives, parse, parse_trigger};
