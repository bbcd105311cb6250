//! A door for the fuzzers in `fuzz/`, which build with `--cfg fuzzing`: hostile Dockerfiles through every part.

use crate::{BuildOptions, Graph, Instruction, Platform, StageScope, parse};
use std::collections::HashMap;

/// Reads a Dockerfile and does with it what a build does before anything runs. What is printed and read again must be the
/// same Dockerfile.
pub fn dockerfile(text: &str) {
    let dockerfile = match parse(text) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let _ = (error.to_string(), error.render("Dockerfile", text, false));
            }
            return;
        }
    };
    let printed = dockerfile.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(again, dockerfile, "printed as {printed:?}"),
        // Escapes may make it longer than a Dockerfile may be.
        Err(errors) => assert!(
            printed.len() > crate::limits::MAX_FILE,
            "{errors:?} in {printed:?}"
        ),
    }
    for warning in crate::lint::check(&dockerfile, &crate::lint::Options::default()) {
        let _ = warning.render("Dockerfile", text, true);
    }
    let options = BuildOptions::new(Platform::linux("amd64"));
    let Ok(graph) = Graph::of(&dockerfile, &options) else {
        return;
    };
    let _ = (graph.context_need(), graph.external(), graph.unused_build_args());
    let mut ends: HashMap<usize, StageScope> = HashMap::new();
    for stage in graph.order() {
        let mut scope = match stage.base {
            crate::Origin::Stage(index) => match ends.get(&index) {
                Some(scope) => scope.child(),
                None => return,
            },
            _ => graph.scope(["PATH=/bin", "HOME=/root"]),
        };
        for statement in stage.instructions() {
            if let Instruction::Run(run) = &statement.instruction {
                let _ = (run.script(), scope.run_environment().history(&[]));
            }
            if scope.pass(&statement.instruction).is_err() {
                return;
            }
        }
        ends.insert(stage.index, scope);
    }
}
