//! One registry, one user: requests with what the registry wants to see, redirects, and what answers mean.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};

use crate::answer::Answer;
use crate::call::{Call, Payload};
use crate::challenge::Challenge;
use crate::credentials::{Credentials, encode};
use crate::error::{RegistryError, Result};
use crate::host::Host;
use crate::retry::Retries;
use crate::token::{
    MAX_TOKEN_ANSWER, Scope, Token, TokenCache, TokenKey, TokenRequest, bearer, sensitive, usable,
};
use crate::transport::{NO_CONNECTION, Peer, Transport, failure};

/// Redirects of one request; Go's and so Docker's limit.
const MAX_REDIRECTS: usize = 10;
/// Other hosts of one registry (storage, token servers) whose certificates are remembered.
const MAX_PEERS: usize = 16;

/// A registry that has answered.
pub(crate) struct Session {
    transport: Arc<Transport>,
    tokens: Arc<TokenCache>,
    /// As references and messages name it.
    registry: Host,
    /// Scheme, host and port: where requests go, and the only place where credentials go.
    base: Url,
    /// The scheme of `base`, and those that may be tried after it.
    schemes: &'static [&'static str],
    peers: Mutex<HashMap<Host, Peer>>,
    /// What the registry itself has asked for, once it has.
    challenge: OnceLock<Challenge>,
    credentials: Credentials,
    plain_redirects: bool,
}

/// What a session is opened with.
pub(crate) struct Opening {
    pub(crate) transport: Arc<Transport>,
    pub(crate) tokens: Arc<TokenCache>,
    pub(crate) registry: Host,
    /// The host that serves it; the scheme is found out.
    pub(crate) endpoint: Host,
    /// The scheme, if it is known: a mirror's.
    pub(crate) scheme: Option<&'static str>,
    pub(crate) credentials: Credentials,
    /// Whether plain HTTP may lead to plain HTTP of any other host.
    pub(crate) plain_redirects: bool,
}

impl Session {
    /// Asks `/v2/` what the registry wants to see. HTTPS is tried first; plain HTTP only if the registry is
    /// insecure (see [`crate::RegistryConfig::insecure`]) and HTTPS cannot be had there.
    pub(crate) async fn open(opening: Opening, what: &str) -> Result<Self> {
        let mut session = Self::new(opening).await?;
        let mut no_https = None;
        loop {
            match session.ask_for_challenge(what).await {
                Ok(answer) => {
                    session.learn_challenge(&answer);
                    return Ok(session);
                }
                Err(error) => session.use_next_scheme(&mut no_https, error)?,
            }
        }
    }

    /// A session that shows a password where there is one, without being asked.
    pub(crate) async fn unasked(opening: Opening) -> Result<Self> {
        let challenge = OnceLock::from(Challenge::Basic);
        Ok(Self {
            challenge,
            ..Self::new(opening).await?
        })
    }

    async fn new(opening: Opening) -> Result<Self> {
        let peer = opening
            .transport
            .peer(&opening.endpoint, &opening.endpoint)
            .await?;
        let schemes: &[&str] = match opening.scheme {
            Some("http") => &["http"],
            None if peer.plain => &["https", "http"],
            _ => &["https"],
        };
        Ok(Self {
            base: base_url(schemes[0], &opening.endpoint),
            schemes,
            transport: opening.transport,
            tokens: opening.tokens,
            registry: opening.registry,
            peers: Mutex::new(HashMap::from([(opening.endpoint, peer)])),
            challenge: OnceLock::new(),
            credentials: opening.credentials,
            plain_redirects: opening.plain_redirects,
        })
    }

