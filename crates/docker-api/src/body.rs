//! Request bodies: JSON of a limited size that arrives in a limited time.
//!
//! A connection has few bytes of its own until its request is understood. Large bodies, which few requests have, take turns, so
//! that a thousand clients that send them slowly take no more memory than some, and keep nobody with a small one waiting.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use hyper::body::Body as _;
use serde::de::{DeserializeOwned, Deserializer};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// The largest body of a request in bytes: what Linux takes as arguments and environment of a process.
const BODY_LIMIT: usize = 2 << 20;
/// The largest body that is read at once, whatever the others do, in bytes.
const SMALL_BODY: usize = 64 << 10;
/// How many larger ones are read at the same time.
const LARGE_BODIES: usize = 8;
/// How long a client may take to send a body, and how long a large one waits for its turn.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body, which is an object. The depth of its nesting is limited by the parser.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that need not be there.
pub(crate) struct OptionalJsonBody<T>(pub(crate) Option<T>);

/// What the bodies of all requests share.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES)))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_with(request, parse).await.map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let parse_some = |body: &[u8]| match body.trim_ascii().is_empty() {
            true => Ok(None),
            false => parse(body).map(Some),
        };
        read_with(request, parse_some).await.map(Self)
    }
}

/// Reads a body and what it says. A large one keeps its turn until it is understood: that takes a multiple of its size.
async fn read_with<T>(
    request: Request,
    understand: impl FnOnce(&[u8]) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    check_type(request.headers(), request.body())?;
    if request.body().size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let bodies: Bodies = request.extensions().get().cloned().unwrap_or_default();
    let mut pieces = request.into_body().into_data_stream();
    let mut body = Vec::new();
    let mut turn = None;
    // The time begins anew with the turn.
    let mut end = tokio::time::Instant::now() + BODY_TIMEOUT;
    while let Some(piece) = tokio::time::timeout_at(end, pieces.next())
        .await
        .map_err(|_| too_slow())?
    {
        let piece = piece
            .map_err(|error| ApiError::bad_request(format!("invalid JSON: the body is cut: {error}")))?;
        if body.len() + piece.len() > BODY_LIMIT {
            return Err(too_large());
        }
        if body.len() + piece.len() > SMALL_BODY && turn.is_none() {
            let next = tokio::time::timeout(BODY_TIMEOUT, bodies.0.acquire()).await;
            turn = Some(next.map_err(|_| too_many())?.map_err(|_| too_many())?);
            end = tokio::time::Instant::now() + BODY_TIMEOUT;
        }
        body.extend_from_slice(&piece);
    }
    understand(&body)
}

/// Refuses a body that says it is something else than JSON, as Docker does: so no web page can have a browser send one.
fn check_type(headers: &HeaderMap, body: &Body) -> Result<(), ApiError> {
    let given = match headers.get(CONTENT_TYPE) {
        None if body.is_end_stream() => return Ok(()),
        None => "",
        Some(given) => given.to_str().unwrap_or_default(),
    };
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad_request(match media_type.is_empty() {
        true => format!("malformed Content-Type header ({given}): mime: no media type"),
        false => format!("unsupported Content-Type header ({given}): must be 'application/json'"),
    }))
}

fn too_large() -> ApiError {
    let message = format!("the body of the request is over the limit of {BODY_LIMIT} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn too_slow() -> ApiError {
    let waited = BODY_TIMEOUT.as_secs();
    let message = format!("the body of the request did not arrive within {waited} seconds");
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}

fn too_many() -> ApiError {
    let message = format!(
        "{LARGE_BODIES} other requests with bodies over {SMALL_BODY} bytes are being read; try again in a minute"
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    match body.trim_ascii_start().first() {
        None => {
            return Err(ApiError::bad_request(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        // A list would be taken for the values of an object's fields.
        Some(b'[') => {
            return Err(ApiError::bad_request(
                "invalid JSON: the body is a list and not an object",
            ));
        }
        Some(_) => {}
    }
    let mut text = serde_json::Deserializer::from_slice(body);
    let value = typed(&mut text)?;
    text.end()
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    Ok(value)
}

/// JSON as what it should be; what is not is told with the field's name.
pub(crate) fn typed<'de, T: DeserializeOwned>(
    value: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        ApiError::bad_request(match path.as_str() {
            "." => format!("invalid JSON: {why}"),
            path if why.is_data() => format!("invalid JSON: {path}: {why}"),
            _ => format!("invalid JSON: {why}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_empty_body_and_broken_json_are_refused() {
        for body in ["", " ", "{", "{}{}", "nonsense", "[]", " [1]"] {
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
        for nest in ["[", "{\"a\":", "{\"a\":["] {
            let body = format!("{{\"a\":{}", nest.repeat(1 << 18));
            let error = parse::<Value>(body.as_bytes()).unwrap_err();
            assert!(error.message().contains("recursion limit"), "{}", error.message());
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_by_its_field() {
        #[derive(Debug, serde::Deserialize)]
        struct Inner {
            #[expect(dead_code, reason = "only its type matters")]
            number: u8,
        }
        type Outer = std::collections::HashMap<String, Vec<Inner>>;
        let error = parse::<Outer>(br#"{"a":[{"number":1},{"number":"x"}]}"#).unwrap_err();
        assert!(
            error
                .message()
                .starts_with("invalid JSON: a[1].number: invalid type"),
            "{}",
            error.message()
        );
    }

    #[test]
    fn only_json_is_taken_and_nothing_need_not_say_what_it_is() {
        let check = |value: Option<&'static str>, body: &'static str| {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (CONTENT_TYPE, value.parse().unwrap())));
            check_type(&headers, &Body::from(body))
        };
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(check(Some(good), "{}"), Ok(()));
        }
        assert_eq!(check(None, ""), Ok(()));
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json5",
        ] {
            let error = check(Some(bad), "{}").unwrap_err();
            let expected = format!("unsupported Content-Type header ({bad}): must be 'application/json'");
            assert_eq!(error.message(), expected);
        }
        assert!(check(None, "{}").unwrap_err().message().starts_with("malformed"));
    }
}
