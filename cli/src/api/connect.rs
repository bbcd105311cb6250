//! A new connection to the daemon, whatever carries it.

use std::io;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::endpoint::Endpoint;
use super::error::ApiError;
use super::last_word::LastWord;
use super::tls::{TlsSpec, server_name};
use super::{Sender, nobody_listens};
use crate::bootstrap;

/// Connects, and starts the daemon before that where it is ours to start.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Sender, ApiError> {
    let refused = |source| ApiError::connect(&endpoint.address, source);
    let sender = match &endpoint.address {
        Address::Unix(socket) => {
            if !endpoint.named {
                bootstrap::renew_machine(socket).await?;
            }
            let stream = match UnixStream::connect(socket).await {
                Err(error) if !endpoint.named && nobody_listens(&error) => {
                    bootstrap::start_daemon(socket).await?;
                    UnixStream::connect(socket).await
                }
                connected => connected,
            };
            shake_hands(stream.map_err(refused)?).await
        }
        Address::Tcp(address) => {
            let tls = endpoint.tls.as_ref().map(TlsSpec::load).transpose()?;
            let (host, port) = (address.host.as_str(), address.port(tls.is_some()));
            let stream = TcpStream::connect((host, port)).await.map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            match tls {
                None => shake_hands(stream).await,
                Some(config) => {
                    let stream = secure(stream, host, config).await?;
                    shake_hands(stream.map_err(refused)?).await
                }
            }
        }
    };
    sender.map_err(|error| refused(io::Error::other(error)))
}

async fn secure(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>, ApiError> {
    let name = server_name(host)?;
    Ok(TlsConnector::from(config).connect(name, stream).await)
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, hyper::Error> {
    let (sender, connection) = http1::handshake(TokioIo::new(LastWord::new(stream))).await?;
    // A broken connection shows as an error of the request that uses it.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}
