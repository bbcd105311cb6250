//! What a command prints.

use builder::{Event, Reporter};
use bytes::{Bytes, BytesMut};
use sandbox::OutputStream;

/// The output of one command that is told, in bytes.
const MOST_OUTPUT: u64 = 16 << 20;

/// Tells what a stream brings, and reads it all.
pub(super) async fn carry(mut stream: OutputStream, is_error: bool, reporter: &Reporter) {
    let (mut offset, mut buffer) = (0u64, BytesMut::new());
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                let bytes = buffer.freeze();
                if !bytes.is_empty() && offset < MOST_OUTPUT {
                    reporter.tell(Event::Output { bytes, is_error });
                }
                return;
            }
            Ok(count) => {
                let was_told = offset < MOST_OUTPUT;
                offset = offset.saturating_add(count as u64);
                let bytes = whole(&mut buffer);
                if bytes.is_empty() {
                    continue;
                }
                if offset < MOST_OUTPUT {
                    reporter.tell(Event::Output { bytes, is_error });
                } else if was_told {
                    let text = format!("[output clipped, {} MiB reached]\n", MOST_OUTPUT >> 20);
                    reporter.tell_line(text);
                }
                // A failure is the end of the microVM, which the next read tells.
                let _ = stream.acknowledge(offset).await;
            }
        }
    }
}

/// Takes what ends with a whole character: the rest of one that is cut comes with the next piece.
fn whole(buffer: &mut BytesMut) -> Bytes {
    let end = match std::str::from_utf8(buffer) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => buffer.len(),
    };
    buffer.split_to(end).freeze()
}
