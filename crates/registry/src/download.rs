//! A file from a web server, by its URL: over the same connections, CAs and proxies as registries, and as patient.

use bytes::Bytes;
use reqwest::header::{HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, StatusCode, Url};

use crate::answer::Answer;
use crate::call::Call;
use crate::config::{ConfigError, without_user_info};
use crate::credentials::Credentials;
use crate::error::{RegistryError, Result};
use crate::host::Host;
use crate::registry::Registry;
use crate::session::{Opening, Session};

/// Bytes of a path that messages show.
const MAX_SHOWN_PATH: usize = 256;

/// A file on its way. It is not bounded: whoever reads it stops when it is enough.
pub struct Download {
    answer: Answer,
    shown: String,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Download").field(&self.shown).finish()
    }
}

impl Download {
    /// Where it comes from, for people: the URL without password and query.
    pub fn source(&self) -> &str {
        &self.shown
    }

    /// Its length in bytes, if the server announces it.
    pub fn length(&self) -> Option<u64> {
        self.answer.length()
    }

    /// A header of the answer, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// The connection breaks before the announced end, or brings nothing for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.answer.chunk().await
    }
}

/// What people are shown of a URL that is downloaded: the part that holds no password.
pub fn shown_url(url: &str) -> String {
    match url.parse::<Url>() {
        Ok(url) => shown(&url),
        Err(_) => without_user_info(url),
    }
}

fn shown(url: &Url) -> String {
    let path: String = url.path().chars().take(MAX_SHOWN_PATH).collect();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{path}", url.scheme())
}

impl Registry {
    /// Begins to download `url`. A user and a password in it are shown to that server alone.
    ///
    /// # Errors
    /// What is no URL with HTTP or HTTPS; what [`RegistryError`] lists, refusals as [`RegistryError::Status`].
    pub async fn download(&self, url: &str) -> Result<Download> {
        let (answer, shown) = self.begin_download(url, None).await?;
        Ok(Download { answer, shown })
    }

    /// The same, unless the server still has what it once gave this `etag` to (RFC 9110, section 13.1.2): then `None`.
    ///
    /// # Errors
    /// Those of [`Registry::download`].
    pub async fn download_unless(&self, url: &str, etag: &str) -> Result<Option<Download>> {
        let (answer, shown) = self.begin_download(url, HeaderValue::from_str(etag).ok()).await?;
        let is_changed = answer.status() != StatusCode::NOT_MODIFIED;
        Ok(is_changed.then_some(Download { answer, shown }))
    }

    /// The answer, and what people are shown of the URL.
    async fn begin_download(&self, url: &str, etag: Option<HeaderValue>) -> Result<(Answer, String)> {
        let refuse = || ConfigError::Download(without_user_info(url));
        let mut url: Url = url.parse().map_err(|_| refuse())?;
        let scheme = match url.scheme() {
            "http" => "http",
            "https" => "https",
            _ => return Err(refuse().into()),
        };
        let host = Host::of(&url).ok_or_else(refuse)?;
        let credentials = take_credentials(&mut url).ok_or_else(refuse)?;
        let shown = shown(&url);
        let what = format!("download {shown}");
        let session = Session::unasked(Opening {
            endpoint: host.clone(),
            scheme: Some(scheme),
            plain_redirects: true,
            ..self.opening(&host, credentials)
        })
        .await?;
        let mut call = Call::new(&what, Method::GET, url);
        if let Some(etag) = etag {
            call = call
                .header(IF_NONE_MATCH, etag)
                .expecting(&[StatusCode::NOT_MODIFIED]);
        }
        match session.call(&call).await {
            Ok(answer) => Ok((answer, shown)),
            Err(error) => Err(without_login(error)),
        }
    }
}

/// Takes the user and the password off a URL. `None` if they are no text.
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let decode = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
        Some(decoded.into_owned())
    };
    let (username, password) = (
        decode(url.username())?,
        decode(url.password().unwrap_or_default())?,
    );
    if username.is_empty() && password.is_empty() {
        return Some(Credentials::Anonymous);
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(Credentials::Basic { username, password })
}

/// A refusal, without the advice to log in: that is for registries.
fn without_login(error: RegistryError) -> RegistryError {
    let status = error.status();
    match (error, status) {
        (
            RegistryError::Unauthorized {
                what,
                registry,
                detail,
            }
            | RegistryError::Forbidden {
                what,
                registry,
                detail,
            }
            | RegistryError::NotFound {
                what,
                registry,
                detail,
            },
            Some(status),
        ) => RegistryError::Status {
            what,
            registry,
            status,
            detail,
        },
        (error, _) => error,
    }
}
