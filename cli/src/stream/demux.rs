//! Splits Docker's multiplexed stream: a header of eight bytes (stream, three zeros, length in
//! big endian) before each piece (Docker Engine API, "Attach to a container", "Stream format").

use std::io;

const HEADER_LENGTH: usize = 8;

/// Where a piece belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The container's standard output.
    Stdout,
    /// The container's standard error, and the daemon's own complaints in mid-stream.
    Stderr,
}

/// The state between two reads, which may cut header and payload anywhere.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    header: [u8; HEADER_LENGTH],
    header_filled: usize,
    /// Bytes of the current payload that have not come yet.
    missing: usize,
}

impl Demux {
    /// Hands every piece of payload in `bytes` to `sink`, without copying it.
    ///
    /// # Errors
    /// What `sink` fails with; `InvalidData` when the stream is no multiplexed one.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Channel, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.missing == 0 {
                let wanted = HEADER_LENGTH - self.header_filled;
                let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
                self.header[self.header_filled..self.header_filled + head.len()].copy_from_slice(head);
                self.header_filled += head.len();
                bytes = rest;
                if self.header_filled < HEADER_LENGTH {
                    break;
                }
                let [_, _, _, _, length @ ..] = self.header;
                self.missing = u32::from_be_bytes(length) as usize;
                self.header_filled = 0;
            }
            let channel = self.channel()?;
            let (payload, rest) = bytes.split_at(self.missing.min(bytes.len()));
            if !payload.is_empty() {
                sink(channel, payload)?;
            }
            self.missing -= payload.len();
            bytes = rest;
        }
        Ok(())
    }

    /// Whether the stream may end here: between two pieces.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0 && self.header_filled == 0
    }

    fn channel(&self) -> io::Result<Channel> {
        match self.header[0] {
            0 | 1 => Ok(Channel::Stdout),
            2 | 3 => Ok(Channel::Stderr),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the daemon's stream has a piece for stream {other}, which there is not"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn split(bytes: &[u8], step: usize) -> io::Result<(Vec<u8>, Vec<u8>, bool)> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut demux = Demux::default();
        for part in bytes.chunks(step) {
            demux.push(part, |channel, payload| {
                match channel {
                    Channel::Stdout => out.extend(payload),
                    Channel::Stderr => err.extend(payload),
                }
                Ok(())
            })?;
        }
        Ok((out, err, demux.is_complete()))
    }

    #[test]
    fn pieces_cut_at_every_place_arrive_whole() {
        let bytes = [
            piece(1, b"hello "),
            piece(2, b"oops"),
            piece(1, b""),
            piece(1, b"world"),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let (out, err, complete) = split(&bytes, step).unwrap();
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello world"[..], &b"oops"[..])
            );
            assert!(complete);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>()], 0..200),
            step in 1..64_usize,
        ) {
            let whole = split(&bytes, bytes.len().max(1)).ok();
            prop_assert_eq!(split(&bytes, step).ok(), whole.clone());
            if let Some((out, err, _)) = whole {
                prop_assert!(out.len() + err.len() <= bytes.len());
            }
        }

        #[test]
        fn pieces_of_any_content_arrive_whole(
            pieces in prop::collection::vec((1..3_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            step in 1..64_usize,
        ) {
            let bytes: Vec<u8> = pieces.iter().flat_map(|(stream, payload)| piece(*stream, payload)).collect();
            let of = |wanted| pieces.iter().filter(move |(stream, _)| *stream == wanted);
            let all = |wanted| of(wanted).flat_map(|(_, payload)| payload.clone()).collect::<Vec<u8>>();
            prop_assert_eq!(split(&bytes, step).unwrap(), (all(1), all(2), true));
        }
    }

    #[test]
    fn a_cut_piece_is_not_complete() {
        let bytes = piece(1, b"hello");
        let (out, _, complete) = split(&bytes[..10], 3).unwrap();
        assert_eq!(out, b"he");
        assert!(!complete);
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        let error = split(&piece(9, b"x"), 64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
