//! Expansion: variables, quotes and escapes of a word, as BuildKit's shell lexer treats them.

mod lexer;
mod pattern;

use crate::limits::{MAX_BUILD_WORK, MAX_EXPANSION, MAX_EXPANSION_WORK, MAX_NESTING};
use std::collections::BTreeSet;
use thiserror::Error;

/// Expands words with the variables that a function knows.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    escape: char,
    raw: bool,
    keep_unset: bool,
    literal_quotes: bool,
}

/// What became of a word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The words of the text: split at spaces that stood in no quotes and behind no escape.
    pub words: Vec<String>,
    /// Names of variables that were used.
    pub used: BTreeSet<String>,
    /// Names of variables that were used and have no value.
    pub undefined: BTreeSet<String>,
    /// What it cost, in bytes that were read, written and searched.
    pub work: usize,
}

/// A word that cannot be expanded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ExpansionError {
    /// A quote or brace that nothing closes.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(String),
    /// `${` without `}`.
    #[error("syntax error: missing '{0}'")]
    Missing(&'static str),
    /// `${}`, `${:…}`, `${{…}`
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${X…}` with something unknown behind the name
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A pattern that is none.
    #[error("invalid pattern ({pattern}) in substitution: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// `${X:?message}` of a variable without a value
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it, or that it is unset or empty.
        message: String,
    },
    /// `${X:-${Y:-…}}` without end
    #[error("substitutions are nested more than {MAX_NESTING} times: set a variable to the inner part first")]
    TooDeep,
    /// The text grows without end.
    #[error("the expanded text is longer than {MAX_EXPANSION} bytes")]
    TooLong,
    /// Patterns search too much text.
    #[error("the expansion searches and copies more than {MAX_EXPANSION_WORK} bytes")]
    TooMuchWork,
    /// All expansions together search too much text.
    #[error("all expansions of the build search and copy more than {MAX_BUILD_WORK} bytes")]
    BuildWork,
}

impl<'a> Expander<'a> {
    /// Expands with what `lookup` says of a variable. `escape` is the Dockerfile's escape character.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Expander {
            lookup,
            escape,
            raw: false,
            keep_unset: false,
            literal_quotes: false,
        }
    }

    /// Quotes stand for themselves: the content of a here-document.
    #[must_use]
    pub fn literal_quotes(mut self) -> Self {
        self.literal_quotes = true;
        self
    }

    /// Quotes and escapes have their meaning, but stay.
    #[must_use]
    pub(crate) fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Variables without a value stay as they are written.
    #[must_use]
    pub(crate) fn keep_unset(mut self) -> Self {
        self.keep_unset = true;
        self
    }

    /// Expands a text.
    pub fn expand(&self, text: &str) -> Result<Expansion, ExpansionError> {
        lexer::Lexer::new(self, text).run()
    }
}
