//! What a client says first on the listening socket: `CONNECT <port>\n`.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, recv};

/// The longest greeting, in bytes.
const LONGEST: usize = "CONNECT 4294967295\n".len();

/// What has arrived of a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The whole line: connect to this port.
    Port(u32),
    /// Not yet a line.
    Incomplete,
    /// No greeting, or the client is gone.
    Invalid,
}

/// Looks at what `stream` has received, and takes the greeting out of it once it is whole. What follows it is left in
/// the socket: it belongs to the connection. Does not block.
pub fn read(mut stream: &UnixStream) -> io::Result<Greeting> {
    let mut line = [0; LONGEST];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (len, _) = match recv(stream.as_fd(), &mut line[..], flags) {
        Ok(received) => received,
        Err(errno) if io::Error::from(errno).kind() == ErrorKind::WouldBlock => {
            return Ok(Greeting::Incomplete);
        }
        Err(errno) => return Err(errno.into()),
    };
    let greeting = parse(&line[..len]);
    if let Greeting::Port(_) = greeting {
        let end = line
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(len, |newline| newline + 1);
        stream.read_exact(&mut line[..end])?;
    }
    Ok(greeting)
}

fn parse(received: &[u8]) -> Greeting {
    if received.is_empty() {
        return Greeting::Invalid;
    }
    let Some(end) = received.iter().position(|&byte| byte == b'\n') else {
        return if received.len() < LONGEST {
            Greeting::Incomplete
        } else {
            Greeting::Invalid
        };
    };
    let line = std::str::from_utf8(&received[..end]).ok();
    let port = line.and_then(|line| line.strip_prefix("CONNECT "));
    let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|port| port.parse().ok())
        .map_or(Greeting::Invalid, Greeting::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_port_is_a_greeting() {
        assert_eq!(parse(b"CONNECT 52\n"), Greeting::Port(52));
        assert_eq!(parse(b"CONNECT 4294967295\n"), Greeting::Port(u32::MAX));
        assert_eq!(parse(b"CONNECT 1\nand data"), Greeting::Port(1));
    }

    #[test]
    fn a_beginning_is_incomplete() {
        for beginning in [&b"C"[..], b"CONNECT", b"CONNECT 5"] {
            assert_eq!(parse(beginning), Greeting::Incomplete);
        }
    }

    #[test]
    fn anything_else_is_invalid() {
        let others = [
            &b""[..],
            b"\n",
            b"CONNECT\n",
            b"CONNECT \n",
            b"CONNECT -1\n",
            b"CONNECT +1\n",
            b"CONNECT 4294967296\n",
            b"connect 1\n",
            b"GET / HTTP/1.1\r\nHo",
            b"CONNECT 1 \n",
            b"CONNECT \xff\n",
            b"xxxxxxxxxxxxxxxxxxx",
        ];
        for other in others {
            assert_eq!(
                parse(other),
                Greeting::Invalid,
                "{:?}",
                String::from_utf8_lossy(other)
            );
        }
    }
}
