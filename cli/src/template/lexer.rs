//! Text and actions into tokens.

use serde_json::Value;

/// A piece of the template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text outside of actions, trimmed where an action asked for it.
    Text(String),
    /// The inside of `{{ }}`.
    Action(Vec<Token>),
}

/// A token inside of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`, alone.
    Dot,
    /// `.Name`, and whether it continues what stands right before it.
    Field { name: String, continues: bool },
    /// `$` or `$name`; the name without its `$`.
    Variable(String),
    /// A function's name or a keyword.
    Word(String),
    /// A literal.
    Literal(Value),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
}

/// Splits a template into its pieces.
pub(super) fn split(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = if trim_next { text.trim_start() } else { text };
        let trim_here = action.is_some_and(starts_with_trim);
        let text = if trim_here { text.trim_end() } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let Some(action) = action else { return Ok(pieces) };
        let action = if trim_here { &action[1..] } else { action };
        let (tokens, after, trims) = scan_action(action)?;
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action(tokens));
        }
        trim_next = trims;
        rest = after;
    }
}

/// `{{- ` trims; `{{-1}}` is a number.
fn starts_with_trim(action: &str) -> bool {
    let mut characters = action.chars();
    characters.next() == Some('-') && characters.next().is_some_and(char::is_whitespace)
}

type Action<'a> = (Option<Vec<Token>>, &'a str, bool);

fn scan_action(action: &str) -> Result<Action<'_>, String> {
    if let Some(comment) = action.trim_start().strip_prefix("/*") {
        let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
        let after = after.trim_start();
        if let Some(after) = after.strip_prefix("-}}") {
            return Ok((None, after, true));
        }
        let after = after
            .strip_prefix("}}")
            .ok_or("comment ends before closing delimiter")?;
        return Ok((None, after, false));
    }
    let mut scanner = Scanner { rest: action };
    let mut tokens = Vec::new();
    loop {
        let spaced = scanner.skip_space();
        if let Some(after) = scanner.rest.strip_prefix("}}") {
            return Ok((Some(tokens), after, false));
        }
        if let Some(after) = scanner.rest.strip_prefix("-}}").filter(|_| spaced) {
            return Ok((Some(tokens), after, true));
        }
        let continues = !spaced && !tokens.is_empty();
        tokens.push(scanner.token(continues)?);
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip_space(&mut self) -> bool {
        let trimmed = self.rest.trim_start();
        let skipped = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        skipped
    }

    fn token(&mut self, continues: bool) -> Result<Token, String> {
        const PUNCTUATION: [(&str, Token); 6] = [
            (":=", Token::Declare),
            ("=", Token::Assign),
            ("|", Token::Pipe),
            ("(", Token::Open),
            (")", Token::Close),
            (",", Token::Comma),
        ];
        for (text, token) in PUNCTUATION {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Ok(token);
            }
        }
        let first = self.rest.chars().next().ok_or("unclosed action")?;
        match first {
            '.' => {
                self.rest = &self.rest[1..];
                let name = self.word();
                Ok(if name.is_empty() {
                    Token::Dot
                } else {
                    Token::Field {
                        name: name.to_owned(),
                        continues,
                    }
                })
            }
            '$' => {
                self.rest = &self.rest[1..];
                Ok(Token::Variable(self.word().to_owned()))
            }
            '"' => self.quoted().map(|text| Token::Literal(text.into())),
            '`' => {
                let (raw, rest) = self.rest[1..]
                    .split_once('`')
                    .ok_or("unterminated raw quoted string")?;
                self.rest = rest;
                Ok(Token::Literal(raw.into()))
            }
            '+' | '-' | '0'..='9' => self.number().map(Token::Literal),
            _ if is_word(first) => Ok(Token::Word(self.word().to_owned())),
            _ => Err(format!("unexpected {first:?} in command")),
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|character| !is_word(character))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self.rest[1..]
            .find(|character: char| !is_word(character) && character != '.')
            .map_or(self.rest.len(), |end| end + 1);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let hexadecimal = text
            .strip_prefix("0x")
            .map(|digits| i64::from_str_radix(digits, 16));
        if let Ok(number) = hexadecimal.unwrap_or_else(|| text.parse()) {
            return Ok(number.into());
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err(format!("bad number syntax: {text:?}")),
        }
    }

    /// A string in double quotes with Go's escapes.
    fn quoted(&mut self) -> Result<String, String> {
        const UNTERMINATED: &str = "unterminated quoted string";
        let mut text = String::new();
        let mut characters = self.rest[1..].chars();
        loop {
            match characters.next().ok_or(UNTERMINATED)? {
                '"' => break,
                '\n' => return Err(UNTERMINATED.to_owned()),
                '\\' => {
                    let escape = characters.next().ok_or(UNTERMINATED)?;
                    text.push(match escape {
                        'a' => '\x07',
                        'b' => '\x08',
                        'f' => '\x0c',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\x0b',
                        '\\' | '"' | '\'' => escape,
                        'x' => code_point(&mut characters, 2)?,
                        'u' => code_point(&mut characters, 4)?,
                        'U' => code_point(&mut characters, 8)?,
                        _ => return Err(format!("unknown escape sequence \\{escape}")),
                    });
                }
                other => text.push(other),
            }
        }
        self.rest = characters.as_str();
        Ok(text)
    }
}

fn code_point(characters: &mut impl Iterator<Item = char>, digits: usize) -> Result<char, String> {
    let text: String = characters.take(digits).collect();
    u32::from_str_radix(&text, 16)
        .ok()
        .filter(|_| text.len() == digits)
        .and_then(char::from_u32)
        .ok_or_else(|| format!("bad escape sequence with {text:?}"))
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}
