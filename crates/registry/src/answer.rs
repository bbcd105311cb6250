//! An answer: its head is there, its body comes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use crate::config::RegistryConfig;
use crate::error::{Detail, RegistryError, Result};
use crate::host::Host;
use crate::session::text;
use crate::transport::failure;

/// Bytes of an error's body that are read.
const MAX_ERROR_BODY: u64 = 16 << 10;

/// An answer whose body has not been read.
pub(crate) struct Answer {
    response: reqwest::Response,
    what: String,
    registry: Host,
    /// Who answered: the registry, or where it redirected to.
    host: Host,
    config: RegistryConfig,
}

impl Answer {
    pub(crate) fn new(
        response: reqwest::Response,
        what: String,
        registry: Host,
        host: Host,
        config: &RegistryConfig,
    ) -> Self {
        Self {
            response,
            what,
            registry,
            host,
            config: config.clone(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The URL that answered.
    pub(crate) fn url(&self) -> &reqwest::Url {
        self.response.url()
    }

    /// Who answered.
    pub(crate) fn host(&self) -> String {
        self.host.to_string()
    }

    /// The length that the head announces. (After a HEAD the body itself has none.)
    pub(crate) fn length(&self) -> Option<u64> {
        text(self.headers(), "content-length").and_then(|length| length.parse().ok())
    }

    /// The next piece of the body, `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let stall = self.config.timeouts.stall;
        match tokio::time::timeout(stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(failure(&self.what, &self.host, &error, &self.config)),
            Err(_) => Err(self.timed_out("no more bytes", stall)),
        }
    }

    /// The whole body of at most `limit` bytes, within the time of one answer.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<Bytes> {
        let too_large = RegistryError::TooLarge {
            what: self.what.clone(),
            registry: self.registry.to_string(),
            limit,
        };
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let wait = self.config.timeouts.answer;
        let collect = async {
            let mut body = BytesMut::new();
            while let Some(chunk) = self.chunk().await? {
                if (body.len() + chunk.len()) as u64 > limit {
                    return Ok(None);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Some(body.freeze()))
        };
        match tokio::time::timeout(wait, collect).await {
            Ok(Ok(Some(body))) => Ok(body),
            Ok(Ok(None)) => Err(too_large),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.timed_out("no end of its answer", wait)),
        }
    }

    fn timed_out(&self, missing: &'static str, waited: Duration) -> RegistryError {
        let (what, registry) = (self.what.clone(), self.registry.to_string());
        RegistryError::TimedOut {
            what,
            registry,
            missing,
            waited,
        }
    }

    /// The error that a refusal is; `secrets` are kept out of what the server says about it.
    pub(crate) async fn into_error(self, secrets: &[String]) -> RegistryError {
        let status = self.status();
        let retry_after =
            text(self.headers(), RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
        let (what, registry) = (self.what.clone(), self.registry.to_string());
        // A refusal that cannot be read to its end is a refusal all the same.
        let body = self.bytes(MAX_ERROR_BODY).await.unwrap_or_default();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let detail = Detail::new(&said(&body), &secrets);
        match status.as_u16() {
            401 => RegistryError::Unauthorized {
                what,
                registry,
                detail,
            },
            403 => RegistryError::Forbidden {
                what,
                registry,
                detail,
            },
            404 => RegistryError::NotFound {
                what,
                registry,
                detail,
            },
            429 => {
                let retry_after = retry_after.map(Duration::from_secs);
                RegistryError::TooManyRequests {
                    what,
                    registry,
                    detail,
                    retry_after,
                }
            }
            status @ (500 | 502 | 503 | 504) => RegistryError::Server {
                what,
                registry,
                status,
                detail,
                attempts: 1,
            },
            status => RegistryError::Status {
                what,
                registry,
                status,
                detail,
            },
        }
    }
}

/// A refusal's body: the distribution specification's errors, what Docker Hub's token server makes of them, and
/// OAuth2's (RFC 6749, section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    errors: Vec<Reason>,
    details: Option<String>,
    message: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reason {
    code: Option<String>,
    message: Option<String>,
}

/// What a refusal's body says; nothing if it is a page for a browser.
fn said(body: &[u8]) -> String {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        let text = String::from_utf8_lossy(body);
        let first = text.lines().next().unwrap_or_default().trim();
        return if first.starts_with('<') {
            String::new()
        } else {
            first.to_string()
        };
    };
    let reasons = refusal.errors.into_iter().map(|reason| {
        let parts = [
            reason
                .code
                .map(|code| code.to_ascii_lowercase().replace('_', " ")),
            reason.message,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let others = [
        refusal.details,
        refusal.message,
        refusal.error_description,
        refusal.error,
    ];
    let said: Vec<String> = reasons
        .chain(others.into_iter().flatten())
        .filter(|text| !text.is_empty())
        .collect();
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_refusals_are_understood() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (r#"{"errors":[{"code":"DENIED"},{"message":"no"}]}"#, "denied; no"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                "expired; invalid_grant",
            ),
            ("404 page not found\nmore", "404 page not found"),
            ("<html><body>Bad gateway", ""),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(said(body.as_bytes()), expected, "{body}");
        }
    }
}
