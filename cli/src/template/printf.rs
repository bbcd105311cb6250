//! Go's `printf`: `%[flags][width][.precision]verb` for the verbs s, v, q, d, x, X, t and %.

use serde_json::Value;

use super::value::display;
use crate::format::go_quote;

/// More than any terminal is wide; keeps a typing mistake from filling memory.
const MAX_WIDTH: usize = 4096;

/// One directive.
#[derive(Debug, Default)]
struct Directive {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

/// The first argument filled in with the others.
pub(super) fn printf(arguments: &[Value]) -> Result<String, String> {
    let Some((Value::String(format), arguments)) = arguments.split_first() else {
        return Err("printf wants a format string first".to_owned());
    };
    let mut arguments = arguments.iter();
    let mut text = String::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = characters.next_if(|next| matches!(next, '-' | '0' | '+' | ' ' | '#')) {
            directive.left |= flag == '-';
            directive.zeros |= flag == '0';
        }
        directive.width = digits(&mut characters)?.unwrap_or(0);
        if characters.next_if_eq(&'.').is_some() {
            directive.precision = Some(digits(&mut characters)?.unwrap_or(0));
        }
        match characters.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match arguments.next() {
                None => text.push_str(&format!("%!{verb}(MISSING)")),
                Some(argument) => text.push_str(&directive.apply(verb, argument)),
            },
        }
    }
    Ok(text)
}

fn digits(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        let value = number.unwrap_or(0) * 10 + digit.to_digit(10).unwrap_or(0) as usize;
        if value > MAX_WIDTH {
            return Err(format!("a width of more than {MAX_WIDTH}"));
        }
        number = Some(value);
    }
    Ok(number)
}

impl Directive {
    fn apply(&self, verb: char, argument: &Value) -> String {
        let body = match (verb, argument) {
            ('s' | 'v', value) => self.cut(display(value)),
            ('q', Value::String(text)) => go_quote(&self.cut(text.clone())),
            ('d', Value::Number(number)) => number.to_string(),
            ('x' | 'X', Value::Number(number)) => {
                let value = number.as_i64().unwrap_or_default();
                if verb == 'x' {
                    format!("{value:x}")
                } else {
                    format!("{value:X}")
                }
            }
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('t', Value::Bool(truth)) => truth.to_string(),
            (verb, value) => format!("%!{verb}({})", display(value)),
        };
        let missing = self.width.saturating_sub(body.chars().count());
        match (self.left, self.zeros) {
            (true, _) => body + &" ".repeat(missing),
            (false, true) => "0".repeat(missing) + &body,
            (false, false) => " ".repeat(missing) + &body,
        }
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        }
    }
}
