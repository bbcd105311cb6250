//! `.dockerignore`, and the patterns of `--exclude`: the rules of moby's `patternmatcher`.
//!
//! The last pattern that matches a path, or a folder above it, decides; one with `!` takes it in again.

use super::glob::{self, Token};
use super::path::clean;
use super::wildcard::PatternError;
use crate::limits::{MAX_FILE, MAX_PATTERNS};
use regex::Regex;
use thiserror::Error;

/// Which paths are left out.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

/// Patterns that are none.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum IgnoreError {
    /// One of them.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `!` and nothing.
    #[error("illegal exclusion pattern: \"!\"")]
    Empty,
    /// A file without end.
    #[error("the ignore file is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// Patterns without end.
    #[error("more than {MAX_PATTERNS} patterns")]
    TooMany,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Whether it takes in again what others leave out.
    takes_in: bool,
    matcher: Matcher,
    /// The folders in front of its first wildcard; of a pattern without wildcards, all of it.
    literal: Vec<String>,
}

#[derive(Debug, Clone)]
enum Matcher {
    All,
    Exact(String),
    Prefix(String),
    /// `**/x` and `**x`: the text behind the stars
    Suffix(String),
    Expression(Regex),
}

/// What is known in one folder, so that a walk over a tree looks at each pattern once a path.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    ignore: &'a Ignore,
    /// Of each pattern, whether it matches this folder or one above.
    above: Vec<bool>,
    ignored: bool,
}

impl Ignore {
    /// Reads an ignore file: a pattern a line; those that begin with `#` are comments.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        if text.len() > MAX_FILE {
            return Err(IgnoreError::TooLarge);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Reads patterns.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for pattern in patterns {
            let pattern = pattern.trim();
            let (takes_in, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, pattern),
            };
            if pattern.is_empty() {
                if takes_in {
                    return Err(IgnoreError::Empty);
                }
                continue;
            }
            if rules.len() >= MAX_PATTERNS {
                return Err(IgnoreError::TooMany);
            }
            rules.push(Rule::new(takes_in, pattern)?);
        }
        Ok(Ignore { rules })
    }

    /// Takes these paths in whatever the patterns say: a client sends the Dockerfile and the ignore file to the builder all
    /// the same.
    #[must_use]
    pub fn keeping<'a>(mut self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        self.rules.extend(paths.into_iter().map(|path| {
            let path = clean(path);
            Rule {
                takes_in: true,
                literal: path.split('/').map(str::to_owned).collect(),
                matcher: Matcher::Exact(path),
            }
        }));
        self
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path is left out. It has no slash in front, and none behind.
    pub fn matches(&self, path: &str) -> bool {
        let mut walk = self.walk();
        for (at, _) in path.match_indices('/') {
            walk = walk.enter(&path[..at]);
        }
        walk.ignores(path)
    }

    /// Begins a walk at the root.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            ignore: self,
            above: vec![false; self.rules.len()],
            ignored: false,
        }
    }
}

impl Walk<'_> {
    /// Whether a file or folder right in this folder is left out. The path is whole, from the root.
    pub fn ignores(&self, path: &str) -> bool {
        // From the last pattern: the first one found that matches decides.
        let rules = self.ignore.rules.iter().zip(&self.above).rev();
        let found = rules
            .into_iter()
            .find(|(rule, above)| **above || rule.matches(path));
        found.is_some_and(|(rule, _)| !rule.takes_in)
    }

    /// Goes into a folder right in this one. The path is whole, from the root.
    #[must_use]
    pub fn enter(&self, path: &str) -> Self {
        let rules = self.ignore.rules.iter().zip(&self.above);
        let above: Vec<bool> = rules.map(|(rule, above)| *above || rule.matches(path)).collect();
        let last = above.iter().rposition(|matches| *matches);
        Walk {
            ignore: self.ignore,
            ignored: last
                .and_then(|last| self.ignore.rules.get(last))
                .is_some_and(|rule| !rule.takes_in),
            above,
        }
    }

    /// Whether this folder, which is at `path`, and all in it is left out: whether it need not be read.
    pub fn skips_all(&self, path: &str) -> bool {
        let Some(last) = self.above.iter().rposition(|matches| *matches) else {
            return false;
        };
        // A pattern in front of the one that decides is overruled for all that is in here.
        let later = self.ignore.rules.iter().skip(last + 1);
        self.ignored
            && !later
                .into_iter()
                .any(|rule| rule.takes_in && rule.reaches_into(path))
    }
}

