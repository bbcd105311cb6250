//! What a registry wants to see: its `WWW-Authenticate` headers (RFC 9110, section 11.6.1).

use http_auth::ChallengeRef;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Bytes of one header that are looked at, and headers.
const MAX_HEADER: usize = 16 << 10;
const MAX_HEADERS: usize = 8;

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Nothing, or nothing that can be given.
    None,
    /// A user and a password.
    Basic,
    /// A token that another server gives out (distribution specification, "Token Authentication").
    Bearer {
        /// The token server.
        realm: Url,
        /// The name of the registry for the token server.
        service: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in an answer: a token before a password. What cannot be read counts as
    /// not there: the registry's refusal will be told.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().take(MAX_HEADERS);
        let texts = values.filter_map(|value| value.to_str().ok());
        texts
            .map(Self::parse)
            .max_by_key(Self::strength)
            .unwrap_or(Self::None)
    }

    pub(crate) fn parse(header: &str) -> Self {
        if header.len() > MAX_HEADER {
            return Self::None;
        }
        let challenges = http_auth::parse_challenges(header).unwrap_or_default();
        let known = challenges.iter().filter_map(Self::read);
        known.max_by_key(Self::strength).unwrap_or(Self::None)
    }

    fn strength(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Basic => 1,
            Self::Bearer { .. } => 2,
        }
    }

    fn read(challenge: &ChallengeRef<'_>) -> Option<Self> {
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameter = |name: &str| {
            let mut parameters = challenge.params.iter();
            let found = parameters.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm: Url = parameter("realm")?.parse().ok()?;
        if !matches!(realm.scheme(), "http" | "https")
            || !realm.username().is_empty()
            || realm.password().is_some()
        {
            return None;
        }
        Some(Self::Bearer {
            realm,
            service: parameter("service"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(String::from),
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"bearer Realm="http://localhost:1/t?x=1", scope="a:b,c""#,
                bearer("http://localhost:1/t?x=1", None),
            ),
            (r#"Basic realm="Registry""#, Challenge::Basic),
            (
                r#"Basic realm="x", Bearer realm="https://a/t""#,
                bearer("https://a/t", None),
            ),
            (r#"Negotiate, Basic realm="x""#, Challenge::Basic),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn what_cannot_be_used_counts_as_not_there() {
        for header in [
            "",
            ",,,",
            "Bearer",
            r#"Bearer service="x""#,
            r#"Bearer realm="/token""#,
            r#"Bearer realm="file:///etc/passwd""#,
            r#"Bearer realm="https://user:pw@host/""#,
            r#"Bearer realm="https://a"#,
            "Digest realm=\"x\"",
        ] {
            assert_eq!(Challenge::parse(header), Challenge::None, "{header}");
        }
        let endless = format!("Bearer realm=\"https://a/{}\"", "x".repeat(MAX_HEADER));
        assert_eq!(Challenge::parse(&endless), Challenge::None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(header in ".{0,200}") {
            let _ = Challenge::parse(&header);
        }

        #[test]
        fn a_realm_and_a_service_survive_quoting(path in "[a-z0-9/._-]{0,20}", service in "[ -~]{0,20}") {
            let quoted = service.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"https://auth.example/{path}\",service=\"{quoted}\"");
            let expected = bearer(&format!("https://auth.example/{path}"), Some(&service));
            prop_assert_eq!(Challenge::parse(&header), expected);
        }

        #[test]
        fn a_realm_is_always_a_url_with_a_host(header in "(Bearer|Basic) realm=\"(http|https|ftp)?(:|/|[a-z@]){0,20}\"") {
            if let Challenge::Bearer { realm, .. } = Challenge::parse(&header) {
                prop_assert!(realm.host_str().is_some());
            }
        }
    }
}
