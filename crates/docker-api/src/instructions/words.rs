//! Words of a Dockerfile instruction: quotes, escapes and variables as the Dockerfile reference has them ("Environment
//! replacement"), with `\` as the escape character.

use std::iter::Peekable;
use std::str::Chars;

/// Variables within the defaults of variables.
const MAX_NESTING: usize = 16;
/// The length that variables may give a word, in bytes: each may stand for a long value, many times.
const MAX_WORD: usize = 1 << 20;

/// The words of a text, which blanks outside of quotes separate; quotes and escapes stay in them.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, blank) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                word.push('\\');
                word.extend(characters.next());
                continue;
            }
            _ => {}
        }
        word.push(character);
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    Ok(words)
}

/// A word without its quotes and escapes, and with the values of its variables, which `env` has as `NAME=value`.
pub(super) fn expand(word: &str, env: &[String]) -> Result<String, String> {
    let mut reader = WordReader {
        rest: word.chars().peekable(),
        env,
        nesting: 0,
    };
    let expanded = reader.read_until(None)?;
    Ok(expanded)
}

struct WordReader<'a> {
    rest: Peekable<Chars<'a>>,
    env: &'a [String],
    nesting: usize,
}

impl WordReader<'_> {
    /// Reads to an end mark outside of quotes, or to the end.
    fn read_until(&mut self, end: Option<char>) -> Result<String, String> {
        let mut word = String::new();
        loop {
            match self.rest.next() {
                None if end.is_none() => return Ok(word),
                None => return Err("a variable's brace is not closed".into()),
                Some(found) if Some(found) == end => return Ok(word),
                Some('\'') => self.read_single(&mut word)?,
                Some('"') => self.read_double(&mut word)?,
                // One at the end stands for itself.
                Some('\\') => word.push(self.rest.next().unwrap_or('\\')),
                Some('$') => word.push_str(&self.variable()?),
                Some(other) => word.push(other),
            }
            if word.len() > MAX_WORD {
                return Err(format!(
                    "a word with its variables is longer than {MAX_WORD} bytes"
                ));
            }
        }
    }

    fn read_single(&mut self, word: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                None => return Err("a quote is not closed".into()),
                Some('\'') => return Ok(()),
                Some(other) => word.push(other),
            }
        }
    }

    fn read_double(&mut self, word: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                None => return Err("a quote is not closed".into()),
                Some('"') => return Ok(()),
                Some('\\') => match self.rest.next() {
                    Some(escaped @ ('"' | '$' | '\\')) => word.push(escaped),
                    other => {
                        word.push('\\');
                        word.extend(other);
                    }
                },
                Some('$') => word.push_str(&self.variable()?),
                Some(other) => word.push(other),
            }
            if word.len() > MAX_WORD {
                return Err(format!(
                    "a word with its variables is longer than {MAX_WORD} bytes"
                ));
            }
        }
    }

    /// What stands for a variable; the `$` is read already.
    fn variable(&mut self) -> Result<String, String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(match name.as_str() {
                "" => "$".into(),
                name => self.value(name).unwrap_or_default(),
            });
        }
        let name = self.name();
        if name.is_empty() {
            return Err("a variable has no name".into());
        }
        let value = self.value(&name);
        match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.rest.next();
                let word = self.nested()?;
                let value = value.filter(|value| !value.is_empty());
                choose(&name, modifier, value, word)
            }
            Some(modifier @ ('-' | '+' | '?')) => {
                let word = self.nested()?;
                choose(&name, Some(modifier), value, word)
            }
            other => Err(unknown(&name, other)),
        }
    }

    /// The word behind a modifier, up to the closing brace.
    fn nested(&mut self) -> Result<String, String> {
        if self.nesting == MAX_NESTING {
            return Err("variables are nested too deeply".into());
        }
        self.nesting += 1;
        let word = self.read_until(Some('}'))?;
        self.nesting -= 1;
        Ok(word)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let is_part = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
        if self.rest.peek().is_some_and(char::is_ascii_digit) {
            // A positional parameter, of which there are none.
            name.extend(self.rest.next());
            return name;
        }
        while let Some(character) = self.rest.next_if(is_part) {
            name.push(character);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        self.env.iter().find_map(|variable| {
            let (own, value) = variable.split_once('=')?;
            (own == name).then(|| value.to_owned())
        })
    }
}

/// What a variable with a modifier stands for.
fn choose(name: &str, modifier: Option<char>, value: Option<String>, word: String) -> Result<String, String> {
    match modifier {
        Some('-') => Ok(value.unwrap_or(word)),
        Some('+') => Ok(value.map(|_| word).unwrap_or_default()),
        Some('?') => value.ok_or_else(|| format!("{name}: {word}")),
        other => Err(unknown(name, other)),
    }
}

fn unknown(name: &str, modifier: Option<char>) -> String {
    let modifier = modifier.map_or_else(|| "end".to_owned(), |modifier| format!("modifier `{modifier}`"));
    format!("the variable {name} has an unsupported {modifier}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_separate_words_outside_of_quotes() {
        assert_eq!(
            split("a=1  b='x y' c=\"u v\" d=m\\ n").unwrap(),
            ["a=1", "b='x y'", "c=\"u v\"", "d=m\\ n"]
        );
        assert_eq!(split("\"a\\\"b c\"").unwrap(), ["\"a\\\"b c\""]);
        assert!(split(" ").unwrap().is_empty());
        assert!(split("'x").is_err() && split("\"x").is_err());
    }

    #[test]
    fn quotes_go_and_variables_are_replaced() {
        let env = [
            "A=1".to_owned(),
            "EMPTY=".to_owned(),
            "PATH=/bin:/sbin".to_owned(),
        ];
        for (word, expected) in [
            ("'a b'\"c\"d", "a bcd"),
            ("$PATH:/x", "/bin:/sbin:/x"),
            ("${A}2", "12"),
            ("$A-$MISSING.", "1-."),
            ("\\$A '$A' \"$A\" \"\\$A\" \"\\n\"", "$A $A 1 $A \\n"),
            ("${MISSING:-d}${EMPTY:-e}${EMPTY-f}", "de"),
            ("${A:+x}${EMPTY:+y}${MISSING+z}", "x"),
            ("${MISSING:-${A:-2}}", "1"),
            ("cost: 5$", "cost: 5$"),
            ("$1x", "x"),
            ("end\\", "end\\"),
        ] {
            assert_eq!(expand(word, &env).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let nested = "${A:-".repeat(100) + &"}".repeat(100);
        for word in [
            "'x",
            "\"x",
            "${A",
            "${}",
            "${A:=1}",
            "${A%x}",
            "${MISSING:?why}",
            &nested,
        ] {
            assert!(expand(word, &[]).is_err(), "{word}");
        }
        let long = ["L=".to_owned() + &"x".repeat(1 << 16)];
        assert!(expand(&"$L".repeat(100), &long).is_err());
    }
}
