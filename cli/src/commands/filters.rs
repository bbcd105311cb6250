//! `--filter name=value`, as the API wants it: a map of lists, in JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A filter that is none.
#[derive(Debug, Error)]
#[error("invalid filter '{0}' (write name=value, as in status=exited)")]
pub(crate) struct FilterError(String);

/// One `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    name: String,
    value: String,
}

impl Filter {
    /// The filter that a name on the command line of `images` stands for.
    pub(super) fn reference(name: String) -> Self {
        Self {
            name: "reference".to_owned(),
            value: name,
        }
    }

    /// Whether it is about a thing's age.
    pub(super) fn is_age(&self) -> bool {
        self.name == "until"
    }

    /// The filter by which `volume prune` says that volumes with names are meant, too.
    pub(super) fn all() -> Self {
        Self {
            name: "all".to_owned(),
            value: "1".to_owned(),
        }
    }

    /// The filter by which `prune` says whether only images without a name are meant.
    pub(super) fn dangling(only: bool) -> Self {
        Self {
            name: "dangling".to_owned(),
            value: only.to_string(),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or_else(|| FilterError(text.to_owned()))?;
        Ok(Self {
            name: name.trim().to_lowercase(),
            value: value.trim().to_owned(),
        })
    }
}

/// The `filters` parameter; nothing without filters.
pub(super) fn parameter(filters: &[Filter]) -> Option<String> {
    if filters.is_empty() {
        return None;
    }
    let mut lists: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for filter in filters {
        lists.entry(&filter.name).or_default().push(&filter.value);
    }
    serde_json::to_string(&lists).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_name_become_one_list() {
        let filters: Vec<Filter> = ["status=exited", "label=a=b", "Status = running"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(
            parameter(&filters).as_deref(),
            Some(r#"{"label":["a=b"],"status":["exited","running"]}"#)
        );
        assert_eq!(parameter(&[]), None);
    }

    #[test]
    fn a_filter_without_value_is_refused() {
        assert!("running".parse::<Filter>().is_err());
    }
}
