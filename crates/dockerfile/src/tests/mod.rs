//! Tests of the whole: from text to words without variables.

mod errors;
mod expansion;
mod graph;
mod lint;
mod properties;
mod scope;
mod syntax;

use crate::{BuildOptions, Dockerfile, Graph, Instruction, Platform, parse};

/// A Dockerfile that must be right.
fn read(text: &str) -> Dockerfile {
    parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"))
}

/// The first error of a Dockerfile that must be wrong, as Docker says it.
fn error(text: &str) -> String {
    match parse(text) {
        Ok(dockerfile) => panic!("{text:?} is right: {dockerfile:?}"),
        Err(errors) => errors.first().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The one instruction behind `FROM scratch`.
fn one(text: &str) -> Instruction {
    let dockerfile = read(&format!("FROM scratch\n{text}"));
    let [stage] = dockerfile.stages.as_slice() else {
        panic!("{text:?}: stages")
    };
    let [statement] = stage.body.as_slice() else {
        panic!("{text:?}: {:?}", stage.body)
    };
    statement.instruction.clone()
}

fn options() -> BuildOptions {
    BuildOptions::new(Platform::linux("amd64"))
}

fn graph(text: &str) -> Graph {
    Graph::of(&read(text), &options()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}