    /// Goes on in plain HTTP after a first request has failed, where it will do and HTTPS cannot be had.
    ///
    /// # Errors
    /// What failed, if there is no other scheme or it would not help. `no_https` keeps the first error: what
    /// HTTPS said is worth more than that there is no plain HTTP either.
    pub(crate) fn use_next_scheme(
        &mut self,
        no_https: &mut Option<RegistryError>,
        error: RegistryError,
    ) -> Result<()> {
        if !is_no_https(&error) {
            return Err(error);
        }
        let first = no_https.take().unwrap_or(error);
        let [_, rest @ ..] = self.schemes else {
            return Err(first);
        };
        let Some(scheme) = rest.first() else {
            return Err(first);
        };
        // The scheme of an `https` URL can always be changed to `http`.
        let _ = self.base.set_scheme(scheme);
        self.schemes = rest;
        *no_https = Some(first);
        Ok(())
    }

    /// Nothing is made of the status: registries answer 401, 200, and, some of them, 403 or 404.
    async fn ask_for_challenge(&self, what: &str) -> Result<Answer> {
        let call = Call::new(what, Method::GET, self.url("")).expecting(&[
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
        ]);
        let mut retries = self.retries();
        loop {
            let sent = self.send(&call, None).await;
            let outcome = match sent {
                Ok(answer) => self.check(&call, answer).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Nobody is there, or plain HTTP is the way: no reason to wait.
            let other_scheme = self.schemes.len() > 1 && is_no_https(&error);
            if other_scheme || matches!(error, RegistryError::Refused { .. }) {
                return Err(error);
            }
            let (pause, _) = retries.pause_after(error)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// `/v2/PATH` of this registry.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// A URL that the registry gave out for an upload: absolute, or relative to the request's.
    pub(crate) fn resolve(&self, what: &str, from: &Url, location: Option<&HeaderValue>) -> Result<Url> {
        let text = location.and_then(|location| location.to_str().ok());
        text.and_then(|text| from.join(text).ok())
            .ok_or_else(|| self.protocol(what, "its answer has no usable Location"))
    }

    pub(crate) fn has_token_server(&self) -> bool {
        matches!(self.challenge(), Challenge::Bearer { .. })
    }

    fn challenge(&self) -> &Challenge {
        self.challenge.get().unwrap_or(&Challenge::None)
    }

    /// Takes the first challenge of an answer as the registry's. Another host, to which the registry redirects,
    /// must not name the token server: the credentials would go there.
    ///
    /// Says whether something was learnt.
    fn learn_challenge(&self, answer: &Answer) -> bool {
        if answer.url().origin() != self.base.origin() {
            return false;
        }
        match Challenge::of(answer.headers()) {
            Challenge::None => false,
            challenge => self.challenge.set(challenge).is_ok(),
        }
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries::new(self.transport.config.retries)
    }

    pub(crate) fn protocol(&self, what: &str, reason: impl Into<String>) -> RegistryError {
        let (what, registry) = (what.to_string(), self.registry.to_string());
        RegistryError::Protocol {
            what,
            registry,
            reason: reason.into(),
        }
    }

    /// Sends a request until it is answered, refused, or has failed often enough.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Answer> {
        let mut retries = self.retries();
        loop {
            let error = match self.call_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let (pause, error) = retries.pause_after(error)?;
            tracing::debug!(%error, ?pause, "tried again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once; twice if the registry has turned down a token that was kept, or says only now what
    /// it wants to see.
    pub(crate) async fn call_once(&self, call: &Call<'_>) -> Result<Answer> {
        let authorization = self.authorization(call, None).await?;
        let answer = self.send(call, authorization.as_ref()).await?;
        let refused = answer.status() == StatusCode::UNAUTHORIZED;
        let better = refused && (self.learn_challenge(&answer) || self.has_token_server());
        if !better || matches!(self.credentials, Credentials::RegistryToken(_)) {
            return self.check_with(call, answer, authorization.as_ref()).await;
        }
        let renewed = self.authorization(call, authorization.as_ref()).await?;
        let answer = self.send(call, renewed.as_ref()).await?;
        self.check_with(call, answer, renewed.as_ref()).await
    }

    /// The `Authorization` header that the registry wants, except one that it has `refused`.
    async fn authorization(
        &self,
        call: &Call<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        if call.url.origin() != self.base.origin() {
            return Ok(None);
        }
        if let Credentials::RegistryToken(token) = &self.credentials {
            return Ok(bearer(token));
        }
        match (self.challenge(), &self.credentials) {
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                Ok(sensitive(&format!("Basic {}", encode(username, password))))
            }
            (Challenge::Bearer { realm, service }, _) => {
                let slot = self.tokens.slot(TokenKey {
                    realm: realm.clone(),
                    service: service.clone(),
                    scope: call.scope.clone(),
                    credentials: self.credentials.clone(),
                });
                let mut slot = slot.lock().await;
                if let Some(header) = usable(&slot, refused) {
                    return Ok(Some(header));
                }
                let token = self.fetch_token(&call.scope, false).await?;
                let header = token.header.clone();
                *slot = Some(token);
                Ok(Some(header))
            }
            _ => Ok(None),
        }
    }

    /// One try for a token from the registry's token server, and an identity token if it gives one and `offline` asks.
    async fn fetch_token(&self, scope: &Scope, offline: bool) -> Result<Token> {
        let Challenge::Bearer { realm, service } = self.challenge() else {
            return Err(self.protocol("get a token", "it names no token server"));
        };
        let what = format!(
            "get a token for {} from {}",
            self.registry,
            realm.host_str().unwrap_or_default()
        );
        let request = TokenRequest {
            realm,
            service: service.as_deref(),
            scope,
            credentials: &self.credentials,
            offline,
        };
        let (call, authorization) = match (request.form(), &self.credentials) {
            (Some(form), _) => {
                let call = Call::new(&what, Method::POST, realm.clone())
                    .header(
                        CONTENT_TYPE,
                        HeaderValue::from_static("application/x-www-form-urlencoded"),
                    )
                    .payload(Payload::Bytes(form.into()));
                (call, None)
            }
            (None, Credentials::Basic { username, password }) => (
                Call::new(&what, Method::GET, request.url()),
                sensitive(&format!("Basic {}", encode(username, password))),
            ),
            (None, _) => (Call::new(&what, Method::GET, request.url()), None),
        };
        let asked = Instant::now();
        let answer = self.send(&call, authorization.as_ref()).await?;
        let answer = match self.check_with(&call, answer, authorization.as_ref()).await {
            // RFC 6749, section 5.2: a grant that is not accepted is a 400.
            Err(RegistryError::Status {
                status: 400, detail, ..
            }) => {
                return Err(RegistryError::Unauthorized {
                    what,
                    registry: self.registry.to_string(),
                    detail,
                });
            }
            outcome => outcome?,
        };
        let bytes = answer.bytes(MAX_TOKEN_ANSWER).await?;
        Token::read(&bytes, asked).map_err(|reason| self.protocol(&what, reason))
    }

    /// The identity token that a login gives, if it gives one.
    pub(crate) async fn fetch_identity(&self) -> Result<Option<String>> {
        let mut retries = self.retries();
        loop {
            match self.fetch_token(&Scope::none(), true).await {
                Ok(token) => return Ok(token.identity),
                Err(error) => {
                    let (pause, _) = retries.pause_after(error)?;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Sends a request and follows its redirects. `authorization` goes to the host of the request's own URL
    /// and to no other; neither does a payload.
    async fn send(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Answer> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (host, peer) = self.peer(&call.what, &url).await?;
            let mut request = reqwest::Request::new(call.method.clone(), url.clone());
            *request.headers_mut() = call.headers.clone();
            let at_home = url.origin() == call.url.origin();
            if let Some(authorization) = authorization.filter(|_| at_home) {
                request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let patience = call.fill(&mut request, &self.transport.config.timeouts)?;
            let sent = patience.bound(peer.client.execute(request)).await;
            let response = match sent {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.failed(call, &host, &error)),
                Err((missing, waited)) => return Err(self.timed_out(&call.what, missing, waited)),
            };
            let Some(next) = redirect(&response) else {
                return Ok(Answer::new(
                    response,
                    call.what.clone(),
                    self.registry.clone(),
                    host,
                    &self.transport.config,
                ));
            };
            if !call.may_be_redirected() {
                return Err(self.protocol(&call.what, "it redirects a request that cannot be sent elsewhere"));
            }
            url = next.ok_or_else(|| self.protocol(&call.what, "it redirects to what is no URL"))?;
        }
        Err(self.protocol(
            &call.what,
            format!("it redirects more than {MAX_REDIRECTS} times"),
        ))
    }

    /// What reading the payload did wrong counts before what the network made of it.
    fn failed(&self, call: &Call<'_>, host: &Host, error: &reqwest::Error) -> RegistryError {
        call.source_error()
            .unwrap_or_else(|| failure(&call.what, host, error, &self.transport.config))
    }

    fn timed_out(&self, what: &str, missing: &'static str, waited: Duration) -> RegistryError {
        let (what, registry) = (what.to_string(), self.registry.to_string());
        RegistryError::TimedOut {
            what,
            registry,
            missing,
            waited,
        }
    }

    /// Whom to ask for `url`, if it may be asked at all.
    async fn peer(&self, what: &str, url: &Url) -> Result<(Host, Peer)> {
        let host = Host::of(url).filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.ok_or_else(|| self.protocol(what, "it names a URL that is not HTTP"))?;
        let known = self.peers().get(&host).cloned();
        let peer = match known {
            Some(peer) => peer,
            None => {
                let of_registry = Host::of(&self.base).unwrap_or_else(|| self.registry.clone());
                let peer = self.transport.peer(&of_registry, &host).await?;
                let mut peers = self.peers();
                if peers.len() < MAX_PEERS {
                    peers.insert(host.clone(), peer.clone());
                }
                peer
            }
        };
        let may_be_plain = url.origin() == self.base.origin()
            || ((peer.plain || self.plain_redirects) && self.base.scheme() == "http");
        if url.scheme() == "http" && !may_be_plain {
            let (what, registry) = (what.to_string(), self.registry.to_string());
            return Err(RegistryError::PlainHttp {
                what,
                registry,
                host: host.to_string(),
            });
        }
        Ok((host, peer))
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, HashMap<Host, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self, call: &Call<'_>, answer: Answer) -> Result<Answer> {
        self.check_with(call, answer, None).await
    }

    /// An answer with a good or an expected status, or the error that its status and its body are.
    async fn check_with(
        &self,
        call: &Call<'_>,
        answer: Answer,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer> {
        if answer.status().is_success() || call.expected.contains(&answer.status()) {
            return Ok(answer);
        }
        let mut secrets = self.credentials.secrets();
        let shown = authorization.and_then(|header| header.to_str().ok());
        secrets.extend(
            shown
                .and_then(|header| header.split_once(' '))
                .map(|(_, secret)| secret.to_string()),
        );
        Err(answer.into_error(&secrets).await)
    }
}

fn base_url(scheme: &str, endpoint: &Host) -> Url {
    format!("{scheme}://{endpoint}/")
        .parse()
        .expect("a host was checked to be one")
}

/// Whether an error means that there is no HTTPS to be had, so that plain HTTP may be tried where it will do.
fn is_no_https(error: &RegistryError) -> bool {
    match error {
        RegistryError::Tls { .. } | RegistryError::Refused { .. } | RegistryError::Connection { .. } => true,
        RegistryError::TimedOut { missing, .. } => *missing == NO_CONNECTION,
        _ => false,
    }
}

/// Where an answer redirects to: `Some(None)` if that cannot be read.
fn redirect(response: &reqwest::Response) -> Option<Option<Url>> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| redirects)?;
    Some(
        location
            .to_str()
            .ok()
            .and_then(|text| response.url().join(text).ok()),
    )
}

/// The first value of a header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
