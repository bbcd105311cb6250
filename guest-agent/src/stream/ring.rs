//! The bytes of an output stream that the host has not acknowledged.

/// A bounded window onto an endless stream of bytes, addressed by offsets from the stream's beginning.
pub(crate) struct Ring {
    /// Empty until the first byte: most streams of most processes stay silent.
    buffer: Vec<u8>,
    capacity: usize,
    /// Where in `buffer` the byte at offset `start` is.
    head: usize,
    start: u64,
    length: usize,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            buffer: Vec::new(),
            capacity,
            head: 0,
            start: 0,
            length: 0,
        }
    }

    /// The offset of the oldest byte that is kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The offset after the newest byte.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.length as u64)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    /// Where new bytes go: the second slice after the first. [`Ring::filled`] tells how many came.
    pub(crate) fn vacant(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.buffer.is_empty() {
            // Zeroed memory fresh from the kernel: a page is only taken when bytes reach it.
            self.buffer = vec![0; self.capacity];
        }
        let tail = self.head + self.length;
        if tail < self.capacity {
            let (front, back) = self.buffer.split_at_mut(tail);
            (back, &mut front[..self.head])
        } else {
            (&mut self.buffer[tail - self.capacity..self.head], &mut [])
        }
    }

    /// `count` bytes were written to the vacant slices, in their order.
    pub(crate) fn filled(&mut self, count: usize) {
        assert!(
            count <= self.capacity - self.length,
            "more bytes than there was room for"
        );
        self.length += count;
    }

    /// The bytes from `offset` on, as many as lie in one piece; none at the end or for an offset that is not kept.
    pub(crate) fn bytes_from(&self, offset: u64) -> &[u8] {
        let skip = match offset.checked_sub(self.start) {
            Some(skip) if skip < self.length as u64 => skip as usize,
            _ => return &[],
        };
        let from = self.head + skip;
        let length = self.length - skip;
        if from < self.capacity {
            &self.buffer[from..(from + length).min(self.capacity)]
        } else {
            &self.buffer[from - self.capacity..from - self.capacity + length]
        }
    }

    /// Drops every byte before `offset`; an offset that is already dropped changes nothing.
    pub(crate) fn release(&mut self, offset: u64) {
        let count = offset.saturating_sub(self.start).min(self.length as u64) as usize;
        self.start += count as u64;
        self.length -= count;
        // An empty ring begins again at the front, on the pages that are already there.
        self.head = if self.length == 0 {
            0
        } else {
            (self.head + count) % self.capacity
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, bytes: &[u8]) {
        let (first, second) = ring.vacant();
        let split = bytes.len().min(first.len());
        first[..split].copy_from_slice(&bytes[..split]);
        second[..bytes.len() - split].copy_from_slice(&bytes[split..]);
        ring.filled(bytes.len());
    }

    fn collect(ring: &Ring, mut offset: u64) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = ring.bytes_from(offset);
            if bytes.is_empty() {
                return all;
            }
            all.extend_from_slice(bytes);
            offset += bytes.len() as u64;
        }
    }

    #[test]
    fn bytes_are_kept_until_they_are_released() {
        let mut ring = Ring::new(8);
        push(&mut ring, b"hello");
        assert_eq!(collect(&ring, 0), b"hello");
        assert_eq!(collect(&ring, 3), b"lo");
        ring.release(2);
        assert_eq!((ring.start(), ring.end()), (2, 5));
        assert_eq!(collect(&ring, 2), b"llo");
        assert_eq!(ring.bytes_from(1), b"");
        assert_eq!(ring.bytes_from(5), b"");
        assert_eq!(ring.bytes_from(u64::MAX), b"");
    }

    #[test]
    fn the_window_wraps_around_its_buffer() {
        let mut ring = Ring::new(8);
        push(&mut ring, b"abcdef");
        ring.release(4);
        push(&mut ring, b"ghijkl");
        assert!(ring.is_full());
        assert_eq!(collect(&ring, 4), b"efghijkl");
        assert_eq!(collect(&ring, 9), b"jkl");
        let (first, second) = ring.vacant();
        assert!(first.is_empty() && second.is_empty());
    }

    #[test]
    fn an_acknowledgement_that_is_old_or_too_far_does_no_harm() {
        let mut ring = Ring::new(8);
        push(&mut ring, b"abcd");
        ring.release(3);
        ring.release(1);
        assert_eq!(ring.start(), 3);
        ring.release(u64::MAX);
        assert_eq!((ring.start(), ring.end()), (4, 4));
    }

    #[test]
    fn a_long_stream_through_a_small_window_arrives_unchanged() {
        let source: Vec<u8> = (0..10_000u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut ring = Ring::new(61);
        let mut received = Vec::new();
        let mut taken = 0;
        let mut step = 1;
        while received.len() < source.len() {
            let room = {
                let (a, b) = ring.vacant();
                a.len() + b.len()
            };
            let count = room.min(step).min(source.len() - taken);
            push(&mut ring, &source[taken..taken + count]);
            taken += count;
            let bytes = ring.bytes_from(received.len() as u64);
            let count = bytes.len().min(1 + step / 2);
            received.extend_from_slice(&bytes[..count]);
            ring.release(received.len() as u64);
            step = step % 40 + 3;
        }
        assert_eq!(received, source);
    }
}
