//! Flags of an instruction: `--name` and `--name=value` in front of its arguments.

use super::lines::Piece;
use super::parse::Context;
use crate::diagnostic::{Diagnostic, did_you_mean, quoted};
use crate::position::Word;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Text,
    /// Values, one each time it is given.
    Texts,
    /// `true`, `false`, or nothing, which is `true`.
    Truth,
}

/// A flag as written, quotes and escapes resolved.
pub(super) struct Flag {
    name: String,
    value: Option<String>,
    written: Word,
}

/// The flags that an instruction has.
pub(super) struct Flags {
    flags: Vec<Flag>,
}

/// Splits flags off the front of what stands behind a keyword; the arguments are left.
pub(super) fn split<'a>(context: &Context<'_>, piece: Piece<'a>) -> (Vec<Flag>, Piece<'a>) {
    let mut flags = Vec::new();
    let mut rest = piece.trim();
    while rest.text.starts_with("--") {
        let (text, end) = unquote(rest.text);
        let word = rest.slice(0, end);
        rest = rest.from(end).trim();
        // Two dashes alone end the flags.
        let Some(flag) = text.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            break;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        flags.push(Flag {
            name: name.to_owned(),
            value,
            written: context.word(word),
        });
    }
    (flags, rest)
}

/// The first word without its quotes and escapes, and where it ends. A backslash escapes here whatever `# escape=` says.
fn unquote(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (word, at),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ if character == '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

impl Flags {
    /// Checks flags against those that the instruction knows.
    pub(super) fn check(flags: Vec<Flag>, known: &[(&'static str, Kind)]) -> Result<Flags, Diagnostic> {
        for (index, flag) in flags.iter().enumerate() {
            let refuse = |message: String| Err(Diagnostic::error(flag.written.span, message));
            let name = quoted(&flag.name);
            let Some((_, kind)) = known.iter().find(|(known, _)| *known == flag.name) else {
                let flags: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
                let written = format!("--{name}");
                let hint = did_you_mean(&written, flags.iter().map(String::as_str));
                return refuse(format!("unknown flag: {written}{hint}"));
            };
            if *kind != Kind::Texts && flags[..index].iter().any(|before| before.name == flag.name) {
                return refuse(format!("duplicate flag specified: {name}"));
            }
            match (kind, flag.value.as_deref()) {
                (Kind::Text | Kind::Texts, None) | (Kind::Truth, Some("")) => {
                    return refuse(format!("missing a value on flag: {name}"));
                }
                (Kind::Truth, Some(value)) if truth(value).is_none() => {
                    return refuse(format!(
                        "expecting boolean value for flag {name}, not: {}",
                        quoted(value)
                    ));
                }
                _ => {}
            }
        }
        Ok(Flags { flags })
    }

    /// The value of a flag that takes one; none when it is empty.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.texts(name).into_iter().find(|value| !value.is_empty())
    }

    /// All values of a flag.
    pub(super) fn texts(&self, name: &str) -> Vec<Word> {
        let named = self.flags.iter().filter(|flag| flag.name == name);
        let value = |flag: &Flag| Some(Word::new(flag.value.clone()?, flag.written.span));
        named.filter_map(value).collect()
    }

    /// The value of a flag that is true or false.
    pub(super) fn truth(&self, name: &str) -> Option<bool> {
        let flag = self.flags.iter().find(|flag| flag.name == name)?;
        flag.value.as_deref().map_or(Some(true), truth)
    }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_of_a_flag_are_resolved() {
        for (text, word, end) in [
            ("--a=b c", "--a=b", 5),
            ("--a='b c' d", "--a=b c", 9),
            ("--a=\"b\\\"c\"", "--a=b\"c", 10),
            ("--a=b\\ c d", "--a=b c", 8),
            ("--a=b\\", "--a=b", 6),
        ] {
            assert_eq!(unquote(text), (word.to_owned(), end), "{text}");
        }
    }
}
