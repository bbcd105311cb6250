//! Connections: HTTP/1.1 on a unix socket, one task each.
//!
//! A connection and everything it waits for live in one task: a follower of logs, a waiter, an attached terminal.
//! When the client goes, hyper drops the handler or the body it is sending, and nothing stays behind. A handler that
//! takes the raw connection leaves a [`Session`] in the [`SessionSlot`]; the same task runs it after the 101.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{HeaderName, HeaderValue, SERVER};
use axum::http::{Request, Response, Uri};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tower_service::Service;

use crate::version::{self, ApiVersion};

/// How long a client may take to send the head of a request; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest head of a request and the read buffer of a connection, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;
/// The pause after `accept` failed, which is nearly always for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that is no longer HTTP.
pub(crate) struct RawConnection {
    /// The socket.
    pub(crate) stream: UnixStream,
    /// What the client sent after its request and was read with it.
    pub(crate) early: Bytes,
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

/// Serves `router` on `listener` until `stop` is ready; then every connection is closed.
pub(crate) async fn serve(listener: UnixListener, router: Router, stop: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a connection failed");
                }
            }
        }
    }
}

async fn serve_connection(stream: UnixStream, router: Router) {
    let slot = SessionSlot::default();
    let service = {
        let slot = slot.clone();
        hyper::service::service_fn(move |request| Box::pin(answer(router.clone(), slot.clone(), request)))
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown()
        .await;
    match (served, slot.take()) {
        (Ok(parts), Some(session)) => {
            let stream = parts.io.into_inner();
            let early = parts.read_buf;
            session(RawConnection { stream, early }).await;
        }
        (Ok(_), None) => {}
        (Err(error), _) => tracing::debug!(%error, "a connection to the API ended early"),
    }
}

/// Routes one request and gives every response the headers of Docker's version middleware.
async fn answer(
    mut router: Router,
    slot: SessionSlot,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let routed = version::negotiate(request.uri().path()).map(|(version, path)| (version, path.to_owned()));
    let mut response = match routed {
        Ok((version, path)) => {
            set_path(request.uri_mut(), &path);
            request.extensions_mut().insert(version);
            request.extensions_mut().insert(slot);
            router.call(request).await?
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    let version = HeaderValue::from_str(&ApiVersion::NEWEST.to_string());
    headers.extend(version.map(|version| (HeaderName::from_static("api-version"), version)));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(crate::SERVER_HEADER));
    Ok(response)
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
