//! Names, and patterns of names.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest label of a name, and the longest name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;

/// What names a destination has. In lower case, and without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// Any name.
    Any,
    /// This one.
    Name(String),
    /// Those with one or more labels before this one, but not this one itself.
    Below(String),
}

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NamePatternError {
    /// It has characters that no name has.
    #[error(
        "a name has letters, digits, '-', '_' and '.', and other alphabets in their ASCII form (xn--...)"
    )]
    Characters,
    /// The wildcard stands somewhere else.
    #[error("'*' stands only for whole labels at the beginning of a name, as in '*.example.org'")]
    Wildcard,
    /// A part between dots is empty or too long.
    #[error(
        "the parts of a name between its dots have 1 to {MAX_LABEL} characters, all of it has at most {MAX_NAME}"
    )]
    Length,
    /// It can only be meant as an address.
    #[error("that is neither a name nor a whole IP address: the last part of a name is no number")]
    Number,
}

impl NamePattern {
    /// Whether a name is one of these; it is written as by [`Names`](crate::dns::Names).
    pub fn matches(&self, name: &str) -> bool {
        // A dot within a label is escaped there: such a name is in another zone than it looks.
        if name.contains('\\') {
            return false;
        }
        match self {
            Self::Any => true,
            Self::Name(this) => this == name,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(parent) => name(parent).map(Self::Below),
            None => name(text).map(Self::Name),
        }
    }
}

fn name(text: &str) -> Result<String, NamePatternError> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.contains('*') {
        return Err(NamePatternError::Wildcard);
    }
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(is_good) {
        return Err(NamePatternError::Characters);
    }
    let is_label = |label: &str| (1..=MAX_LABEL).contains(&label.len());
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(NamePatternError::Length);
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err(NamePatternError::Number),
        false => Ok(name),
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => to.write_str("*"),
            Self::Name(name) => to.write_str(name),
            Self::Below(parent) => write!(to, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().matches(name)
    }

    #[test]
    fn a_pattern_is_of_whole_labels() {
        assert!(matches("Deb.Debian.org.", "deb.debian.org"));
        assert!(!matches("debian.org", "deb.debian.org"));
        assert!(!matches("debian.org", "xdebian.org"));
        for name in ["a.crates.io", "a.b.crates.io", "_x.crates.io"] {
            assert!(matches("*.crates.io", name), "{name}");
        }
        for name in [
            "crates.io",
            ".crates.io",
            "evilcrates.io",
            "crates.io.evil",
            "io",
            "",
        ] {
            assert!(!matches("*.crates.io", name), "{name}");
        }
        assert!(matches("*", "any.name") && matches("*", "1.0.0.127.in-addr.arpa"));
    }

    #[test]
    fn a_dot_within_a_label_is_none_between_labels() {
        assert!(!matches("*.crates.io", "evil\\.crates.io"));
        assert!(!matches("*.io", "a\\.b.io"));
        assert!(!matches("*", "a\\032b.io"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let refusal = |text: &str| text.parse::<NamePattern>().unwrap_err();
        for text in ["a.*.org", "*.*.org", "a*.org", "**"] {
            assert_eq!(refusal(text), NamePatternError::Wildcard, "{text}");
        }
        for text in ["ü.org", "a b", "a/b", "a\\.b", "a:b"] {
            assert_eq!(refusal(text), NamePatternError::Characters, "{text}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for text in ["", ".", "*.", "a..b", ".a", long.as_str()] {
            assert_eq!(refusal(text), NamePatternError::Length, "{text}");
        }
        for text in ["10.0.0", "10.0.0.300", "1", "*.1"] {
            assert_eq!(refusal(text), NamePatternError::Number, "{text}");
        }
    }
}
