//! A netlink socket for the kernel's interfaces, addresses and routes: netlink(7), rtnetlink(7).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Room for an answer: a header, a code, and the request that it is about.
const ANSWER: usize = 4096;
/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The length of `struct nlattr`, which precedes a value.
const ATTRIBUTE_HEADER: usize = 4;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;

/// What the kernel is asked to do.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// One of a kind (`RTM_*`), with further flags (`NLM_F_*`) and the header that its kind has.
    pub(super) fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        // The length is filled in when it is sent; a sequence number and a port are not needed.
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(header);
        Self(bytes)
    }

    /// Adds an attribute. Values are names, addresses and numbers: a few bytes each.
    pub(super) fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(attribute.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// Adds an attribute that is a string, which ends with a zero byte.
    pub(super) fn with_text(self, attribute: u16, text: &str) -> Self {
        self.with(attribute, &[text.as_bytes(), &[0]].concat())
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// A socket that belongs to one network namespace.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one in the network namespace that this thread is in now; it stays there wherever the thread goes.
    pub(super) fn open() -> Result<Self, Errno> {
        // The protocol that is none is NETLINK_ROUTE.
        let protocol = None;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        );
        socket.map(Self)
    }

    /// Has the kernel do something.
    pub(super) fn ask(&self, request: Request) -> Result<(), Errno> {
        send(&self.0, &request.finish(), SendFlags::empty())?;
        // The kernel has answered before `send` returns, so there is nothing to wait for.
        let mut answer = [0; ANSWER];
        let (_, count) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        outcome(answer.get(..count).unwrap_or(&answer))
    }
}

/// What an answer says: a `struct nlmsgerr`, whose code is 0 if nothing is wrong.
fn outcome(answer: &[u8]) -> Result<(), Errno> {
    let (header, body) = answer.split_at_checked(HEADER).ok_or(Errno::PROTO)?;
    let code = body.first_chunk().ok_or(Errno::PROTO)?;
    if i32::from(u16::from_ne_bytes([header[4], header[5]])) != libc::NLMSG_ERROR {
        return Err(Errno::PROTO);
    }
    match i32::from_ne_bytes(*code) {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_lengths_are_not() {
        let request = Request::new(16, 0x400, &[9; 4])
            .with_text(3, "eth0")
            .with(4, &[7; 4]);
        #[rustfmt::skip]
        let expected = [
            40, 0, 0, 0, 16, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9,
            9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0,
            8, 0, 4, 0, 7, 7, 7, 7,
        ];
        assert_eq!(request.finish(), expected);
    }

    #[test]
    fn an_answer_is_a_code_or_no_answer() {
        let answer = |kind: u8, code: i32| {
            let mut bytes = vec![36, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert_eq!(outcome(&answer(2, 0)), Ok(()));
        assert_eq!(outcome(&answer(2, -17)), Err(Errno::EXIST));
        assert_eq!(outcome(&answer(3, 0)), Err(Errno::PROTO));
        assert_eq!(outcome(&answer(2, 0)[..19]), Err(Errno::PROTO));
        assert_eq!(outcome(&[]), Err(Errno::PROTO));
    }
}
