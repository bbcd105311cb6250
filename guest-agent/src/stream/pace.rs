//! How often a stream is read.

use std::time::{Duration, Instant};

/// A process that writes in small pieces is read at most this often.
const REST: Duration = Duration::from_millis(1);
/// A read of this many bytes is worth its price.
const WORTHWHILE: usize = 32 * 1024;

/// Lets small pieces gather in the pipe. Each would otherwise wake the agent and cost a packet to the host of its own,
/// which is dear where one CPU serves both sides and an exit to the host takes its time. The first piece never waits,
/// so a conversation is as quick as ever.
#[derive(Default)]
pub(crate) struct Pace {
    last_read: Option<Instant>,
    rest_until: Option<Instant>,
}

impl Pace {
    /// `count` bytes were read just now.
    pub(crate) fn after_read(&mut self, now: Instant, count: usize) {
        let last = self.last_read.replace(now);
        let hurried = last.is_some_and(|last| now.saturating_duration_since(last) < REST);
        self.rest_until = (hurried && count < WORTHWHILE).then(|| now + REST);
    }

    /// Until when the stream is left alone.
    pub(crate) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Ends a rest that is over; whether there was one.
    pub(crate) fn end_rest(&mut self, now: Instant) -> bool {
        self.rest_until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(100);

    #[test]
    fn only_small_pieces_in_quick_succession_make_it_rest() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.after_read(now, 1);
        assert_eq!(pace.rest_until(), None, "the first piece");
        pace.after_read(now + SOON, 1);
        assert_eq!(pace.rest_until(), Some(now + SOON + REST));
        pace.after_read(now + SOON * 2, WORTHWHILE);
        assert_eq!(pace.rest_until(), None, "much at once");
        pace.after_read(now + REST * 3, 1);
        assert_eq!(pace.rest_until(), None, "after a pause");
    }

    #[test]
    fn a_rest_ends_once_and_in_time() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.after_read(now, 1);
        pace.after_read(now, 1);
        assert!(!pace.end_rest(now + SOON));
        assert!(pace.end_rest(now + REST));
        assert!(!pace.end_rest(now + REST));
        assert_eq!(pace.rest_until(), None);
    }
}
