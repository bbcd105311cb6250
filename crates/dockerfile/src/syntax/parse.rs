//! The statements of a text, one after the other, and the stages they make.

use std::collections::HashSet;

use super::directives::{self, Directives};
use super::flags::{self, Flag};
use super::heredoc;
use super::instructions::{self, Parsed};
use super::json::{self, Json};
use super::lines::{Logical, Piece, Reader};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::dockerfile::{Dockerfile, Stage};
use crate::instruction::{Heredoc, Instruction, Statement};
use crate::limits::{MAX_FILE, MAX_HEREDOCS, MAX_INSTRUCTIONS, MAX_STAGES};
use crate::position::{Places, Span, Word};

/// The most errors that are told at once.
const MAX_ERRORS: usize = 20;

/// Reads a Dockerfile. Every instruction is read even when one in front of it is wrong, so that all errors are told.
pub fn parse(text: &str) -> Result<Dockerfile, Diagnostics> {
    let mut parser = Parser::new(text)?;
    let mut errors = Vec::new();
    while let Some(next) = parser.next() {
        if let Err(error) = next.and_then(|statement| parser.add(statement)) {
            errors.push(*error);
        }
        if errors.len() >= MAX_ERRORS || parser.broken {
            break;
        }
    }
    match errors.is_empty() {
        true => parser.finish().map_err(|error| vec![*error]),
        false => Err(errors),
    }
}

/// Reads one instruction out of `OnBuild` of an image's configuration.
pub fn parse_trigger(text: &str) -> Result<Statement, Diagnostics> {
    let one = |error: Fault| vec![*error];
    let mut parser = Parser::new(text)?;
    let nothing = || fault(Span::default(), "an ONBUILD trigger without an instruction");
    let found = parser.next().ok_or_else(|| vec![*nothing()])?.map_err(one)?;
    if let Some(second) = parser.next() {
        let second = second.map_err(one)?;
        return Err(vec![Diagnostic::error(
            second.span,
            "more than one instruction in an ONBUILD trigger",
        )]);
    }
    let span = found.span;
    match found.instruction {
        Parsed::Other(instruction) => {
            instructions::check_trigger(instruction.keyword(), span).map_err(one)?;
            Ok(with(found.statement, instruction))
        }
        Parsed::From(_) => Err(vec![*instructions::not_a_trigger("FROM", span)]),
    }
}

/// A diagnostic in a box: a `Result` with it stays small.
pub(super) type Fault = Box<Diagnostic>;

pub(super) fn fault(span: Span, message: impl AsRef<str>) -> Fault {
    Box::new(Diagnostic::error(span, message))
}

/// What an instruction is read with: where its parts stand.
pub(super) struct Context<'a> {
    pub(super) places: &'a Places<'a>,
    pub(super) logical: &'a Logical,
    pub(super) escape: char,
}

/// One instruction, split into its keyword, flags and arguments.
pub(super) struct Parts<'a> {
    pub(super) keyword: Word,
    pub(super) flags: Vec<Flag>,
    pub(super) arguments: Piece<'a>,
    pub(super) json: Json,
}

impl Context<'_> {
    pub(super) fn word(&self, piece: Piece<'_>) -> Word {
        piece.word(self.logical, self.places)
    }

    pub(super) fn span(&self, piece: Piece<'_>) -> Span {
        self.logical.span(self.places, piece.at, piece.end())
    }

    pub(super) fn fault(&self, piece: Piece<'_>, message: impl AsRef<str>) -> Fault {
        fault(self.span(piece), message)
    }

    /// Splits an instruction.
    pub(super) fn parts<'b>(&self, line: Piece<'b>) -> Parts<'b> {
        let line = line.trim();
        let (keyword, rest) = line.split();
        let (flags, arguments) = match rest {
            Some(rest) => flags::split(self, rest),
            None => (Vec::new(), line.from(line.text.len())),
        };
        Parts {
            keyword: self.word(keyword),
            flags,
            json: json::read(arguments.text),
            arguments,
        }
    }
}

impl Parts<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    fn takes_heredocs(&self) -> bool {
        ["RUN", "COPY", "ADD"].into_iter().any(|keyword| self.is(keyword))
            && !matches!(self.json, Json::Strings(_))
    }
}

/// A statement that is not yet in its stage.
struct Found {
    instruction: Parsed,
    statement: Statement<()>,
    span: Span,
}

fn with<T>(statement: Statement<()>, instruction: T) -> Statement<T> {
    Statement {
        keyword: statement.keyword,
        instruction,
        comments: statement.comments,
        span: statement.span,
        empty_continuation: statement.empty_continuation,
    }
}

struct Parser<'a> {
    places: Places<'a>,
    text: &'a str,
    reader: Reader<'a>,
    /// Lines that may end a here-document, once somebody has asked.
    lines: Option<HashSet<&'a str>>,
    directives: Directives,
    /// Whether directives can still follow.
    in_directives: bool,
    comments: Vec<String>,
    count: usize,
    file: Dockerfile,
    /// Whether nothing behind the last error can be read.
    broken: bool,
}

