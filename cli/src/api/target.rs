//! Paths and queries of the Docker Engine API.

use std::fmt;

use form_urlencoded::byte_serialize;
use hyper::Uri;

/// The version every path names. A daemon answers an old version for as long as it can, so
/// naming one spares each command the round trip that negotiates it.
pub(crate) const API_VERSION: &str = "1.51";

/// Path and query of one request, encoded.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// `/v1.51/SEGMENT/SEGMENT...`; a segment may hold any character, a name from the user too.
    pub(crate) fn new(segments: &[&str]) -> Self {
        let mut text = format!("/v{API_VERSION}");
        for segment in segments {
            text.push('/');
            // In a path a space is %20, never the + of a form.
            for part in byte_serialize(segment.as_bytes()) {
                text.push_str(if part == "+" { "%20" } else { part });
            }
        }
        Self {
            text,
            has_query: false,
        }
    }

    /// Adds `name=value`.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.text.extend(byte_serialize(value.as_bytes()));
        self
    }

    /// Adds `name=1` when `on`.
    pub(crate) fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds `name=value` when there is one.
    pub(crate) fn option(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// As hyper wants it. The text is ASCII of an encoder's making, so it always parses; a path
    /// that did not would be refused by the daemon as `/`.
    pub(super) fn uri(&self) -> Uri {
        self.text.parse().unwrap_or_default()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_stays_one_segment() {
        let target = Target::new(&["containers", "a/b c?d", "json"]);
        assert_eq!(target.to_string(), "/v1.51/containers/a%2Fb%20c%3Fd/json");
    }

    #[test]
    fn queries_are_joined_and_encoded() {
        let target = Target::new(&["containers", "json"])
            .flag("all", true)
            .flag("size", false)
            .option("limit", None)
            .query("filters", r#"{"a":["b"]}"#);
        assert_eq!(
            target.to_string(),
            "/v1.51/containers/json?all=1&filters=%7B%22a%22%3A%5B%22b%22%5D%7D"
        );
    }
}
