//! How instructions are written.

use super::{Findings, Rule};
use crate::diagnostic::quoted;
use crate::dockerfile::{Dockerfile, Stage};
use crate::instruction::{CommandLine, Instruction, Statement};
use crate::position::{Span, Word};
use std::collections::BTreeSet;

pub(super) fn check(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    casing(dockerfile, findings);
    shells(dockerfile, findings);
    for arg in &dockerfile.arguments {
        continuation(arg.empty_continuation, findings);
        let names: Vec<&str> = arg
            .instruction
            .arguments
            .iter()
            .map(|argument| argument.name.as_str())
            .collect();
        description(&arg.comments, "arg", &names, arg.span, findings);
    }
    for stage in &dockerfile.stages {
        continuation(stage.from.empty_continuation, findings);
        let name = stage.from.instruction.name.as_ref().map(|name| name.as_str());
        if let Some(name) = name {
            description(
                &stage.from.comments,
                "build stage",
                &[name],
                stage.from.span,
                findings,
            );
        }
        as_casing(stage, findings);
        for statement in &stage.body {
            continuation(statement.empty_continuation, findings);
            instruction(statement, findings);
        }
        several(stage, findings);
    }
}

fn keywords(dockerfile: &Dockerfile) -> impl Iterator<Item = &Word> {
    let froms = dockerfile.stages.iter().map(|stage| &stage.from.keyword);
    let bodies = dockerfile
        .stages
        .iter()
        .flat_map(|stage| &stage.body)
        .map(|statement| &statement.keyword);
    dockerfile
        .arguments
        .iter()
        .map(|arg| &arg.keyword)
        .chain(froms)
        .chain(bodies)
}

/// All keywords as most of them are; those that are neither are counted for neither.
fn casing(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let is_upper = |word: &str| !word.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_lower = |word: &str| !word.bytes().any(|byte| byte.is_ascii_uppercase());
    let upper = keywords(dockerfile).filter(|word| is_upper(word)).count();
    let lower = keywords(dockerfile).filter(|word| is_lower(word)).count();
    let (majority, is_majority): (_, &dyn Fn(&str) -> bool) = match lower > upper {
        true => ("lowercase", &is_lower),
        false => ("uppercase", &is_upper),
    };
    for word in keywords(dockerfile).filter(|word| !is_majority(word)) {
        let message = format!(
            "Command '{}' should match the case of the command majority ({majority})",
            word.value
        );
        findings.add(Rule::ConsistentInstructionCasing, word.span, message);
    }
}

fn as_casing(stage: &Stage, findings: &mut Findings<'_>) {
    let Some(keyword) = &stage.from.instruction.keyword else {
        return;
    };
    let from = &stage.from.keyword;
    let is_upper = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_lower = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    // A keyword of mixed case is told by another check.
    if (is_upper(from) && !is_upper(keyword)) || (is_lower(from) && !is_lower(keyword)) {
        let message = format!(
            "'{}' and '{}' keywords' casing do not match",
            keyword.value, from.value
        );
        findings.add(Rule::FromAsCasing, keyword.span, message);
    }
}

fn continuation(empty: Option<Span>, findings: &mut Findings<'_>) {
    if let Some(span) = empty {
        findings.add(Rule::NoEmptyContinuation, span, "Empty continuation line");
    }
}

fn description(comments: &[String], what: &str, names: &[&str], span: Span, findings: &mut Findings<'_>) {
    let Some(name) = names.first().filter(|_| !comments.is_empty()) else {
        return;
    };
    let first_word = |comment: &String| comment.split(char::is_whitespace).next().map(str::to_owned);
    let first_words: BTreeSet<String> = comments.iter().filter_map(first_word).collect();
    if !names.iter().any(|name| first_words.contains(*name)) {
        let message = format!(
            "Comment for {what} should follow the format: `# {} <description>`",
            quoted(name)
        );
        findings.add(Rule::InvalidDefinitionDescription, span, message);
    }
}

fn instruction(statement: &Statement, findings: &mut Findings<'_>) {
    let legacy = |keyword: &str| {
        format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format")
    };
    match &statement.instruction {
        Instruction::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            findings.add(Rule::MaintainerDeprecated, statement.span, message);
        }
        Instruction::Env(env) if env.legacy => {
            findings.add(Rule::LegacyKeyValueFormat, statement.span, legacy("ENV"));
        }
        Instruction::Label(label) if label.legacy => {
            findings.add(Rule::LegacyKeyValueFormat, statement.span, legacy("LABEL"));
        }
        Instruction::Expose(ports) => {
            for port in ports {
                let protocol = port
                    .split_once('/')
                    .map(|(_, protocol)| protocol)
                    .unwrap_or_default();
                if !protocol.contains('$') && protocol.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let port_text = quoted(port);
                    let message =
                        format!("Defined protocol '{port_text}' in EXPOSE instruction should be lowercase");
                    findings.add(Rule::ExposeProtoCasing, port.span, message);
                }
            }
        }
        _ => {}
    }
}

/// The shell form is fine where the Dockerfile chose the shell itself, in this stage or in one below.
fn shells(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let mut with_shell = BTreeSet::new();
    for stage in &dockerfile.stages {
        let from = &stage.from.instruction;
        let is_shell = |statement: &Statement| matches!(statement.instruction, Instruction::Shell(_));
        if stage.body.iter().any(is_shell) || with_shell.contains(&from.image.to_ascii_lowercase()) {
            with_shell.extend(from.stage_name());
        } else {
            stage
                .body
                .iter()
                .for_each(|statement| shell_form(statement, findings));
        }
    }
}

fn shell_form(statement: &Statement, findings: &mut Findings<'_>) {
    let (Instruction::Cmd(command) | Instruction::Entrypoint(command)) = &statement.instruction else {
        return;
    };
    if matches!(command, CommandLine::Shell(text) if !text.is_empty()) {
        let keyword = statement.instruction.keyword();
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        findings.add(Rule::JsonArgsRecommended, statement.span, message);
    }
}

/// Of these only the last one counts; each but the last is told.
fn several(stage: &Stage, findings: &mut Findings<'_>) {
    for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let same = stage
            .body
            .iter()
            .filter(|statement| statement.instruction.keyword() == keyword);
        let same: Vec<&Statement> = same.collect();
        for statement in same.iter().rev().skip(1) {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            findings.add(Rule::MultipleInstructionsDisallowed, statement.span, message);
        }
    }
}
