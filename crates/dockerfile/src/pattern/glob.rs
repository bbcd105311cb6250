//! Patterns of paths as Go's `filepath.Match` reads them, and the regular expressions they become. The crate that runs these
//! searches in time linear in the path, whatever the pattern.

use super::wildcard::PatternError;
use crate::diagnostic::quoted;
use crate::limits::MAX_PATTERN;
use regex::{Regex, RegexBuilder};

/// What a compiled pattern may take, in bytes.
const MAX_COMPILED: usize = 4 << 20;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Literal(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`, and whether a slash followed, which it takes with it
    StarStar(bool),
    /// `[…]`: negated, and the ranges
    Class(bool, Vec<(char, char)>),
}

/// Splits a pattern into its parts. Without `deep`, `**` is two stars.
pub(super) fn parse(pattern: &str, deep: bool) -> Result<Vec<Token>, PatternError> {
    if pattern.len() > MAX_PATTERN {
        return Err(PatternError::TooLong(quoted(pattern)));
    }
    let bad = || PatternError::Syntax(quoted(pattern));
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' if deep && characters.next_if_eq(&'*').is_some() => {
                Token::StarStar(characters.next_if_eq(&'/').is_some())
            }
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Literal(characters.next().ok_or_else(bad)?),
            '[' => {
                let negated = characters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                let mut next = || -> Option<(char, bool)> {
                    match characters.next()? {
                        '\\' => Some((characters.next()?, true)),
                        plain => Some((plain, false)),
                    }
                };
                let mut ahead = next().ok_or_else(bad)?;
                // An empty class is none, nor one that begins with the sign of a range.
                while ahead != (']', false) || ranges.is_empty() {
                    let (from, escaped) = ahead;
                    if !escaped && matches!(from, '-' | ']') {
                        return Err(bad());
                    }
                    ahead = next().ok_or_else(bad)?;
                    let mut to = from;
                    if ahead == ('-', false) {
                        let (end, escaped) = next().ok_or_else(bad)?;
                        if !escaped && matches!(end, '-' | ']') {
                            return Err(bad());
                        }
                        to = end;
                        ahead = next().ok_or_else(bad)?;
                    }
                    ranges.push((from, to));
                }
                Token::Class(negated, ranges)
            }
            literal => Token::Literal(literal),
        });
    }
    Ok(tokens)
}

/// The text that a pattern without wildcards stands for.
pub(super) fn literal(tokens: &[Token]) -> Option<String> {
    let character = |token: &Token| match token {
        Token::Literal(character) => Some(*character),
        _ => None,
    };
    tokens.iter().map(character).collect()
}

/// A regular expression that a path matches as a whole.
pub(super) fn compile(pattern: &str, tokens: &[Token]) -> Result<Regex, PatternError> {
    let mut expression = String::from("^");
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Literal(character) => push_literal(&mut expression, *character),
            Token::One => expression.push_str("[^/]"),
            Token::Star => expression.push_str("[^/]*"),
            Token::StarStar(_) if index + 1 == tokens.len() => expression.push_str(".*"),
            Token::StarStar(_) => expression.push_str("(?:.*/)?"),
            Token::Class(negated, ranges) => push_class(&mut expression, *negated, ranges),
        }
    }
    expression.push('$');
    let mut builder = RegexBuilder::new(&expression);
    // A name may hold line breaks.
    let builder = builder
        .dot_matches_new_line(true)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED);
    builder
        .build()
        .map_err(|_| PatternError::TooLong(quoted(pattern)))
}

fn push_literal(expression: &mut String, character: char) {
    expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
}

fn push_class(expression: &mut String, negated: bool, ranges: &[(char, char)]) {
    // A range that ends before it begins holds nothing.
    let ranges: Vec<_> = ranges.iter().filter(|(from, to)| from <= to).collect();
    if ranges.is_empty() {
        expression.push_str(if negated { "." } else { "[^\\x00-\\x{10FFFF}]" });
        return;
    }
    expression.push_str(if negated { "[^" } else { "[" });
    for (from, to) in ranges {
        expression.push_str(&format!(
            "\\x{{{:x}}}-\\x{{{:x}}}",
            u32::from(*from),
            u32::from(*to)
        ));
    }
    expression.push(']');
}
