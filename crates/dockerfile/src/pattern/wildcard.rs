//! Wildcards in the sources of `COPY` and `ADD`.

use super::glob::{self, Token};
use regex::Regex;
use thiserror::Error;

/// How `**` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wildcard {
    /// As `*`: Go's `filepath.Match`, for sources.
    Shallow,
    /// As any number of folders: for sources with `--parents`.
    Deep,
}

/// A pattern of paths.
#[derive(Debug, Clone)]
pub struct PathPattern {
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    Expression(Regex),
}

/// A pattern that is none.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// A class without an end, or an escape of nothing.
    #[error("syntax error in pattern: \"{0}\"")]
    Syntax(String),
    /// A pattern that takes too much memory.
    #[error("the pattern is too long: \"{0}\"")]
    TooLong(String),
}

impl PathPattern {
    /// Reads a pattern: `*` and `?` stand for text without slashes, `[a-z]` and `[^a]` for one character, a backslash takes
    /// the meaning of what follows.
    pub fn new(pattern: &str, wildcard: Wildcard) -> Result<Self, PatternError> {
        let tokens = glob::parse(pattern, wildcard == Wildcard::Deep)?;
        let matcher = match glob::literal(&tokens) {
            Some(text) => Matcher::Exact(text),
            None => Matcher::Expression(glob::compile(pattern, &tokens)?),
        };
        Ok(PathPattern { matcher })
    }

    /// Whether a path, without a slash in front, matches as a whole.
    pub fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(text) => text == path,
            Matcher::Expression(expression) => expression.is_match(path),
        }
    }

    /// The path that it names when it has no wildcards.
    pub fn literal(&self) -> Option<&str> {
        match &self.matcher {
            Matcher::Exact(text) => Some(text),
            Matcher::Expression(_) => None,
        }
    }
}

/// Whether a source is a pattern: whether it holds `*`, `?` or `[` without a backslash in front.
pub fn has_wildcard(source: &str) -> bool {
    match glob::parse(source, false) {
        Ok(tokens) => tokens.iter().any(|token| !matches!(token, Token::Literal(_))),
        // What cannot be read is told to be wrong where it is matched.
        Err(_) => true,
    }
}

/// With `--parents`, what stands in front of `/./` in a source, which is left out at the destination, and what behind it.
pub fn split_pivot(source: &str) -> (&str, &str) {
    let whole = source.strip_prefix("./").unwrap_or(source);
    whole.split_once("/./").unwrap_or(("", whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_match_as_in_go() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[b-a]", "a", false),
            ("a**c", "a/b/c", false),
            ("a.c", "abc", false),
            ("*x", "xxx", true),
        ] {
            let parsed = PathPattern::new(pattern, Wildcard::Shallow).unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} on {path}");
        }
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]",
        ] {
            assert!(PathPattern::new(pattern, Wildcard::Shallow).is_err(), "{pattern}");
        }
    }

    #[test]
    fn two_stars_cross_folders_when_they_may() {
        for (pattern, path, expected) in [
            ("src/**/*.c", "src/a/b/x.c", true),
            ("src/**/*.c", "src/x.c", true),
            ("src/**/*.c", "x.c", false),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("a/**", "a/b/c", true),
            ("a/**", "b/c", false),
        ] {
            let parsed = PathPattern::new(pattern, Wildcard::Deep).unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn wildcards_and_pivots_are_found() {
        assert!(has_wildcard("a*") && has_wildcard("[a]") && has_wildcard("a?"));
        assert!(!has_wildcard("a\\*") && !has_wildcard("a/b"));
        assert_eq!(split_pivot("a/b/./c/d"), ("a/b", "c/d"));
        assert_eq!(split_pivot("./c"), ("", "c"));
        assert_eq!(split_pivot("a/b"), ("", "a/b"));
    }
}
