//! The lexer: one pass over the characters.

use super::pattern::{remove_prefix, remove_suffix, replace};
use super::{Expander, Expansion, ExpansionError};
use crate::diagnostic::quoted;
use crate::limits::{MAX_EXPANSION, MAX_EXPANSION_WORK, MAX_NESTING};
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// What a pattern costs beside the text it searches.
const PATTERN_WORK: usize = 16 << 10;
/// What each byte of a pattern costs, at least: it is translated and compiled.
const PATTERN_BYTE_WORK: usize = 64;

pub(super) struct Lexer<'a> {
    options: &'a Expander<'a>,
    input: Peekable<Chars<'a>>,
    used: BTreeSet<String>,
    undefined: BTreeSet<String>,
    work: usize,
    depth: usize,
}

/// Text, and the words in it.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Output {
    /// A character that splits words if it is a space.
    fn push(&mut self, character: char) {
        self.text.push(character);
        self.push_word(character);
    }

    fn push_word(&mut self, character: char) {
        if !character.is_whitespace() {
            self.word.push(character);
            self.in_word = true;
        } else if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.in_word = false;
        }
    }

    /// A character of a word, whatever it is.
    fn push_raw(&mut self, character: char) {
        self.text.push(character);
        self.word.push(character);
        self.in_word = true;
    }

    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
        text.chars().for_each(|character| self.push_word(character));
    }

    fn push_raw_str(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
        self.in_word = true;
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

impl<'a> Lexer<'a> {
    pub(super) fn new(options: &'a Expander<'a>, text: &'a str) -> Self {
        Lexer {
            options,
            input: text.chars().peekable(),
            used: BTreeSet::new(),
            undefined: BTreeSet::new(),
            work: text.len(),
            depth: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Expansion, ExpansionError> {
        let (text, words) = self.until(None, self.options.raw)?.finish();
        Ok(Expansion {
            text,
            words,
            used: self.used,
            undefined: self.undefined,
            work: self.work,
        })
    }

    /// Everything to the character that ends it, which is taken too; or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Output, ExpansionError> {
        let mut output = Output::default();
        while let Some(character) = self.input.next() {
            if stop == Some(character) {
                return Ok(output);
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    output.push_str(&value);
                }
                '\'' if !self.options.literal_quotes => {
                    let text = self.single_quotes()?;
                    output.push_raw_str(&text);
                }
                '"' if !self.options.literal_quotes => {
                    let text = self.double_quotes(raw_escapes)?;
                    output.push_raw_str(&text);
                }
                _ if character == self.options.escape => {
                    if raw_escapes {
                        output.push_raw(character);
                    }
                    // An escape at the end of all is dropped.
                    if let Some(escaped) = self.input.next() {
                        output.push_raw(escaped);
                    }
                }
                _ => output.push(character),
            }
            check_length(output.text.len())?;
        }
        match stop {
            Some(stop) => Err(ExpansionError::Unclosed(stop.to_string())),
            None => Ok(output),
        }
    }

    /// Behind `'`: all to the next one, as it stands.
    fn single_quotes(&mut self) -> Result<String, ExpansionError> {
        let mut text = String::new();
        if self.options.raw {
            text.push('\'');
        }
        loop {
            match self.input.next() {
                None => return Err(ExpansionError::Unclosed("single-quote".to_owned())),
                Some('\'') => break,
                Some(character) => text.push(character),
            }
        }
        if self.options.raw {
            text.push('\'');
        }
        Ok(text)
    }

    /// Behind `"`: all to the next one; variables are expanded, and `"`, `$` and the escape character can be escaped.
    fn double_quotes(&mut self, raw_escapes: bool) -> Result<String, ExpansionError> {
        let mut text = String::new();
        if self.options.raw {
            text.push('"');
        }
        loop {
            match self.input.next() {
                None => return Err(ExpansionError::Unclosed("double-quote".to_owned())),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar()?),
                Some(character) if character == self.options.escape => {
                    if raw_escapes {
                        text.push(character);
                    }
                    let escape = self.options.escape;
                    match self.input.peek().copied() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == escape => {
                            self.input.next();
                            text.push(next);
                        }
                        // Before anything else it is a character like others.
                        Some(_) => text.push(character),
                    }
                }
                Some(character) => text.push(character),
            }
            check_length(text.len())?;
        }
        if self.options.raw {
            text.push('"');
        }
        Ok(text)
    }

    /// Behind `$`.
    fn dollar(&mut self) -> Result<String, ExpansionError> {
        if self.input.next_if_eq(&'{').is_some() {
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err(ExpansionError::TooDeep);
            }
            let value = self.braces()?;
            self.depth -= 1;
            return Ok(value);
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.get(&name)? {
            None if self.options.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// Behind `${`.
    fn braces(&mut self) -> Result<String, ExpansionError> {
        match self.input.peek() {
            None => return Err(ExpansionError::Missing("}")),
            Some('{' | '}' | ':') => return Err(ExpansionError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.input.next() {
            Some('}') => match self.get(&name)? {
                None if self.options.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.input.next() {
                Some(modifier) => self.modifier(&name, true, modifier),
                None => Err(ExpansionError::Missing("}")),
            },
            Some('/') => self.replacement(&name),
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modifier(&name, false, modifier),
            Some(other) => Err(ExpansionError::Modifier(quoted(&other.to_string()))),
            None => Err(ExpansionError::Modifier(String::new())),
        }
    }

    /// Behind `${X:-` and its like.
    fn modifier(
        &mut self,
        name: &str,
        empty_is_unset: bool,
        modifier: char,
    ) -> Result<String, ExpansionError> {
        let word = self.part('}', matches!(modifier, '#' | '%'), "}")?;
        let value = self.get(name)?;
        let colon = if empty_is_unset { ":" } else { "" };
        let value = match value {
            None if self.options.keep_unset => return Ok(format!("${{{name}{colon}{modifier}{word}}}")),
            value => value,
        };
        let has_value = value
            .as_ref()
            .is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            '-' if has_value => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if has_value => Ok(word),
            '+' => Ok(String::new()),
            '?' if has_value => Ok(value.unwrap_or_default()),
            '?' => {
                let what = if value.is_none() { "unset" } else { "empty" };
                let message = match word.is_empty() {
                    true => format!("is not allowed to be {what}"),
                    false => quoted(&word),
                };
                Err(ExpansionError::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            '#' | '%' => {
                let value = value.unwrap_or_default();
                let (longest, pattern) = match word.strip_prefix(modifier) {
                    Some(pattern) => (true, pattern),
                    None => (false, word.as_str()),
                };
                self.pay_for_pattern(pattern, &value)?;
                match modifier {
                    '#' => remove_prefix(pattern, &value, longest),
                    _ => remove_suffix(pattern, &value, longest),
                }
            }
            other => Err(ExpansionError::Modifier(format!(
                "{colon}{}",
                quoted(&other.to_string())
            ))),
        }
    }

    /// Behind `${X/`.
    fn replacement(&mut self, name: &str) -> Result<String, ExpansionError> {
        let all = self.input.next_if_eq(&'/').is_some();
        let pattern = self.part('/', true, "/' in ${}")?;
        let replacement = self.part('}', true, "}")?;
        let value = match self.get(name)? {
            None if self.options.keep_unset => return Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => value.unwrap_or_default(),
        };
        self.pay_for_pattern(&pattern, &value)?;
        let replaced = replace(&pattern, &value, &replacement, all)?;
        self.pay(replaced.len())?;
        Ok(replaced)
    }

    /// The text to a character that must come.
    fn part(
        &mut self,
        stop: char,
        raw_escapes: bool,
        missing: &'static str,
    ) -> Result<String, ExpansionError> {
        match self.until(Some(stop), raw_escapes) {
            Ok(output) => Ok(output.text),
            Err(ExpansionError::Unclosed(_)) if self.input.peek().is_none() => {
                Err(ExpansionError::Missing(missing))
            }
            Err(error) => Err(error),
        }
    }

    /// The longest name: letters, digits and `_`; or a number; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.input.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.input.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.input.next()),
            _ => {
                while let Some(next) = self.input.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    name.push(next);
                }
            }
        }
        name
    }

    fn get(&mut self, name: &str) -> Result<Option<String>, ExpansionError> {
        let value = (self.options.lookup)(name);
        self.pay(name.len() + value.as_ref().map_or(0, String::len))?;
        match value {
            Some(_) => self.used.insert(name.to_owned()),
            None => self.undefined.insert(name.to_owned()),
        };
        Ok(value)
    }

    fn pay_for_pattern(&mut self, pattern: &str, value: &str) -> Result<(), ExpansionError> {
        let pattern = pattern.len().saturating_mul(PATTERN_BYTE_WORK);
        self.pay(pattern.saturating_add(value.len()).saturating_add(PATTERN_WORK))
    }

    fn pay(&mut self, work: usize) -> Result<(), ExpansionError> {
        self.work = self.work.saturating_add(work);
        match self.work <= MAX_EXPANSION_WORK {
            true => Ok(()),
            false => Err(ExpansionError::TooMuchWork),
        }
    }
}

fn check_length(length: usize) -> Result<(), ExpansionError> {
    match length <= MAX_EXPANSION {
        true => Ok(()),
        false => Err(ExpansionError::TooLong),
    }
}
