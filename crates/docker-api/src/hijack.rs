//! Streams of a process over a client's connection.
//!
//! A client that asks for an upgrade gets `101 UPGRADED`, and from then on the connection carries the process's
//! output one way and its input the other way; the client's half-close is the end of the input. A client that does not
//! ask gets `200 OK`: the body of the response is the output, the body of the request the input.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use bytes::{Bytes, BytesMut};
use engine::{AttachInput, AttachOutput, Attachment, EngineError, InputOutcome};
use futures_util::future::Either;
use futures_util::{Stream, StreamExt, stream};
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::error::ApiError;
use crate::listener::Connection;
use crate::server::{RawConnection, SessionSlot};
use crate::stdcopy::{Channel, Framing};
use crate::version::ApiVersion;

/// Bytes of input that are read at once.
const READ_SIZE: usize = 16 * 1024;
/// How long input that a client left behind when it went is given to the process.
const LEFT_INPUT_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to close its side after the output has ended. Closing first, with input unread, would
/// make the client's kernel report a reset instead of the end.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What an answer with streams depends on in the request.
pub(crate) struct StreamRequest {
    version: ApiVersion,
    upgrade: bool,
    slot: SessionSlot,
}

impl<S: Sync> FromRequestParts<S> for StreamRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            version: parts.extensions.get().copied().unwrap_or(ApiVersion::NEWEST),
            upgrade: parts.headers.contains_key(UPGRADE),
            slot: parts.extensions.get().cloned().unwrap_or_default(),
        })
    }
}

/// The media type of output in this framing. Before API 1.42 there was one for both.
pub(crate) fn content_type(version: ApiVersion, framing: Framing) -> HeaderValue {
    HeaderValue::from_static(match framing {
        Framing::Multiplexed if version >= ApiVersion::MULTIPLEXED_CONTENT_TYPE => {
            "application/vnd.docker.multiplexed-stream"
        }
        _ => "application/vnd.docker.raw-stream",
    })
}

impl StreamRequest {
    /// Answers the request, and connects the client with what `attach` yields.
    ///
    /// `attach` runs after the answer is on its way. When it fails, its message is all the output there is: the client
    /// has been told that a stream follows.
    pub(crate) fn respond(
        self,
        framing: Framing,
        request_body: Body,
        attach: impl Future<Output = Result<Attachment, EngineError>> + Send + 'static,
    ) -> Response<Body> {
        let content_type = content_type(self.version, framing);
        if !self.upgrade {
            let output = stream::once(async move {
                match attach.await {
                    Ok(attachment) => Either::Left(body_session(request_body, attachment, framing)),
                    Err(error) => Either::Right(stream::iter([Ok(failure(&error, framing))])),
                }
            });
            let mut response = Response::new(Body::from_stream(output.flatten()));
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            return response;
        }
        let mut response = self.take_over(move |connection| async move {
            match attach.await {
                Ok(attachment) => raw_session(connection, attachment, framing).await,
                Err(error) => refuse(connection.stream, &error, framing).await,
            }
        });
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    /// Answers a request for a connection that carries bytes in both directions, as they come.
    ///
    /// `connect` runs after the answer is on its way, until the client has gone; what it yields is connected with the client.
    pub(crate) fn connect<C>(
        self,
        connect: impl Future<Output = C> + Send + 'static,
    ) -> Result<Response<Body>, ApiError>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if !self.upgrade {
            let message = "this needs a connection of its own: ask for an upgrade to tcp";
            return Err(ApiError::bad_request(message));
        }
        Ok(self.take_over(move |connection| async move {
            let gone = connection.hang_up.wait();
            let other = tokio::select! {
                other = connect => other,
                () = gone => return,
            };
            // Who breaks the connection knows that it is broken.
            let _ = join(connection, other).await;
        }))
    }

    /// Has a session take the connection over.
    fn take_over<F>(&self, session: impl FnOnce(RawConnection) -> F + Send + 'static) -> Response<Body>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.slot
            .set(Box::new(move |connection| Box::pin(session(connection))));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .extensions_mut()
            .insert(ReasonPhrase::from_static(b"UPGRADED"));
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        response
    }
}

/// Carries bytes both ways until both have ended, or the client has gone and what it had sent is carried.
async fn join(connection: RawConnection, mut other: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = connection.stream;
    other.write_all(&connection.early).await?;
    let mut carried = std::pin::pin!(tokio::io::copy_bidirectional(&mut stream, &mut other));
    tokio::select! {
        carried = &mut carried => drop(carried?),
        () = connection.hang_up.wait() => {
            if let Ok(carried) = tokio::time::timeout(LEFT_INPUT_TIME, carried).await {
                carried?;
            }
        }
    }
    Ok(())
}

/// Connects a raw connection with a process until the process's output ends or the client is gone.
async fn raw_session(connection: RawConnection, attachment: Attachment, framing: Framing) {
    let (mut reader, mut writer) = tokio::io::split(connection.stream);
    let over = {
        let mut output = std::pin::pin!(send_output(&mut writer, attachment.output, framing));
        let mut input = std::pin::pin!(receive_input(&mut reader, connection.early, attachment.input));
        let mut gone = std::pin::pin!(connection.hang_up.wait());
        let mut input_ended = false;
        loop {
            tokio::select! {
                sent = &mut output => break sent.is_ok(),
                () = &mut input, if !input_ended => input_ended = true,
                () = &mut gone => {
                    if !input_ended {
                        let _ = tokio::time::timeout(LEFT_INPUT_TIME, &mut input).await;
                    }
                    break false;
                }
            }
        }
    };
    if over {
        finish(reader, writer).await;
    }
}

