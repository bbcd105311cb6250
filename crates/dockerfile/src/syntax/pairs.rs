//! `ARG`, `ENV` and `LABEL`.

use super::instructions::{at_least_one, without_flags};
use super::lines::Piece;
use super::parse::{Context, Fault, Parts, fault};
use super::words;
use crate::diagnostic::quoted;
use crate::instruction::{Arg, Argument, Env, KeyValue, Label};

pub(super) fn arg(context: &Context<'_>, parts: Parts<'_>) -> Result<Arg, Fault> {
    let parts = without_flags(context, parts)?;
    let words = words::quoted(parts.arguments, context.escape);
    if words.is_empty() {
        return Err(at_least_one(&parts));
    }
    let argument = |word: Piece<'_>| {
        let (name, default) = split(word).map_or((word, None), |(name, value)| (name, Some(value)));
        if name.text.is_empty() {
            return Err(context.fault(word, "ARG names can not be blank"));
        }
        Ok(Argument {
            name: context.word(name),
            default: default.map(|default| context.word(default)),
        })
    };
    let arguments = words.into_iter().map(argument).collect::<Result<_, _>>()?;
    Ok(Arg { arguments })
}

pub(super) fn env(context: &Context<'_>, parts: Parts<'_>) -> Result<Env, Fault> {
    let (variables, legacy) = pairs(context, parts)?;
    Ok(Env { variables, legacy })
}

pub(super) fn label(context: &Context<'_>, parts: Parts<'_>) -> Result<Label, Fault> {
    let (labels, legacy) = pairs(context, parts)?;
    Ok(Label { labels, legacy })
}

/// `name=value …`, or in the old form `name the whole rest`: the first word tells which.
fn pairs(context: &Context<'_>, parts: Parts<'_>) -> Result<(Vec<KeyValue>, bool), Fault> {
    let parts = without_flags(context, parts)?;
    let keyword = parts.keyword.to_ascii_uppercase();
    let words = words::quoted(parts.arguments, context.escape);
    let Some(first) = words.first() else {
        return Err(at_least_one(&parts));
    };
    if !first.text.contains('=') {
        return match parts.arguments.split() {
            (name, Some(value)) => Ok((vec![key_value(context, name, value)], true)),
            (name, None) => {
                let error = context.fault(name, format!("{keyword} must have two arguments"));
                Err(Box::new(
                    error.with_help(format!("write it as {keyword} <name>=<value>")),
                ))
            }
        };
    }
    let pair = |word: Piece<'_>| {
        let Some((name, value)) = split(word) else {
            let word_text = quoted(word.text);
            let message =
                format!("Syntax error - can't find = in \"{word_text}\". Must be of the form: name=value");
            let error = context.fault(word, message);
            return Err(Box::new(
                error.with_help("a value with spaces stands in quotes: name=\"a value\""),
            ));
        };
        match name.text.is_empty() {
            true => Err(fault(
                context.span(word),
                format!("{keyword} names can not be blank"),
            )),
            false => Ok(key_value(context, name, value)),
        }
    };
    let pairs = words.into_iter().map(pair).collect::<Result<_, _>>()?;
    Ok((pairs, false))
}

fn key_value(context: &Context<'_>, name: Piece<'_>, value: Piece<'_>) -> KeyValue {
    KeyValue {
        name: context.word(name),
        value: context.word(value),
    }
}

/// What stands in front of the first `=`, and behind it.
fn split<'a>(word: Piece<'a>) -> Option<(Piece<'a>, Piece<'a>)> {
    let at = word.text.find('=')?;
    Some((word.slice(0, at), word.from(at + 1)))
}
