//! Request bodies: JSON of a limited size that arrives in a limited time.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The largest body of a request in bytes.
pub(crate) const BODY_LIMIT: usize = 8 << 20;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body. The depth of its nesting is limited by the parser.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that need not be there.
pub(crate) struct OptionalJsonBody<T>(pub(crate) Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        parse(&read(request, state).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = read(request, state).await?;
        match body.trim_ascii().is_empty() {
            true => Ok(Self(None)),
            false => parse(&body).map(Some).map(Self),
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    if request.body().size_hint().lower() > BODY_LIMIT as u64 {
        let message = format!("the body of the request is over the limit of {BODY_LIMIT} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state))
        .await
        .map_err(|_| {
            let waited = BODY_TIMEOUT.as_secs();
            ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body of the request did not arrive within {waited} seconds"),
            )
        })?
        .map_err(|rejection| {
            let why = rejection.body_text();
            ApiError::new(
                rejection.status(),
                format!("cannot read the body of the request: {why}"),
            )
        })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::bad_request(
            "invalid JSON: got EOF while reading request body",
        ));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_empty_body_and_broken_json_are_refused() {
        for body in ["", "{", "{}{}", "nonsense"] {
            let error = parse::<Value>(body.as_bytes()).unwrap_err();
            assert!(
                error.message().starts_with("invalid JSON: "),
                "{}",
                error.message()
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_exhausting_the_stack() {
        let body = "[".repeat(1 << 20);
        assert!(parse::<Value>(body.as_bytes()).is_err());
    }
}
