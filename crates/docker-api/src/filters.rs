//! The `filters` parameter of lists.
//!
//! JSON in one of two shapes: `{"status": ["running"]}`, or, as the docker CLI writes it,
//! `{"status": {"running": true}}`.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::ApiError;

/// Filter names and the values each must match. Values of one name are alternatives, names add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(HashMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(HashMap<String, bool>),
}

impl Filters {
    /// Reads the parameter; empty text is no filter.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let filters: HashMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::bad_request(format!("invalid filters `{text}`: {error}")))?;
        let values = |values| match values {
            Values::List(list) => list,
            Values::Set(set) => set
                .into_iter()
                .filter_map(|(value, on)| on.then_some(value))
                .collect(),
        };
        Ok(Self(
            filters.into_iter().map(|(name, v)| (name, values(v))).collect(),
        ))
    }

    /// Refuses a filter that is not one of `known`.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::bad_request(format!("invalid filter '{name}'"))),
            None => Ok(self),
        }
    }

    /// The values of a filter; empty when it was not given.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a filter was not given, or `matches` holds for one of its values.
    pub(crate) fn any(&self, name: &str, matches: impl FnMut(&String) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(matches)
    }

    /// Whether `matches` holds for every value of a filter.
    pub(crate) fn all(&self, name: &str, matches: impl FnMut(&String) -> bool) -> bool {
        self.values(name).iter().all(matches)
    }

    /// A filter that is yes or no; `None` when it was not given.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let flag = |value: &String| match value.as_str() {
            "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
            "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(false),
            _ => Err(ApiError::bad_request(format!(
                "invalid filter '{name}=[{value}]'"
            ))),
        };
        match self.values(name) {
            [] => Ok(None),
            [value] => flag(value).map(Some),
            values => Err(ApiError::bad_request(format!(
                "invalid filter '{name}={values:?}'"
            ))),
        }
    }
}

/// Whether `labels` has what a label filter asks for: `name`, or `name=value`.
pub(crate) fn label_matches<'a>(wanted: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => label(name) == Some(value),
        None => label(wanted).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_read_the_same() {
        let old = Filters::parse(r#"{"status":["running"]}"#).unwrap();
        let new = Filters::parse(r#"{"status":{"running":true,"paused":false}}"#).unwrap();
        assert_eq!(old, new);
        assert_eq!(new.values("status"), ["running"]);
    }

    #[test]
    fn no_filter_matches_everything() {
        let none = Filters::parse("").unwrap();
        assert!(none.any("name", |_| false));
        assert!(none.all("label", |_| false));
    }

    #[test]
    fn values_of_a_name_are_alternatives() {
        let filters = Filters::parse(r#"{"name":["a","b"]}"#).unwrap();
        assert!(filters.any("name", |value| value == "b"));
        assert!(!filters.any("name", |value| value == "c"));
    }

    #[test]
    fn a_flag_is_yes_or_no() {
        let flag = |values: &str| {
            Filters::parse(&format!(r#"{{"dangling":{values}}}"#))
                .unwrap()
                .flag("dangling")
        };
        assert_eq!(flag("[]").unwrap(), None);
        assert_eq!(flag(r#"["1"]"#).unwrap(), Some(true));
        assert_eq!(flag(r#"["false"]"#).unwrap(), Some(false));
        assert!(flag(r#"["maybe"]"#).is_err() && flag(r#"["1","0"]"#).is_err());
    }

    #[test]
    fn an_unknown_filter_is_refused_by_name() {
        let filters = Filters::parse(r#"{"colour":["red"]}"#).unwrap();
        let error = filters.only(&["name", "status"]).unwrap_err();
        assert_eq!(error.message(), "invalid filter 'colour'");
    }

    #[test]
    fn filters_that_are_no_filters_are_refused() {
        for text in ["[", "[]", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#] {
            assert!(Filters::parse(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Filters::parse(&deep).is_err());
    }

    #[test]
    fn a_label_filter_asks_for_a_name_or_a_value() {
        let label = |name: &str| (name == "tier").then_some("web");
        assert!(label_matches("tier", label));
        assert!(label_matches("tier=web", label));
        assert!(!label_matches("tier=db", label));
        assert!(!label_matches("other", label));
    }
}
