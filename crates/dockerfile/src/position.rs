//! Where something stands in a Dockerfile.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Default for Position {
    fn default() -> Self {
        Position {
            offset: 0,
            line: 1,
            column: 1,
        }
    }
}

/// A stretch of the text: from its first character to the place behind its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// Behind the last character.
    pub end: Position,
}

/// A value and where it was written. Two are equal when their values are: a tree that was printed and parsed again is
/// the same tree.
#[derive(Clone, Default)]
pub struct Located<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Located<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Located { value, span }
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A word as it was written: variables are not expanded, quotes and escapes are still there.
pub type Word = Located<String>;

/// Finds lines and columns of offsets.
pub(crate) struct Places<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    /// The place that was asked for last: words are asked for in order, and a long line is not counted anew for each.
    last: Cell<Position>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Places {
            text,
            lines,
            last: Cell::default(),
        }
    }

    /// The place of a byte; one within a character is that character's.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let last = self.last.get();
        let (from, column) = match last.line == line && last.offset <= offset {
            true => (last.offset, last.column),
            false => (start, 1),
        };
        let column = column + self.text.get(from..offset).unwrap_or_default().chars().count();
        let position = Position { offset, line, column };
        self.last.set(position);
        position
    }

    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        Span {
            start: self.position(start),
            end: self.position(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let places = Places::new("aé\nß x\n");
        for (offset, line, column) in [
            (0, 1, 1),
            (1, 1, 2),
            (3, 1, 3),
            (4, 2, 1),
            (6, 2, 2),
            (7, 2, 3),
            (9, 3, 1),
        ] {
            let position = places.position(offset);
            assert_eq!((position.line, position.column), (line, column), "at {offset}");
        }
        assert_eq!(places.position(2).offset, 1, "within a character");
        assert_eq!(places.position(99).offset, 9);
        assert_eq!(places.position(1).column, 2, "asked for out of order");
    }
}
