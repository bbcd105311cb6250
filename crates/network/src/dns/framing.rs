//! Messages on a TCP connection, each behind its length (RFC 1035, 4.2.2).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads a message into a buffer, which bounds its length.
pub(super) async fn read<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = usize::from(stream.read_u16().await?);
    let message = buffer.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
    stream.read_exact(message).await?;
    Ok(message)
}

pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // In one packet: there are readers that take no less.
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    stream.write_all(&bytes).await
}
