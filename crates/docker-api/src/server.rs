//! Connections: HTTP/1.1 on any kind of listener, one task each.
//!
//! A connection and everything it waits for live in one task: a follower of logs, a waiter, an attached terminal.
//! When the client goes, hyper drops the handler or the body it is sending, and nothing stays behind. A handler that
//! takes the raw connection leaves a [`Session`] in the [`SessionSlot`]; the same task runs it after the 101.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header::{HeaderName, HeaderValue, SERVER};
use axum::http::{Request, Response, Uri};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::error::ApiError;
use crate::hang_up::HangUp;
use crate::listener::{Connection, HandshakeError, Incoming as Client, Listener};
use crate::metrics::Requests;
use crate::version::{self, ApiVersion};

/// How long a request is worked on that a client left behind when it went.
const LEFT_REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to close its side of a connection that was answered for the last time.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// The largest head of a request and the read buffer of a connection, in bytes.
const HEAD_LIMIT: usize = 320 * 1024;
/// The pause after `accept` failed, which is nearly always for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long nothing is said of clients that are not served after one was told of.
const REFUSALS_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is no longer HTTP.
pub(crate) struct RawConnection {
    /// The socket.
    pub(crate) stream: Connection,
    /// What the client sent after its request and was read with it.
    pub(crate) early: Bytes,
    /// Tells when the client has gone.
    pub(crate) hang_up: HangUp,
}

/// What runs on a connection after its 101 response.
pub(crate) type Session = Box<dyn FnOnce(RawConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Where a handler leaves the session that takes its connection over.
#[derive(Clone, Default)]
pub(crate) struct SessionSlot(Arc<Mutex<Option<Session>>>);

impl SessionSlot {
    pub(crate) fn set(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is behind a listener.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) router: Router,
    /// Where requests are counted, if they are.
    pub(crate) requests: Option<Requests>,
}

/// Serves all `listeners` until `stop` is ready; then every connection is closed.
pub(crate) async fn serve(
    listeners: impl Iterator<Item = (Listener, Service)>,
    stop: impl Future<Output = ()>,
) {
    // Each has a task of its own, so that a full port keeps no other waiting. Dropping the set ends them all, and with
    // them the connections.
    let mut serving = JoinSet::new();
    for (listener, service) in listeners {
        serving.spawn(serve_listener(listener, service));
    }
    tokio::select! {
        () = stop => {}
        Some(ended) = serving.join_next() => {
            if let Err(error) = ended {
                tracing::error!(%error, "the task of a listener failed");
            }
        }
    }
}

async fn serve_listener(listener: Listener, service: Service) {
    let mut connections = JoinSet::new();
    let mut refusals = Refusals::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(client) => {
                    connections.spawn(serve_client(client, service.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => refusals.tell(&refused),
                Err(error) => tracing::error!(%error, "the task of a connection failed"),
            }
        }
    }
}

/// Says who is not served, but not as often as strangers may want to fill the log.
#[derive(Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    fn tell(&mut self, refused: &HandshakeError) {
        if self.told.is_some_and(|told| told.elapsed() < REFUSALS_PAUSE) {
            self.untold += 1;
            return;
        }
        tracing::warn!(before = self.untold, "a client is not served: {refused}");
        *self = Self {
            told: Some(Instant::now()),
            untold: 0,
        };
    }
}

async fn serve_client(client: Client, service: Service) -> Result<(), HandshakeError> {
    serve_connection(client.establish().await?, service).await;
    Ok(())
}

async fn serve_connection(stream: Connection, service: Service) {
    let Ok(hang_up) = HangUp::watch(&stream) else {
        tracing::warn!("cannot watch a connection to the API: no file descriptor is left");
        return;
    };
    let patience = stream.patience();
    let slot = SessionSlot::default();
    let service = {
        let slot = slot.clone();
        hyper::service::service_fn(move |request| Box::pin(answer(service.clone(), slot.clone(), request)))
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let mut serving = std::pin::pin!(serving);
    // Who waits for something else than its client would not see that it has gone: a place for an archive, a process that takes
    // no input.
    let served = tokio::select! {
        served = &mut serving => served,
        () = hang_up.wait() => match tokio::time::timeout(LEFT_REQUEST_TIME, &mut serving).await {
            Ok(served) => served,
            Err(_) => return,
        },
    };
    match (served, slot.take()) {
        (Ok(parts), Some(session)) => {
            let stream = parts.io.into_inner();
            let early = parts.read_buf;
            session(RawConnection {
                stream,
                early,
                hang_up,
            })
            .await;
        }
        (Ok(parts), None) => end(parts.io.into_inner()).await,
        (Err(error), _) => tracing::debug!(%error, "a connection to the API ended early"),
    }
}

/// Ends a connection. What the client still sends of a body that was refused is read for a moment: closing with that unread would
/// make its kernel throw the answer away.
async fn end(mut stream: Connection) {
    // TLS says that it ends: without that the client could not tell the end from a cut.
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut unread = [0; 4096];
        while matches!(stream.read(&mut unread).await, Ok(count) if count > 0) {}
    };
    let _ = tokio::time::timeout(LINGER_TIME, drain).await;
}

/// Routes one request and gives every response the headers of Docker's version middleware.
async fn answer(
    mut service: Service,
    slot: SessionSlot,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let method = request.method().clone();
    let routed = check_path(request.uri().path())
        .and_then(version::negotiate)
        .map(|(version, path)| (version, path.to_owned()));
    let mut response = match routed {
        Ok((version, path)) => {
            set_path(request.uri_mut(), &path);
            request.extensions_mut().insert(version);
            request.extensions_mut().insert(slot);
            service.router.call(request).await?
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Some(requests) = &service.requests {
        requests.count(&method, response.status());
    }
    let headers = response.headers_mut();
    let version = HeaderValue::from_str(&ApiVersion::NEWEST.to_string());
    headers.extend(version.map(|version| (HeaderName::from_static("api-version"), version)));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(crate::SERVER_HEADER));
    Ok(response)
}

/// Refuses a path that stands for no text.
fn check_path(path: &str) -> Result<&str, ApiError> {
    match percent_decode_str(path).decode_utf8() {
        Ok(_) => Ok(path),
        Err(_) => Err(ApiError::bad_request(format!("the path `{path}` is no UTF-8"))),
    }
}

/// Puts another path into `uri` and keeps its query.
fn set_path(uri: &mut Uri, path: &str) {
    if uri.path() == path {
        return;
    }
    let path = if path.is_empty() { "/" } else { path };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // A part of a valid URI is one; what does not parse again stays as it was and finds no route.
    if let Ok(shorter) = path_and_query.parse() {
        *uri = shorter;
    }
}
