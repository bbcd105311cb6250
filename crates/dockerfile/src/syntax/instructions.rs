//! From the parts of an instruction to what it says.

use super::files::{add, copy};
use super::flags::{Flags, Kind};
use super::json::Json;
use super::pairs::{arg, env, label};
use super::parse::{Context, Fault, Parts, fault};
use super::run::{healthcheck, run};
use super::words;
use crate::diagnostic::{did_you_mean, quoted};
use crate::instruction::{
    CommandLine, From, Heredoc, Instruction, KEYWORDS, Onbuild, Statement, Words, is_stage_name,
};
use crate::position::{Span, Word};

/// An instruction: the one that begins a stage, or one that stands in it.
pub(super) enum Parsed {
    From(From),
    Other(Instruction),
}

/// Reads an instruction, its here-documents already read.
pub(super) fn parse(
    context: &Context<'_>,
    parts: Parts<'_>,
    heredocs: Vec<Heredoc>,
) -> Result<Parsed, Fault> {
    let keyword = parts.keyword.to_ascii_uppercase();
    if keyword == "FROM" {
        return from(context, parts).map(Parsed::From);
    }
    instruction(context, &keyword, parts, heredocs).map(Parsed::Other)
}

fn instruction(
    context: &Context<'_>,
    keyword: &str,
    parts: Parts<'_>,
    heredocs: Vec<Heredoc>,
) -> Result<Instruction, Fault> {
    Ok(match keyword {
        "ADD" => Instruction::Add(add(context, parts, heredocs)?),
        "ARG" => Instruction::Arg(arg(context, parts)?),
        "CMD" => Instruction::Cmd(without_flags(context, parts).and_then(|parts| command(context, parts))?),
        "COPY" => Instruction::Copy(copy(context, parts, heredocs)?),
        "ENTRYPOINT" => {
            Instruction::Entrypoint(without_flags(context, parts).and_then(|parts| command(context, parts))?)
        }
        "ENV" => Instruction::Env(env(context, parts)?),
        "EXPOSE" => Instruction::Expose(several(context, parts)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(context, parts)?),
        "LABEL" => Instruction::Label(label(context, parts)?),
        "MAINTAINER" => Instruction::Maintainer(exactly_one(context, parts)?),
        "ONBUILD" => Instruction::Onbuild(onbuild(context, parts, heredocs)?),
        "RUN" => Instruction::Run(run(context, parts, heredocs)?),
        "SHELL" => Instruction::Shell(shell(context, parts)?),
        "STOPSIGNAL" => Instruction::StopSignal(exactly_one(context, parts)?),
        "USER" => Instruction::User(exactly_one(context, parts)?),
        "VOLUME" => Instruction::Volume(volume(context, parts)?),
        "WORKDIR" => Instruction::Workdir(exactly_one(context, parts)?),
        _ => {
            let hint = did_you_mean(&parts.keyword, KEYWORDS);
            let message = format!("unknown instruction: {}{hint}", quoted(&parts.keyword));
            return Err(fault(parts.keyword.span, message));
        }
    })
}

pub(super) fn without_flags<'a>(_: &Context<'_>, mut parts: Parts<'a>) -> Result<Parts<'a>, Fault> {
    Flags::check(std::mem::take(&mut parts.flags), &[])?;
    Ok(parts)
}

pub(super) fn at_least_one(parts: &Parts<'_>) -> Fault {
    let keyword = parts.keyword.to_ascii_uppercase();
    fault(
        parts.keyword.span,
        format!("{keyword} requires at least one argument"),
    )
}

/// Arguments in the JSON form, or as they stand. Each word of an array is told to stand where the array does.
pub(super) fn command(context: &Context<'_>, parts: Parts<'_>) -> Result<CommandLine, Fault> {
    let all = context.word(parts.arguments);
    match parts.json {
        Json::Strings(words) => {
            let words = words.into_iter().map(|word| Word::new(word, all.span));
            Ok(CommandLine::Exec(words.collect()))
        }
        Json::Other => Err(not_strings(all.span)),
        Json::No => Ok(CommandLine::Shell(all)),
    }
}

/// Arguments in the JSON form, or between spaces.
pub(super) fn list(context: &Context<'_>, parts: Parts<'_>) -> Result<Words, Fault> {
    let arguments = parts.arguments;
    match command(context, parts)? {
        CommandLine::Exec(words) => Ok(Words { words, json: true }),
        CommandLine::Shell(_) => Ok(Words {
            words: words::plain(arguments)
                .into_iter()
                .map(|word| context.word(word))
                .collect(),
            json: false,
        }),
    }
}

fn not_strings(span: Span) -> Fault {
    fault(
        span,
        "when using JSON array syntax, arrays must be comprised of strings only",
    )
}

