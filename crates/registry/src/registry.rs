//! All registries: the doors to a repository, to a login and to a search.

use std::sync::Arc;

use reqwest::header::ACCEPT;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::call::Call;
use crate::config::RegistryConfig;
use crate::credentials::Credentials;
use crate::error::Result;
use crate::host::{Host, InsecureHost};
use crate::repository::{Endpoint, Repository};
use crate::session::{Opening, Session};
use crate::token::TokenCache;
use crate::transport::Transport;

/// Bytes of an answer to a search.
const MAX_SEARCH_ANSWER: u64 = 4 << 20;
/// Docker Hub's limit of results, and what Docker asks for if the user does not say.
const MAX_RESULTS: u16 = 100;

/// A client of all registries: their connections and tokens. Clones share them.
#[derive(Clone)]
pub struct Registry {
    transport: Arc<Transport>,
    tokens: Arc<TokenCache>,
}

/// A login that went well.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginStatus {
    /// What to keep in the password's place, if the registry gives such a thing.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for LoginStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.identity_token.as_ref().map(|_| "[hidden]");
        f.debug_struct("LoginStatus")
            .field("identity_token", &token)
            .finish()
    }
}

/// A repository that a search has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// `debian`, or `user/name`.
    pub name: String,
    /// What its owner says.
    #[serde(deserialize_with = "text_or_null")]
    pub description: String,
    /// How many users have marked it.
    pub star_count: u64,
    /// Whether it is one of Docker's own.
    pub is_official: bool,
    /// Whether the registry builds it.
    pub is_automated: bool,
}

fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct SearchAnswer {
    results: Vec<SearchResult>,
}

impl Registry {
    /// A client. Nothing is sent, and no certificate read, before something is asked.
    ///
    /// # Errors
    /// A proxy that cannot be used.
    pub fn new(mut config: RegistryConfig) -> Result<Self> {
        let plain = config
            .mirrors
            .iter()
            .filter(|mirror| mirror.url.scheme() == "http");
        let plain: Vec<_> = plain
            .map(|mirror| InsecureHost::from(mirror.host.clone()))
            .collect();
        config.insecure.extend(plain);
        Ok(Self {
            transport: Arc::new(Transport::new(config)?),
            tokens: Arc::default(),
        })
    }

    /// One repository, as one user sees it. `host` is the registry as references name it (`docker.io`,
    /// `localhost:5000`), `name` the rest without tag and digest (`library/debian`).
    ///
    /// # Errors
    /// A name that is none.
    pub fn repository(&self, host: &str, name: &str, credentials: Credentials) -> Result<Repository> {
        let registry: Host = host.parse()?;
        let mut endpoints = Vec::new();
        if registry.is_hub() {
            for mirror in self.transport.config.mirrors.clone() {
                let scheme = if mirror.url.scheme() == "http" {
                    "http"
                } else {
                    "https"
                };
                let this = self.clone();
                endpoints.push(Endpoint::new(move || Opening {
                    scheme: Some(scheme),
                    ..this.opening(&mirror.host, Credentials::Anonymous)
                }));
            }
        }
        let (this, of) = (self.clone(), registry.clone());
        endpoints.push(Endpoint::new(move || this.opening(&of, credentials.clone())));
        Ok(Repository::new(
            registry,
            name,
            self.transport.config.retries,
            endpoints,
        )?)
    }

    pub(crate) fn opening(&self, registry: &Host, credentials: Credentials) -> Opening {
        Opening {
            transport: self.transport.clone(),
            tokens: self.tokens.clone(),
            registry: registry.clone(),
            endpoint: registry.endpoint(),
            scheme: None,
            credentials,
            plain_redirects: false,
        }
    }

    /// Shows a registry the credentials.
    ///
    /// # Errors
    /// [`crate::RegistryError::Unauthorized`] if it does not accept them; what the enum lists.
    pub async fn login(&self, host: &str, credentials: &Credentials) -> Result<LoginStatus> {
        let registry: Host = host.parse()?;
        let what = format!("log in to {registry}");
        let session = Session::open(self.opening(&registry, credentials.clone()), &what).await?;
        let mut identity_token = None;
        if session.has_token_server() && !matches!(credentials, Credentials::RegistryToken(_)) {
            identity_token = session.fetch_identity().await?;
        }
        let call = Call::new(&what, Method::GET, session.url("")).expecting(&[StatusCode::NOT_FOUND]);
        session.call(&call).await?;
        Ok(LoginStatus { identity_token })
    }

    /// Searches a registry by its `/v1/search`, which Docker Hub has and few others. At most 100 results.
    ///
    /// # Errors
    /// What [`crate::RegistryError`] lists; 404 where there is no search.
    pub async fn search(
        &self,
        host: &str,
        term: &str,
        limit: u16,
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>> {
        let registry: Host = host.parse()?;
        let what = format!(
            "search {registry} for {:?}",
            term.chars().take(80).collect::<String>()
        );
        let opening = self.opening(&registry, credentials.clone());
        let endpoint = if registry.is_hub() {
            "index.docker.io".parse()?
        } else {
            registry
        };
        let mut session = Session::unasked(Opening { endpoint, ..opening }).await?;
        let limit = limit.clamp(1, MAX_RESULTS);
        let mut no_https = None;
        let answer = loop {
            let mut url = session.url("");
            url.set_path("/v1/search");
            url.query_pairs_mut()
                .append_pair("q", term)
                .append_pair("n", &limit.to_string());
            let call = Call::new(&what, Method::GET, url)
                .header(ACCEPT, HeaderValue::from_static("application/json"));
            match session.call(&call).await {
                Ok(answer) => break answer,
                Err(error) => session.use_next_scheme(&mut no_https, error)?,
            }
        };
        let bytes = answer.bytes(MAX_SEARCH_ANSWER).await?;
        let answer: SearchAnswer = serde_json::from_slice(&bytes)
            .map_err(|_| session.protocol(&what, "its answer is no list of results"))?;
        let mut results = answer.results;
        results.truncate(usize::from(limit));
        Ok(results)
    }
}
