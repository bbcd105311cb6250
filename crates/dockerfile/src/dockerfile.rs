//! A Dockerfile that was read.

use crate::instruction::{Arg, From, Statement};
use crate::syntax::Directives;

/// A Dockerfile: what [`parse`](crate::parse) makes of its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// What its first lines say to the parser.
    pub directives: Directives,
    /// `ARG` in front of the first `FROM`.
    pub arguments: Vec<Statement<Arg>>,
    /// The stages in their order, at least one.
    pub stages: Vec<Stage>,
}

/// A stage: a `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// How it begins.
    pub from: Statement<From>,
    /// Its instructions.
    pub body: Vec<Statement>,
}
