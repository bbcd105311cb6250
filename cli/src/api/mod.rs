//! A client of the Docker Engine API over a unix socket, or over TCP.
//!
//! Connections are kept and reused; nothing is sent that a command did not ask for, so that a
//! short command costs as few round trips as the API allows.

mod address;
mod connect;
mod content;
mod endpoint;
mod error;
mod hijack;
mod last_word;
mod target;
mod tls;

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use address::Address;
pub(crate) use content::Content;
pub(crate) use endpoint::{Directories, Endpoint, HostOptions, config_folder};
pub(crate) use error::ApiError;
pub(crate) use hijack::{Hijacked, Input, Output};
pub(crate) use target::{API_VERSION, Target};
pub(crate) use tls::TlsSpec;

use content::Body;

type Sender = SendRequest<Body>;

/// A client of one daemon.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    idle: RefCell<Vec<Sender>>,
}

/// A response whose body is still to come, and the connection it comes over.
pub(crate) struct Pending {
    target: Target,
    method: Method,
    response: Response<Incoming>,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            idle: RefCell::default(),
        }
    }

    /// The same daemon, but none is started when it is not there.
    pub(crate) fn without_start(&self) -> Self {
        Self::new(Endpoint {
            named: true,
            ..self.endpoint.clone()
        })
    }

    /// The daemon's address.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// GET, with a JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: Target) -> Result<T, ApiError> {
        let body = self.get_bytes(target.clone()).await?;
        decode(&target, &body)
    }

    /// GET, with the answer as it came.
    pub(crate) async fn get_bytes(&self, target: Target) -> Result<Bytes, ApiError> {
        self.exchange(Method::GET, target, Bytes::new()).await
    }

    /// POST without a body, with an answer that says nothing but success.
    pub(crate) async fn post_empty(&self, target: Target) -> Result<(), ApiError> {
        self.exchange(Method::POST, target, Bytes::new()).await.map(drop)
    }

    /// POST without a body, with a JSON answer.
    pub(crate) async fn post_for<T: DeserializeOwned>(&self, target: Target) -> Result<T, ApiError> {
        let received = self.exchange(Method::POST, target.clone(), Bytes::new()).await?;
        decode(&target, &received)
    }

    /// POST of a JSON body, with a JSON answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: Target,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let sent = encode(&target, body)?;
        let received = self.exchange(Method::POST, target.clone(), sent).await?;
        decode(&target, &received)
    }

    /// POST of a JSON body, with an answer that says nothing but success.
    pub(crate) async fn post_only(&self, target: Target, body: &impl Serialize) -> Result<(), ApiError> {
        let sent = encode(&target, body)?;
        self.exchange(Method::POST, target, sent).await.map(drop)
    }

    /// DELETE.
    pub(crate) async fn delete(&self, target: Target) -> Result<(), ApiError> {
        self.exchange(Method::DELETE, target, Bytes::new())
            .await
            .map(drop)
    }

    /// DELETE, with a JSON answer.
    pub(crate) async fn delete_for<T: DeserializeOwned>(&self, target: Target) -> Result<T, ApiError> {
        let received = self
            .exchange(Method::DELETE, target.clone(), Bytes::new())
            .await?;
        decode(&target, &received)
    }

    /// Sends a request whose answer takes its time and returns when its head is here: what the
    /// daemon had to register for it is then registered.
    pub(crate) async fn begin(&self, method: Method, target: Target) -> Result<Pending, ApiError> {
        self.begin_with(method, target, Content::default()).await
    }

    /// Like [`Client::begin`], with more than a target.
    pub(crate) async fn begin_with(
        &self,
        method: Method,
        target: Target,
        content: Content,
    ) -> Result<Pending, ApiError> {
        let request = request(&method, &target, content);
        let (response, _sender) = self.send(request, &method, &target).await?;
        Pending {
            target,
            method,
            response,
        }
        .accepted()
        .await
    }

    /// POST that turns the connection into a byte stream in both directions (Docker Engine API,
    /// "Attach to a container", section "Hijacking").
    pub(crate) async fn hijack(
        &self,
        target: Target,
        body: Option<&impl Serialize>,
    ) -> Result<Hijacked, ApiError> {
        let sent = match body {
            Some(body) => encode(&target, body)?,
            None => Bytes::new(),
        };
        let mut request = request(&Method::POST, &target, Content::json(sent));
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
        let (response, _sender) = self.send(request, &Method::POST, &target).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let pending = Pending {
                target: target.clone(),
                method: Method::POST,
                response,
            };
            pending.accepted().await?;
            return Err(ApiError::NotHijacked {
                target: target.to_string(),
                status,
            });
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|source| ApiError::Transport {
                method: Method::POST,
                target: target.to_string(),
                source,
            })?;
        Hijacked::new(upgraded).map_err(|source| ApiError::Stream {
            target: target.to_string(),
            source,
        })
    }

    async fn exchange(&self, method: Method, target: Target, body: Bytes) -> Result<Bytes, ApiError> {
        let (response, sender) = self
            .send(request(&method, &target, Content::json(body)), &method, &target)
            .await?;
        let pending = Pending {
            target,
            method,
            response,
        };
        let body = pending.accepted().await?.body().await?;
        self.idle.borrow_mut().push(sender);
        Ok(body)
    }

    async fn send(
        &self,
        mut request: Request<Body>,
        method: &Method,
        target: &Target,
    ) -> Result<(Response<Incoming>, Sender), ApiError> {
        let transport = |source| ApiError::transport(&self.endpoint.address, method, target, source);
        // The daemon may close an idle connection at any time: hyper hands the request back when
        // nothing of it was sent.
        loop {
            let kept = self.idle.borrow_mut().pop();
            let Some(mut sender) = kept else { break };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(transport(error.into_error())),
                },
            }
        }
        let mut sender = connect::connect(&self.endpoint).await?;
        let response = sender.send_request(request).await.map_err(transport)?;
        Ok((response, sender))
    }
}

impl Pending {
    /// The whole body. For answers whose size the daemon bounds.
    pub(crate) async fn body(self) -> Result<Bytes, ApiError> {
        let Self {
            target,
            method,
            response,
        } = self;
        match response.into_body().collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(source) => Err(ApiError::Transport {
                method,
                target: target.to_string(),
                source,
            }),
        }
    }

    /// The whole body, as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let target = self.target.clone();
        decode(&target, &self.body().await?)
    }

    /// The next part of the body; nothing at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|source| ApiError::Transport {
                method: self.method.clone(),
                target: self.target.to_string(),
                source,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The answer's media type, empty when it has none.
    pub(crate) fn content_type(&self) -> &str {
        let value = self.response.headers().get(header::CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    async fn accepted(self) -> Result<Self, ApiError> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let body = self.body().await?;
        Err(ApiError::Refused {
            status,
            message: refusal(status, &body),
        })
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorResponse {
        message: String,
    }
    match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(response) => response.message,
        Err(_) if body.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(body).trim_end().to_owned(),
    }
}

fn request(method: &Method, target: &Target, content: Content) -> Request<Body> {
    let mut request = Request::new(content.body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.uri();
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static("hull"));
    headers.extend(content.headers);
    request
}

fn encode(target: &Target, body: &impl Serialize) -> Result<Bytes, ApiError> {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(bytes.into()),
        Err(source) => Err(ApiError::Decode {
            target: target.to_string(),
            source,
        }),
    }
}

fn decode<T: DeserializeOwned>(target: &Target, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|source| ApiError::Decode {
        target: target.to_string(),
        source,
    })
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