/// Tells the client why there are no streams after all.
async fn refuse(stream: Connection, error: &EngineError, framing: Framing) {
    let (reader, mut writer) = tokio::io::split(stream);
    if writer.write_all(&failure(error, framing)).await.is_ok() {
        finish(reader, writer).await;
    }
}

/// An error as output, as Docker writes it.
fn failure(error: &EngineError, framing: Framing) -> Bytes {
    tracing::debug!(%error, "a process could not be attached to");
    framing.encode(Channel::Stdout, Bytes::from(format!("{error}\r\n")))
}

async fn send_output(
    writer: &mut WriteHalf<Connection>,
    mut output: AttachOutput,
    framing: Framing,
) -> io::Result<()> {
    while let Some(chunk) = output.next().await {
        writer
            .write_all(&framing.encode(chunk.stream.into(), chunk.bytes))
            .await?;
        // TLS may keep the rest of a record otherwise.
        writer.flush().await?;
    }
    Ok(())
}

/// Hands over what the client sends until it says that there is no more. What nobody takes is read all the same, so
/// that the end is seen.
async fn receive_input(reader: &mut ReadHalf<Connection>, early: Bytes, mut input: Option<AttachInput>) {
    let mut piece = early;
    let mut buffer = BytesMut::new();
    loop {
        hand_over(&mut input, piece).await;
        buffer.reserve(READ_SIZE);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => piece = buffer.split().freeze(),
        }
    }
    if let Some(input) = input {
        input.close().await;
    }
}

/// Gives a piece of input to the process; `input` is gone once the process takes no more.
async fn hand_over(input: &mut Option<AttachInput>, piece: Bytes) {
    let Some(sink) = input else { return };
    if piece.is_empty() {
        return;
    }
    match sink.write(piece).await {
        InputOutcome::Taken => {}
        InputOutcome::Detached | InputOutcome::Closed => *input = None,
    }
}

/// Ends the output, and waits a little for the client to end its side.
async fn finish(mut reader: ReadHalf<Connection>, mut writer: WriteHalf<Connection>) {
    if writer.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut unread = [0; 1024];
        while matches!(reader.read(&mut unread).await, Ok(n) if n > 0) {}
    };
    let _ = tokio::time::timeout(LINGER_TIME, drain).await;
}

/// The output of a process as the body of a response, with the body of the request as its input.
fn body_session(
    request_body: Body,
    attachment: Attachment,
    framing: Framing,
) -> impl Stream<Item = io::Result<Bytes>> {
    let input: Pin<Box<dyn Future<Output = bool> + Send>> =
        Box::pin(receive_body(request_body, attachment.input));
    stream::unfold(
        (attachment.output, Some(input)),
        move |(mut output, mut input)| async move {
            loop {
                tokio::select! {
                    chunk = output.next() => {
                        let chunk = chunk?;
                        return Some((Ok(framing.encode(chunk.stream.into(), chunk.bytes)), (output, input)));
                    }
                    whole = pending_or(&mut input) => {
                        // A client that has gone in the middle of its input reads no output either.
                        if !whole {
                            return None;
                        }
                        input = None;
                    }
                }
            }
        },
    )
}

/// Waits for `future`, or for ever without one.
async fn pending_or<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Hands over a body; whether it came to its end.
async fn receive_body(body: Body, mut input: Option<AttachInput>) -> bool {
    let mut pieces = std::pin::pin!(body.into_data_stream());
    let mut whole = true;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => hand_over(&mut input, piece).await,
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    if let Some(input) = input {
        input.close().await;
    }
    whole
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn input_left_unread_does_not_turn_the_end_of_output_into_a_reset() {
        let (server, mut client) = UnixStream::pair().unwrap();
        client.write_all(b"nobody reads this").await.unwrap();
        let (reader, mut writer) = tokio::io::split(Connection::from(server));
        writer.write_all(b"the end").await.unwrap();
        let finished = tokio::spawn(finish(reader, writer));
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.unwrap();
        assert_eq!(output, b"the end");
        drop(client);
        tokio::time::timeout(LINGER_TIME / 2, finished)
            .await
            .expect("no lingering")
            .unwrap();
    }

    #[test]
    fn multiplexed_output_has_its_content_type_from_api_1_42_on() {
        let old = ApiVersion { major: 1, minor: 41 };
        assert_eq!(
            content_type(old, Framing::Multiplexed),
            "application/vnd.docker.raw-stream"
        );
        assert_eq!(
            content_type(ApiVersion::NEWEST, Framing::Multiplexed),
            "application/vnd.docker.multiplexed-stream"
        );
        assert_eq!(
            content_type(ApiVersion::NEWEST, Framing::Raw),
            "application/vnd.docker.raw-stream"
        );
    }
}
