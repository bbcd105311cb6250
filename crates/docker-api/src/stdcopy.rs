//! Docker's framing of stdout and stderr on one connection (`stdcopy`).
//!
//! Each frame is a header of eight bytes, `[stream, 0, 0, 0, length as u32 big endian]`, and that many bytes.
//! Docker Engine API, section "Stream format" of `POST /containers/{id}/attach`.

use bytes::{BufMut, Bytes, BytesMut};

/// A stream that the output of a process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout = 1,
    Stderr = 2,
}

/// How output is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Bytes as they come: the process has a terminal.
    Raw,
    /// stdcopy frames.
    Multiplexed,
}

/// Length of a frame's header in bytes.
const HEADER: usize = 8;

impl From<engine::OutputStream> for Channel {
    fn from(stream: engine::OutputStream) -> Self {
        match stream {
            engine::OutputStream::Stdout => Self::Stdout,
            engine::OutputStream::Stderr => Self::Stderr,
        }
    }
}

impl Framing {
    /// A process with a terminal has one stream, so that nothing needs to be told apart.
    pub(crate) fn of(terminal: bool) -> Self {
        if terminal { Self::Raw } else { Self::Multiplexed }
    }

    /// `data` of `channel` in this framing.
    pub(crate) fn encode(self, channel: Channel, data: Bytes) -> Bytes {
        match self {
            Self::Raw => data,
            Self::Multiplexed => {
                let mut frame = BytesMut::with_capacity(HEADER + data.len());
                for part in data.chunks(u32::MAX as usize) {
                    frame.put_slice(&[channel as u8, 0, 0, 0]);
                    frame.put_u32(part.len() as u32);
                    frame.put_slice(part);
                }
                frame.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_stream_length_and_bytes() {
        let frame = Framing::Multiplexed.encode(Channel::Stderr, Bytes::from_static(b"oh"));
        assert_eq!(&frame[..], b"\x02\0\0\0\0\0\0\x02oh");
        let frame = Framing::Multiplexed.encode(Channel::Stdout, Bytes::from(vec![7; 0x10203]));
        assert_eq!(&frame[..8], &[1, 0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(frame.len(), 8 + 0x10203);
    }

    #[test]
    fn a_terminal_is_not_framed() {
        let data = Bytes::from_static(b"\x1b[1mhi");
        assert_eq!(Framing::of(true).encode(Channel::Stdout, data.clone()), data);
    }

    #[test]
    fn no_output_makes_no_frame() {
        assert!(
            Framing::of(false)
                .encode(Channel::Stdout, Bytes::new())
                .is_empty()
        );
    }
}
