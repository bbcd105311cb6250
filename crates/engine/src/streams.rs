use bytes::Bytes;

use crate::{InputOutcome, OutputChunk};

/// What the process of an [`Attachment`](crate::Attachment) writes. Memory for at most 256 KiB is taken by a client
/// that reads slowly; the process then waits.
#[derive(Debug)]
pub struct AttachOutput {}

impl AttachOutput {
    /// The next piece; `None` when there will be no more. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        unimplemented!()
    }
}

/// Where the input of an [`Attachment`](crate::Attachment) goes.
#[derive(Debug)]
pub struct AttachInput {}

impl AttachInput {
    /// Sends bytes; waits while the process does not read.
    pub async fn write(&mut self, bytes: Bytes) -> InputOutcome {
        let _ = bytes;
        unimplemented!()
    }

    /// The client has said that there is no more: the process reads end of file if the container's stdin ends with
    /// its first client.
    pub async fn close(self) {
        unimplemented!()
    }
}
