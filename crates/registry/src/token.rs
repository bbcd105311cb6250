//! Bearer tokens: what they allow, how they are fetched, how long they are kept.
//!
//! The protocol is the distribution specification's "Token Authentication": a GET with a user and a password
//! or with nothing, or an OAuth2 POST with an identity token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::credentials::Credentials;

/// What a token is to allow: `repository:NAME:pull,push`, perhaps of several repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope(Vec<String>);

impl Scope {
    /// Nothing in particular: to log in, to ask whether the registry is there.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// To push to one repository what another one has.
    pub(crate) fn mount(repository: &str, from: &str) -> Self {
        let mut scope = Self::push(repository);
        scope.0.extend(Self::pull(from).0);
        scope
    }
}

/// The name by which hull is known to token servers; they put it into their logs.
const CLIENT_ID: &str = "hull";
/// A token that does not say how long it lasts, lasts this long (specification).
const DEFAULT_LIFE: u64 = 60;
/// Nothing is kept longer, whatever the server says.
const LONGEST_LIFE: u64 = 24 * 60 * 60;
/// A token is renewed this long before its end: clocks differ, requests take time.
const MARGIN: Duration = Duration::from_secs(10);
/// Bytes of a token server's answer.
pub(crate) const MAX_TOKEN_ANSWER: u64 = 256 << 10;
/// Tokens that are kept.
const MAX_TOKENS: usize = 512;

/// A request for a token.
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    pub(crate) scope: &'a Scope,
    pub(crate) credentials: &'a Credentials,
    /// Whether an identity token is wanted, too: at a login.
    pub(crate) offline: bool,
}

impl TokenRequest<'_> {
    /// The URL of the GET.
    pub(crate) fn url(&self) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = self.service {
            query.append_pair("service", service);
        }
        for scope in &self.scope.0 {
            query.append_pair("scope", scope);
        }
        if let Credentials::Basic { username, .. } = self.credentials {
            query.append_pair("account", username);
        }
        if self.offline {
            query.append_pair("offline_token", "true");
        }
        query.append_pair("client_id", CLIENT_ID);
        drop(query);
        url
    }

    /// The form of the POST, if there is an identity token to trade in.
    pub(crate) fn form(&self) -> Option<String> {
        let Credentials::IdentityToken(identity) = self.credentials else {
            return None;
        };
        let mut form = Url::parse("form:?").expect("a constant");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scope.0.join(" "))
            .append_pair("refresh_token", identity);
        form.query().map(String::from)
    }
}

/// A token server's answer.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// A token, until when to use it, and the identity token that came with it.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) identity: Option<String>,
    until: Instant,
}

impl Token {
    /// Reads an answer to a request that was sent at `asked`.
    ///
    /// # Errors
    /// The answer is none; the text says why, without the token.
    pub(crate) fn read(answer: &[u8], asked: Instant) -> Result<Self, &'static str> {
        let answer: TokenAnswer =
            serde_json::from_slice(answer).map_err(|_| "its answer is no JSON object with a token")?;
        let given = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty());
        let token = given.ok_or("its answer has no token")?;
        let header = bearer(&token).ok_or("its token cannot be sent in a header")?;
        let life = answer.expires_in.unwrap_or(0).clamp(DEFAULT_LIFE, LONGEST_LIFE);
        let identity = answer.refresh_token.filter(|token| !token.is_empty());
        Ok(Self {
            header,
            identity,
            until: asked + Duration::from_secs(life) - MARGIN,
        })
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The header that shows a token; debug output hides it.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// A header that debug output hides.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Whose token it is and for what. Users of one daemon never get each other's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) credentials: Credentials,
}

/// A place for one token; who fetches it holds the lock, so that ten layers ask once.
pub(crate) type TokenSlot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens of all registries.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<TokenKey, TokenSlot>>);

impl TokenCache {
    /// The place for a token.
    pub(crate) fn slot(&self, key: TokenKey) -> TokenSlot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_TOKENS && !slots.contains_key(&key) {
            slots.retain(|_, slot| {
                slot.try_lock()
                    .is_ok_and(|token| token.as_ref().is_some_and(Token::is_fresh))
            });
        }
        if slots.len() >= MAX_TOKENS {
            slots.clear();
        }
        slots.entry(key).or_default().clone()
    }
}

/// The token in a slot, if it is fresh and not the one that the registry has just turned down.
pub(crate) fn usable(slot: &Option<Token>, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
    let token = slot.as_ref().filter(|token| token.is_fresh())?;
    (Some(&token.header) != refused).then(|| token.header.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(realm: &'a Url, scope: &'a Scope, credentials: &'a Credentials) -> TokenRequest<'a> {
        TokenRequest {
            realm,
            service: Some("the registry"),
            scope,
            credentials,
            offline: false,
        }
    }

    #[test]
    fn a_get_asks_for_every_scope() {
        let realm = "https://auth.example/token?x=1".parse().unwrap();
        let scope = Scope::mount("a/b", "c");
        let credentials = Credentials::Basic {
            username: "ann".into(),
            password: "hunter2".into(),
        };
        let request = request(&realm, &scope, &credentials);
        assert_eq!(
            request.url().as_str(),
            "https://auth.example/token?x=1&service=the+registry&scope=repository%3Aa%2Fb%3Apull%2Cpush\
             &scope=repository%3Ac%3Apull&account=ann&client_id=hull"
        );
        assert_eq!(request.form(), None);
    }

    #[test]
    fn an_identity_token_is_traded_in_by_a_form() {
        let realm = "https://auth.example/token".parse().unwrap();
        let scope = Scope::pull("a");
        let credentials = Credentials::IdentityToken("r&t".into());
        assert_eq!(
            request(&realm, &scope, &credentials).form().unwrap(),
            "grant_type=refresh_token&service=the+registry&client_id=hull&scope=repository%3Aa%3Apull&refresh_token=r%26t"
        );
    }

    #[test]
    fn answers_are_read_under_both_names_and_lives_are_bounded() {
        let now = Instant::now();
        for (answer, life) in [
            (r#"{"token":"t"}"#, 60),
            (r#"{"access_token":"t","token":"","expires_in":300}"#, 300),
            (r#"{"token":"t","expires_in":5}"#, 60),
            (r#"{"token":"t","expires_in":18446744073709551615}"#, LONGEST_LIFE),
        ] {
            let token = Token::read(answer.as_bytes(), now).unwrap();
            assert_eq!(token.header, "Bearer t", "{answer}");
            assert_eq!(token.until + MARGIN - now, Duration::from_secs(life), "{answer}");
        }
        for answer in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\nb"}"#,
            r#"{"token":"t","expires_in":-1}"#,
            "[1]",
        ] {
            assert!(Token::read(answer.as_bytes(), now).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_token_is_used_while_it_is_fresh_and_not_refused() {
        let token = Token::read(br#"{"token":"t"}"#, Instant::now()).unwrap();
        let header = token.header.clone();
        assert!(!format!("{header:?}").contains("Bearer t"));
        assert_eq!(usable(&Some(token.clone()), None), Some(header.clone()));
        assert_eq!(usable(&Some(token.clone()), Some(&header)), None);
        let old = Token {
            until: Instant::now(),
            ..token
        };
        assert_eq!(usable(&Some(old), None), None);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = TokenCache::default();
        for number in 0..2 * MAX_TOKENS {
            cache.slot(TokenKey {
                realm: "https://a".parse().unwrap(),
                service: None,
                scope: Scope::pull(&number.to_string()),
                credentials: Credentials::Anonymous,
            });
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_TOKENS);
    }
}
