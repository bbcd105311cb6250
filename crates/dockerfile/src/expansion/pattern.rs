//! Patterns of `${X#p}`, `${X%p}` and `${X/p/r}`: `*` is any text, `?` any character, a backslash takes their meaning.
//!
//! They become regular expressions of a crate whose searches are linear in the text.

use super::ExpansionError;
use crate::diagnostic::quoted;
use crate::limits::MAX_EXPANSION;
use regex::{NoExpand, Regex, RegexBuilder};

/// What a compiled pattern may take, in bytes.
const MAX_COMPILED: usize = 1 << 20;

pub(super) fn remove_prefix(pattern: &str, value: &str, longest: bool) -> Result<String, ExpansionError> {
    let regex = compile(pattern, longest, true)?;
    let end = regex.find(value).map_or(0, |found| found.end());
    Ok(value[end..].to_owned())
}

/// The shortest or longest match at the end is one at the beginning of the reversed text.
pub(super) fn remove_suffix(pattern: &str, value: &str, longest: bool) -> Result<String, ExpansionError> {
    let reversed: String = value.chars().rev().collect();
    let regex = compile(&reverse(pattern), longest, true)?;
    let end = regex.find(&reversed).map_or(0, |found| found.end());
    Ok(value[..value.len() - end].to_owned())
}

pub(super) fn replace(pattern: &str, value: &str, new: &str, all: bool) -> Result<String, ExpansionError> {
    let regex = compile(pattern, true, false)?;
    if !all {
        return Ok(regex.replacen(value, 1, NoExpand(new)).into_owned());
    }
    // The length is known before the text is made.
    let matches = regex.find_iter(value).count();
    let length = matches.saturating_mul(new.len()).saturating_add(value.len());
    if length > MAX_EXPANSION.saturating_mul(2) {
        return Err(ExpansionError::TooLong);
    }
    Ok(regex.replace_all(value, NoExpand(new)).into_owned())
}

/// The pattern backwards; an escape stays in front of what it escapes.
fn reverse(pattern: &str) -> String {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => parts.push((Some(character), characters.next())),
            _ => parts.push((None, Some(character))),
        }
    }
    parts
        .into_iter()
        .rev()
        .flat_map(|(escape, character)| [escape, character])
        .flatten()
        .collect()
}

fn compile(pattern: &str, longest: bool, at_start: bool) -> Result<Regex, ExpansionError> {
    let invalid = |why: String| ExpansionError::Pattern {
        pattern: quoted(pattern),
        why,
    };
    let mut expression = String::from(if at_start { "^" } else { "" });
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let literal = match character {
            '*' => {
                expression.push_str(if longest { ".*" } else { ".*?" });
                continue;
            }
            '?' => {
                expression.push('.');
                continue;
            }
            // These end the pattern in `${…}` unless they are escaped; the escape is no part of the pattern.
            '\\' => match characters.next() {
                Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => escaped,
                Some(other) => {
                    return Err(invalid(format!(
                        "invalid escape '\\{}'",
                        quoted(&other.to_string())
                    )));
                }
                None => return Err(invalid("invalid escape '\\' at the end".to_owned())),
            },
            other => other,
        };
        expression.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    }
    let mut builder = RegexBuilder::new(&expression);
    let builder = builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED);
    builder.build().map_err(|_| invalid("it is too large".to_owned()))
}
