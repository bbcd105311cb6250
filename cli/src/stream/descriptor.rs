//! Standard input, output and error without a buffer of our own, so that a byte that came is a
//! byte that went.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};

/// One of the process's standard descriptors. Reads and writes block even when somebody who
/// shares the open file (a terminal, say) has made it non-blocking.
#[derive(Debug)]
pub(crate) struct Descriptor(File);

impl Descriptor {
    /// Standard input.
    pub(crate) fn stdin() -> io::Result<Self> {
        Self::duplicate(io::stdin().as_fd())
    }

    /// Standard output.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::duplicate(io::stdout().as_fd())
    }

    /// Standard error.
    pub(crate) fn stderr() -> io::Result<Self> {
        Self::duplicate(io::stderr().as_fd())
    }

    fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(descriptor.try_clone_to_owned()?.into()))
    }

    fn wait_for(&self, events: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, events)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Descriptor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for(PollFlags::IN)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for(PollFlags::OUT)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard input as a file to be sent.
pub(crate) fn stdin_file() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;

    #[test]
    fn a_non_blocking_descriptor_is_written_and_read_to_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut writer = Descriptor::duplicate(ours.as_fd()).unwrap();
        let mut reader = Descriptor::duplicate(theirs.as_fd()).unwrap();
        drop((ours, theirs));
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert_eq!(received, expected);
    }
}
