//! Lines of the text, and the lines that continue each other put together.

use crate::position::{Places, Span, Word};

/// What Docker takes as a space between words of an instruction.
pub(crate) const SPACES: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Reads a text line by line.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// One line.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// Without what ends it.
    pub(super) text: &'a str,
    /// With it.
    pub(super) whole: &'a str,
    /// Where it begins.
    pub(super) start: usize,
}

/// What stands on one line, or on several that continue each other.
pub(super) struct Logical {
    /// The lines without what joins them.
    pub(super) text: String,
    /// Of each line, where it stands in `text` and in the source.
    pieces: Vec<(usize, usize)>,
    /// An empty line among them: where.
    pub(super) empty: Option<(usize, usize)>,
}

/// A part of a logical line.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Where it begins in the logical line.
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Reader { text, at }
    }

    /// Where the next line begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn line(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (whole, start) = (&rest[..end], self.at);
        self.at += end;
        Some(Line {
            text: whole.trim_end_matches(['\r', '\n']),
            whole,
            start,
        })
    }

    /// The line and those that continue it.
    pub(super) fn logical(&mut self, first: Line<'a>, escape: char) -> Logical {
        let mut logical = Logical {
            text: String::new(),
            pieces: Vec::new(),
            empty: None,
        };
        let content = first.text.trim_start();
        let mut goes_on = logical.push(content, first.start + first.text.len() - content.len(), escape);
        while goes_on {
            let Some(line) = self.line() else { break };
            let content = line.text.trim_start();
            if content.starts_with('#') {
                continue;
            }
            if content.is_empty() {
                logical
                    .empty
                    .get_or_insert((line.start, line.start + line.text.len()));
                continue;
            }
            goes_on = logical.push(line.text, line.start, escape);
        }
        logical
    }
}

/// The line without the escape character that says that another one continues it. An escape in front of it takes its
/// meaning away, as Docker sees it: `\\\` does not continue either.
pub(crate) fn continued(line: &str, escape: char) -> Option<&str> {
    let part = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!part.ends_with(escape)).then_some(part)
}

impl Logical {
    fn push(&mut self, line: &str, at: usize, escape: char) -> bool {
        let part = continued(line, escape);
        self.pieces.push((self.text.len(), at));
        self.text.push_str(part.unwrap_or(line));
        part.is_some()
    }

    pub(super) fn whole(&self) -> Piece<'_> {
        Piece {
            text: &self.text,
            at: 0,
        }
    }

    /// Where a byte of the text stands in the source.
    fn source(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|(from, _)| *from <= at);
        let (from, source) = self
            .pieces
            .get(next.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        source + at.saturating_sub(from)
    }

    pub(super) fn span(&self, places: &Places<'_>, start: usize, end: usize) -> Span {
        let from = self.source(start);
        // Behind its last byte: what follows may stand on the next line.
        let to = match end > start {
            true => self.source(end - 1) + 1,
            false => from,
        };
        places.span(from, to)
    }
}

impl<'a> Piece<'a> {
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// From a byte of it to its end.
    pub(super) fn from(&self, at: usize) -> Piece<'a> {
        Piece {
            text: &self.text[at..],
            at: self.at + at,
        }
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> Piece<'a> {
        Piece {
            text: &self.text[start..end],
            at: self.at + start,
        }
    }

    pub(super) fn trim(&self) -> Piece<'a> {
        let start = self.text.len() - self.text.trim_start().len();
        self.slice(start, start + self.text.trim().len())
    }

    /// What stands in front of the first space, and what behind it.
    pub(super) fn split(&self) -> (Piece<'a>, Option<Piece<'a>>) {
        let Some(end) = self.text.find(SPACES) else {
            return (*self, None);
        };
        let rest = self.from(end);
        let skipped = rest.text.len() - rest.text.trim_start_matches(SPACES).len();
        (self.slice(0, end), Some(rest.from(skipped)))
    }

    pub(super) fn word(&self, logical: &Logical, places: &Places<'_>) -> Word {
        Word::new(self.text.to_owned(), logical.span(places, self.at, self.end()))
    }
}
