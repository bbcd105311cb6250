//! What is wrong with a Dockerfile, where, and what would be right.

use crate::lint::Rule;
use crate::position::Span;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;

/// Lines of the source that are shown of one diagnostic.
const MAX_LINES: usize = 8;
/// Of a line that is longer, the part around the fault is shown, in bytes.
const MAX_SHOWN: usize = 4096;
/// Characters of the text of others that a message repeats.
const MAX_QUOTED: usize = 200;

/// The longest name that is compared with others.
const MAX_COMPARED: usize = 32;
/// The most names that one is compared with.
const MAX_CANDIDATES: usize = 64;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing can be built.
    Error,
    /// It builds, but probably not what was meant.
    Warning,
}

/// One fault of a Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in Docker's words where Docker has words for it. Holds no control characters.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do.
    pub help: Option<String>,
    /// The build check that found it.
    pub rule: Option<Rule>,
}

/// What a parser returns when the text is no Dockerfile: every fault that it found, at least one.
pub type Diagnostics = Vec<Diagnostic>;

impl Diagnostic {
    /// An error. What the message repeats of the text is made printable.
    pub fn error(span: Span, message: impl AsRef<str>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: printable(message.as_ref(), usize::MAX),
            span,
            help: None,
            rule: None,
        }
    }

    /// A warning of a build check.
    pub fn warning(rule: Rule, span: Span, message: impl AsRef<str>) -> Self {
        Diagnostic {
            severity: Severity::Warning,
            message: printable(message.as_ref(), usize::MAX),
            span,
            help: None,
            rule: Some(rule),
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl AsRef<str>) -> Self {
        self.help = Some(printable(help.as_ref(), usize::MAX));
        self
    }

    /// As Docker tells it, and beneath it the lines of the source with marks.
    pub fn with_place(&self, file: &str, source: &str) -> String {
        self.with_lines(self.to_string(), file, source)
    }

    /// Something else that is said of this place, and beneath it the lines of the source with marks.
    pub fn with_lines(&self, said: String, file: &str, source: &str) -> String {
        let shown = Diagnostic {
            message: String::new(),
            rule: None,
            ..self.clone()
        };
        let shown = shown.render(file, source, false);
        // Its first line would be what is said already.
        let lines = shown.split_once('\n').map_or(shown.as_str(), |(_, lines)| lines);
        format!("{said}\n{lines}")
    }

    /// As a compiler shows it: what is wrong, the file, line and column, the lines of the source, and marks beneath.
    /// `source` is the text that was parsed.
    pub fn render(&self, file: &str, source: &str, colors: bool) -> String {
        let (level, title) = match (self.severity, self.rule) {
            (Severity::Error, _) => (Level::ERROR, self.message.clone()),
            (Severity::Warning, None) => (Level::WARNING, self.message.clone()),
            (Severity::Warning, Some(rule)) => (Level::WARNING, format!("{}: {}", rule.name(), self.message)),
        };
        let file = printable(file, MAX_QUOTED);
        let shown = Excerpt::of(source, self.span);
        let snippet = Snippet::source(shown.text)
            .line_start(shown.line)
            .path(file)
            .annotation(AnnotationKind::Primary.span(shown.start..shown.end));
        let mut group = level.primary_title(title).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        if let Some(rule) = self.rule {
            group = group.element(Level::NOTE.message(rule.url()));
        }
        let renderer = match colors {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        renderer.render(&[group])
    }
}

/// The line of an error as Docker says it, and of a warning as `docker build` does.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.span.start.line;
        match self.rule {
            Some(rule) => write!(f, "{}: {} (line {line})", rule.name(), self.message),
            None => write!(f, "dockerfile parse error on line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The lines that a diagnostic shows.
struct Excerpt<'a> {
    text: &'a str,
    line: usize,
    start: usize,
    end: usize,
}

impl<'a> Excerpt<'a> {
    fn of(source: &'a str, span: Span) -> Self {
        let at = |offset: usize| floor(source, offset.min(source.len()));
        let (start, end) = (at(span.start.offset), at(span.end.offset.max(span.start.offset)));
        let before = &source[..start];
        let from = before.rfind('\n').map_or(0, |at| at + 1);
        let from = from.max(floor(source, start.saturating_sub(MAX_SHOWN / 2)));
        let rest = &source[from..];
        let length = rest
            .match_indices('\n')
            .map(|(at, _)| at)
            .find(|at| from + at >= end)
            .unwrap_or(rest.len());
        let many = rest
            .match_indices('\n')
            .nth(MAX_LINES - 1)
            .map_or(rest.len(), |(at, _)| at);
        let to = from + floor(rest, length.min(many).min(MAX_SHOWN));
        Excerpt {
            text: &source[from..to],
            line: span.start.line,
            start: start - from,
            // An empty span is shown as one mark, also behind the end.
            end: end.min(to).max(start).saturating_sub(from),
        }
    }
}

/// The greatest boundary of a character that is not behind `offset`.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The text of others for a message: no control characters, and not without end.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count >= most {
            shown.push('…');
            break;
        }
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// The text of others in a message, shortened.
pub(crate) fn quoted(text: &str) -> String {
    printable(text, MAX_QUOTED)
}

/// The one of the names that was probably meant.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are quadratic in the length.
    if written.len() > MAX_COMPARED {
        return None;
    }
    let folded = written.to_ascii_lowercase();
    let most = match folded.chars().count() {
        0..4 => 1,
        4..6 => 2,
        _ => 3,
    };
    let distance = |name: &str| strsim::damerau_levenshtein(&folded, &name.to_ascii_lowercase());
    let is_near = |name: &&str| name.len().abs_diff(written.len()) <= most && *name != written;
    let found = names
        .into_iter()
        .filter(is_near)
        .take(MAX_CANDIDATES)
        .map(|name| (distance(name), name));
    let nearest = found.min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= most).then_some(nearest.1)
}

/// ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}