impl Rule {
    fn new(takes_in: bool, pattern: &str) -> Result<Self, PatternError> {
        let pattern = clean(pattern);
        // A leading slash means nothing: every pattern begins at the root.
        let pattern = match pattern.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => pattern.as_str(),
        };
        let tokens = glob::parse(pattern, true)?;
        let plain = |part: &str| {
            glob::parse(part, true)
                .ok()
                .and_then(|tokens| glob::literal(&tokens))
        };
        let literal = pattern.split('/').map_while(plain).collect();
        Ok(Rule {
            takes_in,
            matcher: Matcher::new(pattern, &tokens)?,
            literal,
        })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::All => true,
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Matcher::Expression(expression) => expression.is_match(path),
        }
    }

    /// Whether it may match something in a folder. It says yes too often rather than too seldom.
    fn reaches_into(&self, folder: &str) -> bool {
        self.literal
            .iter()
            .zip(folder.split('/'))
            .all(|(pattern, part)| pattern == part)
    }
}

impl Matcher {
    /// As `patternmatcher` does, the commonest patterns need no expression; with these, stars at the beginning and the end
    /// stand for text that need not end at a slash.
    fn new(pattern: &str, tokens: &[Token]) -> Result<Self, PatternError> {
        if let Some(text) = glob::literal(tokens) {
            return Ok(Matcher::Exact(text));
        }
        match tokens {
            [Token::StarStar(_)] => return Ok(Matcher::All),
            [Token::StarStar(slash), rest @ ..] => {
                if let Some(text) = glob::literal(rest) {
                    return Ok(Matcher::Suffix(if *slash { format!("/{text}") } else { text }));
                }
            }
            [rest @ .., Token::StarStar(_)] => {
                if let Some(text) = glob::literal(rest) {
                    return Ok(Matcher::Prefix(text));
                }
            }
            _ => {}
        }
        Ok(Matcher::Expression(glob::compile(pattern, tokens)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_left_out_as_docker_does() {
        for (patterns, path, expected) in [
            (vec!["**"], "file", true),
            (vec!["**"], "dir/file", true),
            (vec!["**/"], "file", true),
            (vec!["**/**"], "dir/file", true),
            (vec!["dir/**"], "dir/file", true),
            (vec!["dir/**"], "dir/sub/file", true),
            (vec!["dir/**"], "file", false),
            (vec!["**/file"], "dir/file", true),
            (vec!["**/file"], "file", true),
            (vec!["**/dir2/*"], "dir/dir2/file", true),
            (vec!["**/dir2/*"], "dir/dir2/sub/file", true),
            (vec!["file*"], "file.txt", true),
            (vec!["*.go"], "dir/x.go", false),
            (vec!["**/*.go"], "dir/x.go", true),
            (vec!["dir"], "dir/deep/file", true),
            (vec!["/dir/"], "dir/file", true),
            (vec!["./dir"], "dir/file", true),
            (vec!["a/../dir"], "dir/file", true),
            (vec!["  dir  "], "dir", true),
            (vec!["dir", "!dir/keep"], "dir/keep", false),
            (vec!["dir", "!dir/keep"], "dir/keep/deep", false),
            (vec!["dir", "!dir/keep"], "dir/other", true),
            (vec!["!dir/keep", "dir"], "dir/keep", true),
            (vec!["*", "!a", "a/b"], "a/b/c", true),
            (vec!["*", "!a", "a/b"], "a/c", false),
            (vec!["foo/bar", "!foo"], "foo/bar", false),
            (vec!["a.c"], "abc", false),
            (vec!["[a-c]x"], "bx", true),
            (vec!["\\*"], "a", false),
            (vec!["**/.foo"], "bar/.foo", true),
            (vec!["**bar"], "foobar", true),
            (vec!["a/**/b/**"], "a/x/y/b/z", true),
            (vec!["."], "a", false),
        ] {
            let ignore = Ignore::new(patterns.iter().copied()).unwrap();
            assert_eq!(ignore.matches(path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn a_file_has_comments_and_a_mark_of_its_encoding() {
        let ignore = Ignore::parse("\u{feff}# no\nx\r\n\n # not a comment\n! y\n").unwrap();
        assert!(ignore.matches("x") && !ignore.matches("y"));
        assert!(ignore.matches("# not a comment"));
        assert!(matches!(Ignore::parse("!"), Err(IgnoreError::Empty)));
        assert!(matches!(Ignore::parse("[a"), Err(IgnoreError::Pattern(_))));
        let many = "a\n".repeat(MAX_PATTERNS + 1);
        assert!(matches!(Ignore::parse(&many), Err(IgnoreError::TooMany)));
    }

    #[test]
    fn a_large_tree_costs_little() {
        let patterns: Vec<String> = (0..50).map(|number| format!("**/*.{number}")).collect();
        let patterns = patterns
            .iter()
            .map(String::as_str)
            .chain(["node_modules", "!**/keep"]);
        let ignore = Ignore::new(patterns).unwrap().keeping(["Dockerfile"]);
        let start = std::time::Instant::now();
        let mut left_out = 0;
        for folder in 0..100 {
            let name = format!("folder{folder}");
            let walk = ignore.walk().enter(&name);
            left_out += (0..1000)
                .filter(|file| walk.ignores(&format!("{name}/file.{file}")))
                .count();
        }
        assert_eq!(left_out, 100 * 50);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
        assert!(!ignore.matches("Dockerfile"));
        // A pattern that would take years with backtracking.
        let hostile = Ignore::new([format!("{}b", "a*".repeat(100)).as_str()]).unwrap();
        assert!(!hostile.matches(&"a".repeat(10_000)));
    }

    #[test]
    fn a_folder_is_skipped_when_nothing_in_it_is_taken_in_again() {
        for (patterns, folder, expected) in [
            (vec!["node_modules"], "node_modules", true),
            (vec!["node_modules"], "src", false),
            (vec!["a", "!a/b"], "a", false),
            (vec!["a", "!b"], "a", true),
            (vec!["a", "!**/b"], "a", false),
            (vec!["!a/b", "a"], "a", true),
            (vec!["*", "!src"], "lib", true),
            (vec!["*", "!src"], "src", false),
            (vec!["a", "!a/x/y"], "a/z", true),
            (vec!["a", "!a/x/y"], "a/x", false),
        ] {
            let ignore = Ignore::new(patterns.iter().copied()).unwrap();
            let mut walk = ignore.walk();
            for (at, _) in folder.match_indices('/') {
                walk = walk.enter(&folder[..at]);
            }
            assert_eq!(
                walk.enter(folder).skips_all(folder),
                expected,
                "{patterns:?} on {folder}"
            );
        }
    }

    proptest! {
        /// What a walk would not read, no path in it would be taken from.
        #[test]
        fn what_is_skipped_is_left_out(
            patterns in proptest::collection::vec("!?(\\*{1,2}/)?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 1..6),
            folder in "[ab]{1,2}(/[ab]{1,2}){0,2}",
            inside in "[ab]{1,2}(/[ab]{1,2}){0,2}",
        ) {
            let ignore = Ignore::new(patterns.iter().map(String::as_str)).unwrap();
            let mut walk = ignore.walk();
            for (at, _) in folder.match_indices('/') {
                walk = walk.enter(&folder[..at]);
            }
            if walk.enter(&folder).skips_all(&folder) {
                let path = format!("{folder}/{inside}");
                prop_assert!(ignore.matches(&path));
            }
        }
    }
}
