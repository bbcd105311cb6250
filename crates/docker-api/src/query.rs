//! Query parameters, read with Docker's rules.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::error::ApiError;
use crate::filters::Filters;

/// The query of a request. The first of several values with one name counts, as in Go's
/// `FormValue`, where not all are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(HashMap<String, Vec<String>>);

impl Params {
    /// The value of a parameter; `None` when it is missing or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name)
            .first()
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter, in their order.
    pub(crate) fn texts(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// A flag: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A flag with a default for when the parameter is not there at all.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        let Some(value) = self.texts(name).first() else {
            return default;
        };
        let value = value.trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                ApiError::bad_request(format!("invalid value `{value}` of the query parameter `{name}`"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// A point in time, as seconds since 1970 with up to nine decimals, in nanoseconds since 1970.
    pub(crate) fn timestamp(&self, name: &str) -> Result<Option<i128>, ApiError> {
        let parse = |value| {
            parse_timestamp(value).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid value `{value}` of the query parameter `{name}`: seconds since 1970 are expected, \
                     such as 1136073600.000000001"
                ))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// The image's name in `repo` and `tag`, if there is one.
    pub(crate) fn image_name(&self) -> Option<String> {
        let repository = self.text("repo")?;
        Some(match self.text("tag") {
            Some(tag) => format!("{repository}:{tag}"),
            None => repository.to_owned(),
        })
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        Filters::parse(self.text("filters").unwrap_or_default())
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_or(Vec::new(), |Query(p)| p);
        let mut params: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in pairs {
            params.entry(name).or_default().push(value);
        }
        Ok(Self(params))
    }
}

/// Reads `seconds[.fraction]` as nanoseconds.
fn parse_timestamp(text: &str) -> Option<i128> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = i128::from(seconds.parse::<i64>().ok()?) * 1_000_000_000;
    if fraction.is_empty() {
        return Some(whole);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(if seconds.starts_with('-') {
        whole - nanoseconds
    } else {
        whole + nanoseconds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()]))
                .collect(),
        )
    }

    #[test]
    fn flags_follow_dockers_rule() {
        let params = params(&[
            ("a", "1"),
            ("b", "True"),
            ("c", "anything"),
            ("d", "0"),
            ("e", "False"),
            ("f", "none"),
            ("g", ""),
        ]);
        for name in ["a", "b", "c"] {
            assert!(params.flag(name), "{name}");
        }
        for name in ["d", "e", "f", "g", "missing"] {
            assert!(!params.flag(name), "{name}");
        }
        assert!(params.flag_or("missing", true));
        assert!(!params.flag_or("d", true));
    }

    #[test]
    fn numbers_that_are_none_are_refused_by_name() {
        let params = params(&[("t", "10"), ("h", "ten")]);
        assert_eq!(params.number::<i64>("t").unwrap(), Some(10));
        assert_eq!(params.number::<i64>("w").unwrap(), None);
        let error = params.number::<i64>("h").unwrap_err();
        assert!(
            error.message().contains("`ten`") && error.message().contains("`h`"),
            "{}",
            error.message()
        );
    }

    #[test]
    fn timestamps_keep_their_nanoseconds() {
        assert_eq!(
            parse_timestamp("1136073600.000000001"),
            Some(1_136_073_600_000_000_001)
        );
        assert_eq!(parse_timestamp("12"), Some(12_000_000_000));
        assert_eq!(parse_timestamp("12.5"), Some(12_500_000_000));
        assert_eq!(parse_timestamp("-1.5"), Some(-1_500_000_000));
    }

    #[test]
    fn timestamps_of_another_form_are_refused() {
        for text in [
            "",
            "yesterday",
            "1.0000000001",
            "1.-5",
            "10m",
            "99999999999999999999",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