fn lines(text: &str) -> HashSet<&str> {
    text.lines().map(|line| line.trim_start_matches('\t')).collect()
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, Diagnostics> {
        if text.len() > MAX_FILE {
            let message = format!(
                "the Dockerfile is larger than {MAX_FILE} bytes: keep data in files of the build context"
            );
            return Err(vec![Diagnostic::error(Span::default(), message)]);
        }
        let start = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Ok(Parser {
            places: Places::new(text),
            text,
            reader: Reader::new(text, start),
            lines: None,
            directives: Directives::default(),
            in_directives: true,
            comments: Vec::new(),
            count: 0,
            file: Dockerfile {
                directives: Directives::default(),
                arguments: Vec::new(),
                stages: Vec::new(),
            },
            broken: false,
        })
    }

    /// The next statement, whatever its place in the file.
    fn next(&mut self) -> Option<Result<Found, Fault>> {
        loop {
            let line = self.reader.line()?;
            let content = line.text.trim_start();
            let comment = content.strip_prefix('#');
            if self.in_directives {
                match directives::read(content) {
                    None => self.in_directives = false,
                    Some((name, value)) => {
                        let at = line.start + offset(line.text, value);
                        let span = self.places.span(at, at + value.len());
                        if let Err(message) = self.directives.add(name, Word::new(value.to_owned(), span)) {
                            return Some(Err(fault(span, message)));
                        }
                        continue;
                    }
                }
            }
            match comment.map(str::trim) {
                // An empty comment, as an empty line, keeps those above away from what is below.
                Some("") => self.comments.clear(),
                Some(comment) => self.comments.push(comment.to_owned()),
                None if content.is_empty() => self.comments.clear(),
                None => {
                    let logical = self.reader.logical(line, self.directives.escape);
                    let comments = std::mem::take(&mut self.comments);
                    return Some(self.statement(&logical, comments));
                }
            }
        }
    }

    fn statement(&mut self, logical: &Logical, comments: Vec<String>) -> Result<Found, Fault> {
        let context = Context {
            places: &self.places,
            logical,
            escape: self.directives.escape,
        };
        let line = logical.whole().trim();
        let mut span = context.span(line);
        self.count += 1;
        if self.count > MAX_INSTRUCTIONS {
            self.broken = true;
            return Err(fault(span, format!("more than {MAX_INSTRUCTIONS} instructions")));
        }
        let parts = context.parts(line);
        let compound = parts.is("ONBUILD").then(|| context.parts(parts.arguments));
        let headers = match compound.as_ref().unwrap_or(&parts).takes_heredocs() {
            true => heredoc::in_line(&logical.text),
            false => Vec::new(),
        };
        if headers.len() > MAX_HEREDOCS {
            self.broken = true;
            return Err(fault(
                span,
                format!("more than {MAX_HEREDOCS} here-documents in one instruction"),
            ));
        }
        let mut heredocs: Vec<Heredoc> = Vec::new();
        for header in headers {
            let name = header.name.clone();
            if header.spaced
                && !self
                    .lines
                    .get_or_insert_with(|| lines(self.text))
                    .contains(&*name)
            {
                continue;
            }
            let Some(heredoc) = heredoc::body(header, &mut self.reader, &self.places) else {
                // What follows is the rest of the here-document.
                self.broken = true;
                let help = format!("end it with a line that is just {name}");
                return Err(Box::new(
                    Diagnostic::error(span, "unterminated heredoc").with_help(help),
                ));
            };
            span.end = heredoc.body.span.end;
            heredocs.push(heredoc);
        }
        let keyword = parts.keyword.clone();
        let empty = logical.empty.map(|(from, to)| context.places.span(from, to));
        Ok(Found {
            instruction: instructions::parse(&context, parts, heredocs)?,
            statement: Statement {
                keyword,
                instruction: (),
                comments,
                span,
                empty_continuation: empty,
            },
            span,
        })
    }

    /// Puts a statement where it belongs.
    fn add(&mut self, found: Found) -> Result<(), Fault> {
        let Found {
            instruction,
            statement,
            span,
        } = found;
        if matches!(instruction, Parsed::From(_)) && self.file.stages.len() >= MAX_STAGES {
            self.broken = true;
            return Err(fault(span, format!("more than {MAX_STAGES} stages")));
        }
        match (instruction, self.file.stages.last_mut()) {
            (Parsed::From(from), _) => self.file.stages.push(Stage {
                from: with(statement, from),
                body: Vec::new(),
            }),
            (Parsed::Other(instruction), Some(stage)) => stage.body.push(with(statement, instruction)),
            (Parsed::Other(Instruction::Arg(arg)), None) => self.file.arguments.push(with(statement, arg)),
            (Parsed::Other(_), None) => {
                let error = Diagnostic::error(span, "no build stage in current context");
                return Err(Box::new(
                    error.with_help("begin with FROM: only ARG may stand in front of it"),
                ));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Dockerfile, Fault> {
        let end = self.places.span(self.reader.at(), self.reader.at());
        if self.count == 0 {
            return Err(fault(end, "file with no instructions"));
        }
        if self.file.stages.is_empty() {
            return Err(fault(end, "dockerfile contains no stages to build"));
        }
        Ok(Dockerfile {
            directives: self.directives,
            ..self.file
        })
    }
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}
