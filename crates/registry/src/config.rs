//! How registries are reached: what the daemon's configuration says.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use oci_spec::image::Digest;
use reqwest::Url;

use crate::host::{Host, InsecureHost};

/// An argument or a setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not `HOST[:PORT]`.
    #[error("{0:?} is no registry's name; it must be HOST or HOST:PORT, such as registry.example:5000")]
    Host(String),
    /// Not a repository's name (OCI distribution specification, "Pulling manifests").
    #[error(
        "{0:?} is no repository's name; it must be lower case letters, digits, and separators, such as library/debian"
    )]
    Repository(String),
    /// Not a tag.
    #[error("{0:?} is no tag; it must be at most 128 letters, digits, dots, hyphens and underscores")]
    Tag(String),
    /// A digest that cannot be verified.
    #[error("the digest {0} is of a kind that cannot be verified; sha256, sha384 and sha512 can")]
    Digest(Digest),
    /// Not the URL of something that can be downloaded; a password in it is not repeated.
    #[error("{0:?} cannot be downloaded; it must be a URL with http:// or https:// and a host in front")]
    Download(String),
    /// Not a mirror's URL.
    #[error(
        "{0:?} is no mirror; it must be http:// or https://, a host and perhaps a port, and nothing else"
    )]
    Mirror(String),
    /// Not a proxy's URL; the URL is not repeated because it may hold a password.
    #[error("the proxy in {variable} cannot be used; it must be like http://proxy.example:3128")]
    Proxy {
        /// The variable of the environment.
        variable: &'static str,
    },
    /// The TLS or HTTP machinery could not be set up.
    #[error("the HTTP client could not be set up: {0}")]
    Client(String),
}

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Folders with a folder `HOST[:PORT]` for each registry with certificates of its own: `*.crt` are CAs,
    /// `NAME.cert` with `NAME.key` is a client certificate. Every folder that is there counts.
    pub certs_dirs: Vec<PathBuf>,
    /// Registries for which HTTPS without verification and plain HTTP will do. Loopback always does, unless
    /// it has a folder of certificates.
    pub insecure: Vec<InsecureHost>,
    /// Asked before Docker Hub, in this order, without credentials.
    pub mirrors: Vec<Mirror>,
    /// Proxies, never used for loopback.
    pub proxies: Proxies,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retries: RetryPolicy,
}

impl Default for RegistryConfig {
    /// What the daemon uses if its configuration is silent. Reads the environment for proxies.
    fn default() -> Self {
        Self {
            certs_dirs: vec!["/etc/hull/certs.d".into(), "/etc/docker/certs.d".into()],
            insecure: Vec::new(),
            mirrors: Vec::new(),
            proxies: Proxies::from_environment(),
            timeouts: Timeouts::default(),
            retries: RetryPolicy::default(),
        }
    }
}

/// A mirror of Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) url: Url,
    pub(crate) host: Host,
}

impl FromStr for Mirror {
    type Err = ConfigError;

    /// Takes what Docker's `--registry-mirror` takes: `https://mirror.example:5000`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = || ConfigError::Mirror(without_user_info(text));
        let url: Url = text.parse().map_err(|_| refuse())?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !bare {
            return Err(refuse());
        }
        let host = Host::of(&url).ok_or_else(refuse)?;
        Ok(Self { url, host })
    }
}

pub(crate) fn without_user_info(url: &str) -> String {
    match (url.find("//"), url.rfind('@')) {
        (Some(slashes), Some(at)) if at > slashes => format!("{}[hidden]{}", &url[..slashes + 2], &url[at..]),
        _ => url.to_string(),
    }
}

/// Proxies for the two schemes, and what needs none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For plain HTTP: a URL, perhaps with a user and a password.
    pub http: Option<String>,
    /// For HTTPS, by CONNECT.
    pub https: Option<String>,
    /// Hosts, domains, addresses and networks that are reached directly, separated by commas; `*` for all.
    pub none_for: Option<String>,
}

impl Proxies {
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
    pub fn from_environment() -> Self {
        let variable = |upper: &str| {
            let value = std::env::var(upper).or_else(|_| std::env::var(upper.to_ascii_lowercase()));
            value.ok().filter(|value| !value.is_empty())
        };
        Self {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            none_for: variable("NO_PROXY"),
        }
    }
}

impl std::fmt::Debug for Proxies {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hidden = |url: &Option<String>| url.as_ref().map(|url| without_user_info(url));
        f.debug_struct("Proxies")
            .field("http", &hidden(&self.http))
            .field("https", &hidden(&self.https))
            .field("none_for", &self.none_for)
            .finish()
    }
}

/// How long a registry may keep one waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the request to the head of the answer; for a small answer, to its end.
    pub answer: Duration,
    /// Between two pieces of a blob, in either direction.
    pub stall: Duration,
    /// From the last byte of an upload until the registry has taken it: it may move it elsewhere first.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            commit: Duration::from_secs(300),
        }
    }
}

/// How often, and after which pause, what failed is tried again: broken connections, 429 and 5xx; time-outs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries altogether; for a blob, tries in a row that brought less than 1 MiB.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer, unless the server asks for it.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is obeyed; with a longer one the request fails at once.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_scheme_and_a_host() {
        let mirror: Mirror = "https://mirror.example:5000/".parse().unwrap();
        assert_eq!(mirror.host.to_string(), "mirror.example:5000");
        for text in [
            "mirror.example",
            "ftp://mirror.example",
            "https://m.example/path",
            "https://m.example/?q",
        ] {
            assert!(text.parse::<Mirror>().is_err(), "{text}");
        }
        let message = "https://ann:hunter2@m.example"
            .parse::<Mirror>()
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("\"https://[hidden]@m.example\" is no mirror"),
            "{message}"
        );
    }

    #[test]
    fn a_proxys_password_is_not_printed() {
        let proxies = Proxies {
            http: Some("http://ann:hunter2@proxy:3128".into()),
            ..Proxies::default()
        };
        let printed = format!("{proxies:?}");
        assert!(
            printed.contains("proxy:3128") && !printed.contains("hunter2"),
            "{printed}"
        );
    }
}
