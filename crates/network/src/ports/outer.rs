//! Ports of the real host, where hulld runs in a helper VM.
//!
//! A unix socket leads to the outer host. A connection takes one line of JSON, a [`Listen`], and answers with one:
//! `{"ok":true}`, or `{"error":"text"}`. The port is held for as long as the connection is open.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Listen, PortError};

/// How long the outer host has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer, in bytes with its newline.
const MAX_ANSWER: usize = 4096;

/// The host around a helper VM, which listens on its ports for hulld.
#[derive(Clone, Debug)]
pub struct OuterHost {
    socket: PathBuf,
}

/// A port that the outer host holds, until this is dropped.
#[derive(Debug)]
pub struct Held {
    _connection: UnixStream,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Answer {
    Ok {
        ok: bool,
    },
    Error {
        error: String,
        /// What a program needs to know of it.
        #[serde(default)]
        kind: String,
    },
}

/// The kind of a refusal because the outer host has no such address.
const NO_ADDRESS: &str = "no-address";

impl OuterHost {
    /// The one that serves this socket.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Has the outer host listen, and waits at most 10 s for it.
    pub async fn hold(&self, listen: &Listen) -> Result<Held, PortError> {
        self.hold_within(listen, PATIENCE).await
    }

    async fn hold_within(&self, listen: &Listen, patience: Duration) -> Result<Held, PortError> {
        let asked = timeout(patience, self.ask(listen)).await;
        let asked = asked.unwrap_or_else(|_| {
            let reason = format!("no answer within {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        });
        match asked {
            Ok((connection, Answer::Ok { ok: true })) => Ok(Held {
                _connection: connection,
            }),
            Ok((_, Answer::Error { error, kind })) if kind == NO_ADDRESS => {
                Err(PortError::OuterNoAddress(error))
            }
            Ok((_, Answer::Error { error, .. })) => Err(PortError::OuterRefused(error)),
            Ok((_, Answer::Ok { ok: false })) => {
                Err(self.unreachable(listen, invalid("it refused without a reason")))
            }
            Err(source) => Err(self.unreachable(listen, source)),
        }
    }

    async fn ask(&self, listen: &Listen) -> io::Result<(UnixStream, Answer)> {
        let mut connection = UnixStream::connect(&self.socket).await?;
        let mut request = serde_json::to_vec(listen)?;
        request.push(b'\n');
        connection.write_all(&request).await?;
        let mut line = Vec::new();
        let limited = (&mut connection).take(MAX_ANSWER as u64);
        BufReader::new(limited).read_until(b'\n', &mut line).await?;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(match line.len() {
                MAX_ANSWER => invalid("its answer is too long"),
                _ => io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without an answer"),
            });
        };
        let answer = serde_json::from_slice(text);
        let answer = answer.map_err(|error| invalid(&format!("its answer is none: {error}")))?;
        Ok((connection, answer))
    }

    fn unreachable(&self, listen: &Listen, source: io::Error) -> PortError {
        PortError::OuterUnreachable {
            host: listen.socket_address(),
            socket: self.socket.clone(),
            source,
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::*;
    use crate::Protocol;

    struct Fake {
        _folder: TempDir,
        listener: UnixListener,
        host: OuterHost,
    }

    impl Fake {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("ports.sock");
            Self {
                listener: UnixListener::bind(&socket).unwrap(),
                host: OuterHost::new(&socket),
                _folder: folder,
            }
        }

        /// Answers one request with these bytes; gives back the request and the connection.
        async fn answer(&self, bytes: &[u8]) -> (String, UnixStream) {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            stream.read_line(&mut request).await.unwrap();
            let mut stream = stream.into_inner();
            // Who asked may have hung up, which is for the test to see.
            let _ = stream.write_all(bytes).await;
            (request, stream)
        }
    }

    fn listen() -> Listen {
        Listen {
            protocol: Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port: 8080,
        }
    }

    #[tokio::test]
    async fn a_port_is_held_until_it_is_dropped() {
        let fake = Fake::new();
        let listen = listen();
        let (held, (request, mut connection)) =
            tokio::join!(fake.host.hold(&listen), fake.answer(b"{\"ok\":true}\n"));
        assert_eq!(
            request,
            "{\"protocol\":\"tcp\",\"address\":\"0.0.0.0\",\"port\":8080}\n"
        );
        let held = held.unwrap();
        let early = timeout(Duration::from_millis(100), connection.read(&mut [0])).await;
        assert!(early.is_err(), "the connection is not open any more");
        drop(held);
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_the_outer_host_says_is_passed_on() {
        let fake = Fake::new();
        let listen = listen();
        let answer = b"{\"error\":\"Bind for 0.0.0.0:8080 failed: port is already allocated\"}\n";
        let (held, _) = tokio::join!(fake.host.hold(&listen), fake.answer(answer));
        let error = held.unwrap_err().to_string();
        assert_eq!(error, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    }

    #[tokio::test]
    async fn an_outer_host_that_makes_no_sense_is_an_error() {
        let fake = Fake::new();
        let listen = listen();
        let long = [b'x'; 2 * MAX_ANSWER];
        let answers: [(&[u8], &str); 6] = [
            (b"{\"ok\":false}\n", "without a reason"),
            (b"{}\n", "its answer is none"),
            (b"{\"ok\":true,\"error\":\"both\"}\n", "its answer is none"),
            (b"\xff\n", "its answer is none"),
            (b"{\"ok\":tr", "it hung up"),
            (&long, "its answer is too long"),
        ];
        for (answer, expected) in answers {
            let hang_up = async { drop(fake.answer(answer).await) };
            let (held, ()) = tokio::join!(fake.host.hold(&listen), hang_up);
            let error = held.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn an_outer_host_that_is_silent_or_not_there_is_an_error() {
        let mut fake = Fake::new();
        let patience = Duration::from_millis(100);
        let error = fake.host.hold_within(&listen(), patience).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 100ms"), "{error}");
        fake.host = OuterHost::new(Path::new("/proc/hull-ports.sock"));
        let error = fake.host.hold(&listen()).await.unwrap_err().to_string();
        let expected = "cannot ask for port 0.0.0.0:8080 of the host that this machine runs on, at /proc/hull-ports.sock: ";
        assert!(error.starts_with(expected), "{error}");
    }
}
