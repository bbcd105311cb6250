//! Length-prefixed frames.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame either side accepts, in bytes without its length.
pub const MAX_FRAME: usize = 1 << 20;

/// A frame that could not be made or understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is over [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The bytes are not a message of the expected type.
    #[error("a frame does not hold a valid message: {0}")]
    Malformed(#[from] postcard::Error),
    /// The connection failed, or ended inside a frame.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The message as a frame, its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4])?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// The number of bytes that follow this length prefix.
pub fn decode_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME {
        Err(FrameError::TooLong(length))
    } else {
        Ok(length)
    }
}

/// The message in the bytes of a frame, without its length.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(payload)?)
}

/// Writes one message and flushes.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// Reads one message; `None` when the connection ended between frames.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = [0; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match from.read(&mut prefix[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut payload = vec![0; decode_length(prefix)?];
    from.read_exact(&mut payload)?;
    Ok(Some(decode(&payload)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Request};

    #[test]
    fn a_written_frame_reads_back() {
        let request = Request {
            id: 7,
            call: Call::State,
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &request).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read_frame::<Request>(&mut from).unwrap(), Some(request));
        assert!(read_frame::<Request>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let mut bytes = encode(&Request {
            id: 7,
            call: Call::State,
        })
        .unwrap();
        bytes.pop();
        assert!(matches!(
            read_frame::<Request>(&mut bytes.as_slice()),
            Err(FrameError::Io(_))
        ));
        assert!(matches!(
            read_frame::<Request>(&mut [1u8, 0].as_slice()),
            Err(FrameError::Io(_))
        ));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_memory_is_taken() {
        let bytes = u32::MAX.to_le_bytes();
        assert!(matches!(
            read_frame::<Request>(&mut bytes.as_slice()),
            Err(FrameError::TooLong(_))
        ));
    }
}