fn exactly_one(context: &Context<'_>, parts: Parts<'_>) -> Result<Word, Fault> {
    let parts = without_flags(context, parts)?;
    match parts.arguments.text.is_empty() {
        true => {
            let keyword = parts.keyword.to_ascii_uppercase();
            Err(fault(
                parts.keyword.span,
                format!("{keyword} requires exactly one argument"),
            ))
        }
        false => Ok(context.word(parts.arguments)),
    }
}

fn several(context: &Context<'_>, parts: Parts<'_>) -> Result<Vec<Word>, Fault> {
    let parts = without_flags(context, parts)?;
    let words = words::plain(parts.arguments);
    match words.is_empty() {
        true => Err(at_least_one(&parts)),
        false => Ok(words.into_iter().map(|word| context.word(word)).collect()),
    }
}

fn shell(context: &Context<'_>, parts: Parts<'_>) -> Result<Vec<Word>, Fault> {
    let parts = without_flags(context, parts)?;
    let keyword = parts.keyword.span;
    if parts.arguments.text.is_empty() {
        return Err(at_least_one(&parts));
    }
    match command(context, parts)? {
        CommandLine::Exec(words) if words.is_empty() => {
            Err(fault(keyword, "SHELL requires at least one argument"))
        }
        CommandLine::Exec(words) => Ok(words),
        CommandLine::Shell(text) => {
            let error = fault(text.span, "SHELL requires the arguments to be in JSON form");
            Err(Box::new(
                error.with_help("write it as SHELL [\"/bin/sh\", \"-c\"]"),
            ))
        }
    }
}

fn volume(context: &Context<'_>, parts: Parts<'_>) -> Result<Words, Fault> {
    let parts = without_flags(context, parts)?;
    let keyword = parts.keyword.span;
    let words = list(context, parts)?;
    if words.words.is_empty() {
        return Err(fault(keyword, "VOLUME requires at least one argument"));
    }
    match words.words.iter().find(|word| word.trim().is_empty()) {
        Some(blank) => Err(fault(blank.span, "VOLUME specified can not be an empty string")),
        None => Ok(words),
    }
}

fn from(context: &Context<'_>, parts: Parts<'_>) -> Result<From, Fault> {
    let words = words::plain(parts.arguments);
    let (image, named) = match words.as_slice() {
        [image] => (*image, None),
        [image, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
            (*image, Some((*keyword, *name)))
        }
        _ => {
            let error = fault(
                match words.is_empty() {
                    true => parts.keyword.span,
                    false => context.span(parts.arguments),
                },
                "FROM requires either one or three arguments",
            );
            return Err(Box::new(
                error.with_help("write it as FROM <image> or FROM <image> AS <name>"),
            ));
        }
    };
    if let Some((_, name)) = named
        && !is_stage_name(&name.text.to_ascii_lowercase())
    {
        let message = format!(
            "invalid name for build stage: \"{}\", name can't start with a number or contain symbols",
            quoted(name.text)
        );
        return Err(context.fault(name, message));
    }
    let flags = Flags::check(parts.flags, &[("platform", Kind::Text)])?;
    Ok(From {
        platform: flags.text("platform"),
        image: context.word(image),
        keyword: named.map(|(keyword, _)| context.word(keyword)),
        name: named.map(|(_, name)| context.word(name)),
    })
}

fn onbuild(context: &Context<'_>, parts: Parts<'_>, heredocs: Vec<Heredoc>) -> Result<Onbuild, Fault> {
    let parts = without_flags(context, parts)?;
    if parts.arguments.text.is_empty() {
        return Err(at_least_one(&parts));
    }
    let inner = context.parts(parts.arguments);
    let span = context.span(parts.arguments);
    let keyword = inner.keyword.clone();
    check_trigger(&keyword.to_ascii_uppercase(), keyword.span)?;
    let mut text = parts.arguments.text.to_owned();
    for heredoc in &heredocs {
        text.extend(["\n", &heredoc.content, &heredoc.name]);
    }
    let instruction = instruction(context, &keyword.to_ascii_uppercase(), inner, heredocs)?;
    Ok(Onbuild {
        trigger: Box::new(Statement {
            keyword,
            instruction,
            comments: Vec::new(),
            span,
            empty_continuation: None,
        }),
        text,
    })
}

/// Refuses what may not be a trigger.
pub(super) fn check_trigger(keyword: &str, span: Span) -> Result<(), Fault> {
    match keyword {
        "ONBUILD" => Err(fault(
            span,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        )),
        "MAINTAINER" | "FROM" => Err(not_a_trigger(keyword, span)),
        _ => Ok(()),
    }
}

pub(super) fn not_a_trigger(keyword: &str, span: Span) -> Fault {
    fault(span, format!("{keyword} isn't allowed as an ONBUILD trigger"))
}
