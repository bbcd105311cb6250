//! Reading ahead: what one thread reads and decompresses, another takes in.

use std::io::{self, Read};
use std::panic;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

/// The length of a piece in bytes.
const PIECE: usize = 256 * 1024;
/// Pieces that wait at most.
const WAITING: usize = 3;

/// A buffer and how much of it is filled.
type Piece = (Vec<u8>, usize);

/// Has `consume` read on a thread of its own what this thread reads from `input`, a few pieces ahead. It need not read
/// all. An error is that there is no thread to be had; then nothing was read.
pub(crate) fn read_ahead<T: Send>(
    input: impl Read,
    consume: impl FnOnce(&mut AheadReader) -> T + Send,
) -> io::Result<T> {
    let (filled, pieces) = mpsc::sync_channel(WAITING);
    let (empty, emptied) = mpsc::channel();
    let mut reader = AheadReader {
        pieces,
        empty,
        piece: (Vec::new(), 0),
        next: 0,
    };
    thread::scope(|scope| {
        let consumer = thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || consume(&mut reader))?;
        feed(input, &filled, &emptied);
        drop(filled);
        consumer.join().or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Reads to the end, to the first error, or until nobody wants it any more.
fn feed(mut input: impl Read, filled: &SyncSender<io::Result<Piece>>, emptied: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = emptied.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let (length, end) = fill(&mut input, &mut buffer);
        if length > 0 && filled.send(Ok((buffer, length))).is_err() {
            return;
        }
        match end {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                // A reader that has gone needs no error.
                let _ = filled.send(Err(error));
                return;
            }
        }
    }
}

/// Fills the buffer: how much of it, and whether the end has come.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => return (length, Ok(true)),
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Err(error)),
        }
    }
    (length, Ok(false))
}

/// What another thread reads. After an error comes the end.
pub(crate) struct AheadReader {
    pieces: Receiver<io::Result<Piece>>,
    empty: Sender<Vec<u8>>,
    piece: Piece,
    /// Of the piece, what was handed out.
    next: usize,
}

impl Read for AheadReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.next == self.piece.1 {
            // The sender goes when the end has come.
            let Ok(piece) = self.pieces.recv() else {
                return Ok(0);
            };
            let (used, _) = std::mem::replace(&mut self.piece, piece?);
            self.next = 0;
            if !used.is_empty() {
                // When all has been read nobody wants it back.
                let _ = self.empty.send(used);
            }
        }
        let (buffer, length) = &self.piece;
        let count = into.len().min(length - self.next);
        into[..count].copy_from_slice(&buffer[self.next..][..count]);
        self.next += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_arrives_whole_and_in_order() {
        for length in [0, 1, PIECE, 9 * PIECE + 7] {
            let input: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let read = read_ahead(input.as_slice(), |reader| {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).map(|_| read)
            });
            assert_eq!(read.unwrap().unwrap(), input);
        }
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let (read, error) = read_ahead(b"ab".chain(Broken), |reader| {
            let mut read = Vec::new();
            let error = reader.read_to_end(&mut read).unwrap_err();
            (read, error)
        })
        .unwrap();
        assert_eq!(
            (read.as_slice(), error.kind()),
            (&b"ab"[..], io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn a_reader_that_has_enough_ends_it_and_no_more_than_the_pieces_is_read() {
        let mut endless = io::repeat(7).take(u64::MAX);
        let byte = read_ahead(&mut endless, |reader| {
            let mut byte = [0];
            reader.read_exact(&mut byte).map(|()| byte)
        });
        assert_eq!(byte.unwrap().unwrap(), [7]);
        let read = u64::MAX - endless.limit();
        assert!(read <= ((WAITING + 2) * PIECE) as u64, "{read} bytes were read");
    }

    #[test]
    fn a_panic_of_the_reader_is_handed_on() {
        let caught = panic::catch_unwind(|| read_ahead(io::repeat(7), |_| panic!("on the other thread")));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"on the other thread"));
    }
}
