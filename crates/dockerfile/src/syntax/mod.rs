//! From the text of a Dockerfile to its instructions.

mod directives;
mod files;
mod flags;
pub(crate) mod heredoc;
mod instructions;
mod json;
mod lines;
mod pairs;
mod parse;
mod run;
mod words;

pub use directives::{Check, Directive, Directives};
pub use parse::{parse, parse_trigger};

pub(crate) use json::is_array;
pub(crate) use lines::continued;
