//! Instructions that only say names and values: `ARG`, `ENV`, `LABEL`, `ONBUILD`.

use super::{Instruction, Statement};
use crate::position::Word;

/// `ARG <name>[=<default>] …`
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// The arguments in their order.
    pub arguments: Vec<Argument>,
}

/// A build argument that is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name, unexpanded.
    pub name: Word,
    /// Its default value, unexpanded.
    pub default: Option<Word>,
}

/// `ENV <name>=<value> …`
#[derive(Debug, Clone, PartialEq)]
pub struct Env {
    /// The variables in their order.
    pub variables: Vec<KeyValue>,
    /// Whether it was written in the old form, `ENV <name> <value>`.
    pub legacy: bool,
}

/// `LABEL <name>=<value> …`
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The labels in their order.
    pub labels: Vec<KeyValue>,
    /// Whether it was written in the old form, `LABEL <name> <value>`.
    pub legacy: bool,
}

/// A name and its value, unexpanded.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue {
    /// The name.
    pub name: Word,
    /// The value.
    pub value: Word,
}

/// `ONBUILD <instruction>`
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    /// The instruction that runs when another image is built on this one.
    pub trigger: Box<Statement<Instruction>>,
    /// Its text, here-documents included: what stands in the image's configuration.
    pub text: String,
}
