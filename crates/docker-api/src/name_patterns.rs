//! The `name` filter of lists: regular expressions for a part of a name.
//!
//! A short expression may stand for a large automaton, and a list of filters for many: both are bounded, as they are made while
//! everybody waits.

use regex::{Error, Regex, RegexBuilder};

use crate::error::ApiError;
use crate::filters::Filters;

/// How many names may be asked for at once.
const MOST: usize = 32;
/// The memory that one expression may take, in bytes: a dozen of any of Unicode's letters have room.
const MOST_BYTES: usize = 768 << 10;

/// The expressions of the filter. What is none stands for the name that it is.
pub(crate) fn read(filters: &Filters) -> Result<Vec<Regex>, ApiError> {
    let names = filters.values("name");
    if names.len() > MOST {
        let message = format!(
            "invalid filter 'name': {} names are more than {MOST}",
            names.len()
        );
        return Err(ApiError::bad_request(message));
    }
    names.iter().map(|name| pattern(name)).collect()
}

fn pattern(name: &str) -> Result<Regex, ApiError> {
    let built = build(name).or_else(|error| match error {
        Error::Syntax(_) => build(&format!("^{}$", regex::escape(name))),
        error => Err(error),
    });
    built.map_err(|error| {
        let shown: String = name.chars().take(64).collect();
        ApiError::bad_request(format!("invalid filter 'name={shown}': {error}"))
    })
}

fn build(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(expression)
        .size_limit(MOST_BYTES)
        .dfa_size_limit(MOST_BYTES)
        .build()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> Result<Vec<Regex>, ApiError> {
        read(&Filters::parse(&json!({ "name": names }).to_string()).unwrap())
    }

    #[test]
    fn a_name_is_an_expression_for_a_part_or_itself() {
        let any = |wanted: &str, name: &str| names(&[wanted]).unwrap().iter().any(|one| one.is_match(name));
        assert!(
            any("at", "data") && any("^da", "data") && any("da(", "da(") && any(r"^\w{12}$", "abcdefghijkl")
        );
        assert!(!any("^at", "data") && !any("da(", "data") && !any("(", "a("));
    }

    #[test]
    fn expressions_that_would_take_much_memory_are_refused() {
        for large in ["a{1000}{50}", r"\w{1000}", "((a{100}){100}){100}"] {
            let error = names(&["x", large]).unwrap_err();
            assert!(error.message().contains(large), "{}", error.message());
        }
        assert!(names(&["x"; MOST]).is_ok());
        let error = names(&["x"; MOST + 1]).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid filter 'name': 33 names are more than 32"
        );
    }
}
