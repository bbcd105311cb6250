//! Readiness of descriptors: one epoll instance, and descriptors that take care of their own registration.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use guest_protocol::{ProcessId, StreamKind};
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, Result};

pub(crate) use rustix::event::epoll::EventFlags;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    ControlListener,
    StreamListener,
    /// The connection that tells the host that the agent listens.
    Ready,
    /// The control connection.
    Control,
    /// A stream connection whose first frame has not come yet.
    Greeting(u32),
    /// The report of the process that is being started.
    Report,
    /// A process has ended.
    Process(ProcessId),
    /// The container's end of a stream.
    Pipe(ProcessId, StreamKind),
    /// The host's end of a stream.
    Connection(ProcessId, StreamKind),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, stream, id) = match self {
            Token::ControlListener => (0, 0, 0),
            Token::StreamListener => (1, 0, 0),
            Token::Ready => (2, 0, 0),
            Token::Control => (3, 0, 0),
            Token::Greeting(slot) => (4, 0, slot),
            Token::Report => (5, 0, 0),
            Token::Process(id) => (6, 0, id),
            Token::Pipe(id, stream) => (7, pack_stream(stream), id),
            Token::Connection(id, stream) => (8, pack_stream(stream), id),
        };
        (kind << 40) | (stream << 32) | u64::from(id)
    }

    fn unpack(data: u64) -> Option<Self> {
        let id = data as u32;
        let stream = match (data >> 32) & 0xff {
            0 => StreamKind::Stdin,
            1 => StreamKind::Stdout,
            _ => StreamKind::Stderr,
        };
        Some(match data >> 40 {
            0 => Token::ControlListener,
            1 => Token::StreamListener,
            2 => Token::Ready,
            3 => Token::Control,
            4 => Token::Greeting(id),
            5 => Token::Report,
            6 => Token::Process(id),
            7 => Token::Pipe(id, stream),
            8 => Token::Connection(id, stream),
            _ => return None,
        })
    }
}

fn pack_stream(stream: StreamKind) -> u64 {
    match stream {
        StreamKind::Stdin => 0,
        StreamKind::Stdout => 1,
        StreamKind::Stderr => 2,
    }
}

/// The epoll instance. Level-triggered: an event comes again until its cause is gone, so a handler may do one bounded
/// step and return, and no busy stream keeps the others waiting.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> Result<Rc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Rc::new(Self { epoll }))
    }

    /// Waits until something happens or the time is over, and says what.
    pub(crate) fn wait(
        &self,
        buffer: &mut Vec<epoll::Event>,
        timeout: Option<&Timespec>,
    ) -> Result<Vec<Token>> {
        buffer.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(buffer), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(buffer
            .iter()
            .filter_map(|event| Token::unpack(event.data.u64()))
            .collect())
    }
}

/// A descriptor that the poller watches for as long as it lives.
pub(crate) struct Watched {
    poller: Rc<Poller>,
    fd: OwnedFd,
    token: Token,
    interest: EventFlags,
}

impl Watched {
    /// Takes the descriptor, which must be non-blocking, and watches it for `interest`.
    pub(crate) fn new(poller: &Rc<Poller>, fd: OwnedFd, token: Token, interest: EventFlags) -> Result<Self> {
        let mut watched = Self {
            poller: Rc::clone(poller),
            fd,
            token,
            interest: EventFlags::empty(),
        };
        watched.watch(interest)?;
        Ok(watched)
    }

    /// Changes what its events are about.
    pub(crate) fn rename(&mut self, token: Token) -> Result<()> {
        self.token = token;
        let interest = std::mem::replace(&mut self.interest, EventFlags::empty());
        if interest.is_empty() {
            return Ok(());
        }
        epoll::modify(
            &self.poller.epoll,
            &self.fd,
            epoll::EventData::new_u64(token.pack()),
            interest,
        )?;
        self.interest = interest;
        Ok(())
    }

    /// Changes what it is watched for. Nothing means nothing at all: epoll would report a hang-up otherwise, again and
    /// again, while there is no room to read what came before it.
    pub(crate) fn watch(&mut self, interest: EventFlags) -> Result<()> {
        if interest == self.interest {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(self.token.pack());
        if interest.is_empty() {
            epoll::delete(&self.poller.epoll, &self.fd)?;
        } else if self.interest.is_empty() {
            epoll::add(&self.poller.epoll, &self.fd, data, interest)?;
        } else {
            epoll::modify(&self.poller.epoll, &self.fd, data, interest)?;
        }
        self.interest = interest;
        Ok(())
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    /// A process that is being started holds copies of all descriptors until its exec, so closing alone would leave
    /// the registration behind.
    fn drop(&mut self) {
        if !self.interest.is_empty() {
            let _ = epoll::delete(&self.poller.epoll, &self.fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_packing() {
        let tokens = [
            Token::ControlListener,
            Token::StreamListener,
            Token::Ready,
            Token::Control,
            Token::Greeting(u32::MAX),
            Token::Report,
            Token::Process(u32::MAX),
            Token::Pipe(7, StreamKind::Stderr),
            Token::Connection(u32::MAX, StreamKind::Stdin),
        ];
        for token in tokens {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }
}
