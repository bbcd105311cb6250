//! What instructions of a stage say: variables, working directories, secrets.

use super::{Findings, Options, Rule};
use crate::diagnostic::quoted;
use crate::dockerfile::Dockerfile;
use crate::graph::{BuildStage, Graph, Origin};
use crate::instruction::{Arg, Instruction};
use crate::position::Word;
use crate::scope::StageScope;
use std::collections::HashMap;

/// Words that make a name one of a secret.
const SECRETS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

pub(super) fn check(dockerfile: &Dockerfile, options: &Options<'_>, findings: &mut Findings<'_>) {
    for arg in &dockerfile.arguments {
        secret_arguments(&arg.instruction, findings);
    }
    for statement in dockerfile.stages.iter().flat_map(|stage| &stage.body) {
        match &statement.instruction {
            Instruction::Arg(arg) => secret_arguments(arg, findings),
            Instruction::Env(env) => env
                .variables
                .iter()
                .for_each(|pair| secret("ENV", &pair.name, findings)),
            _ => {}
        }
    }
    // What keeps the stages from being put together is told as an error, not here.
    if let Ok(graph) = Graph::of(dockerfile, &options.build) {
        Stages::new(options).check(&graph, findings);
    }
}

fn secret_arguments(arg: &Arg, findings: &mut Findings<'_>) {
    arg.arguments
        .iter()
        .for_each(|argument| secret("ARG", &argument.name, findings));
}

fn secret(keyword: &str, name: &Word, findings: &mut Findings<'_>) {
    let parts: Vec<String> = name.split('_').map(str::to_ascii_lowercase).collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(&part.as_str()));
    if has(&SECRETS) && !has(&["public"]) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({keyword} \"{}\")",
            quoted(name)
        );
        findings.add(Rule::SecretsUsedInArgOrEnv, name.span, message);
    }
}

/// What is known at the end of each stage.
struct Stages<'a> {
    options: &'a Options<'a>,
    ends: HashMap<usize, End>,
}

#[derive(Clone)]
struct End {
    scope: StageScope,
    /// Whether all variables are known: those of the base image are.
    is_known: bool,
    /// Whether the working directory does not depend on the base image.
    has_workdir: bool,
}

impl<'a> Stages<'a> {
    fn new(options: &'a Options<'a>) -> Self {
        Stages {
            options,
            ends: HashMap::new(),
        }
    }

    fn check(&mut self, graph: &Graph, findings: &mut Findings<'_>) {
        // A stage's base stands in front of it.
        for stage in graph.stages() {
            let Some(mut end) = self.start(graph, stage) else {
                continue;
            };
            for statement in stage.instructions() {
                if let Instruction::Workdir(word) = &statement.instruction {
                    workdir(word, &mut end, findings);
                }
                if !end.is_known {
                    continue;
                }
                // What cannot be expanded is told by the build.
                let _ = end.scope.pass(&statement.instruction);
                end.scope
                    .take_undefined()
                    .iter()
                    .for_each(|undefined| findings.push(undefined.warning()));
            }
            self.ends.insert(stage.index, end);
        }
    }

    fn start(&self, graph: &Graph, stage: &BuildStage) -> Option<End> {
        let environment = match &stage.base {
            Origin::Stage(index) => {
                let below = self.ends.get(index)?;
                return Some(End {
                    scope: below.scope.child(),
                    ..below.clone()
                });
            }
            Origin::Scratch => Some(Vec::new()),
            Origin::Image(image) => self.options.environment.and_then(|lookup| lookup(image)),
            Origin::Context(_) => None,
        };
        Some(End {
            is_known: environment.is_some(),
            scope: graph.scope(environment.unwrap_or_default()),
            has_workdir: false,
        })
    }
}

fn workdir(word: &Word, end: &mut End, findings: &mut Findings<'_>) {
    let text = match end.is_known {
        true => end.scope.word(word).unwrap_or_else(|_| word.value.clone()),
        false => word.value.clone(),
    };
    // Its second expansion tells of its variables.
    end.scope.take_undefined();
    let text = text.trim_start_matches(['"', '\'']);
    if text.starts_with('/') {
        end.has_workdir = true;
    } else if !end.has_workdir && !text.starts_with('$') {
        let message = format!(
            "Relative workdir \"{}\" can have unexpected results if the base image changes",
            quoted(word)
        );
        findings.add(Rule::WorkdirRelativePath, word.span, message);
    }
}
