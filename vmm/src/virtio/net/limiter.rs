//! How much may pass in one direction: token buckets for bytes and for frames.

use std::time::{Duration, Instant};

use vm_spec::{Rate, RateLimit};

/// Both buckets of a direction.
///
/// A frame passes when neither is empty, and then takes what it weighs: a bucket may get below zero, so that a frame larger than
/// the bucket passes, too, and the next one waits for longer.
pub(super) struct Limiter {
    bytes: Option<Bucket>,
    frames: Option<Bucket>,
}

impl Limiter {
    /// Full buckets.
    pub(super) fn new(limit: &RateLimit, now: Instant) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Self {
            bytes: bucket(limit.bytes),
            frames: bucket(limit.frames),
        }
    }

    /// How long the next frame has to wait, if it has to.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let buckets = [&mut self.bytes, &mut self.frames].into_iter().flatten();
        buckets.filter_map(|bucket| bucket.wait(now)).max()
    }

    /// A frame of `bytes` passes.
    pub(super) fn take(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes as i128);
        }
        if let Some(bucket) = &mut self.frames {
            bucket.take(1);
        }
    }
}

/// Parts of a token: one of them comes in a nanosecond at a rate of one token a second, so that nothing is lost by rounding.
const PARTS: i128 = 1_000_000_000;

struct Bucket {
    /// Tokens in a second, and at most.
    per_second: i128,
    burst: i128,
    /// Parts of tokens. Less than a token is empty.
    parts: i128,
    filled: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        let burst = i128::from(rate.burst.max(1));
        Self {
            per_second: i128::from(rate.per_second.max(1)),
            burst,
            parts: burst * PARTS,
            filled: now,
        }
    }

    fn take(&mut self, tokens: i128) {
        self.parts -= tokens * PARTS;
    }

    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.filled).as_nanos() as i128;
        self.filled = now;
        let filled = passed.saturating_mul(self.per_second).saturating_add(self.parts);
        self.parts = filled.min(self.burst * PARTS);
        let missing = PARTS - self.parts;
        let nanoseconds = (missing + self.per_second - 1) / self.per_second;
        (missing > 0).then(|| Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(bytes: Option<(u64, u64)>, frames: Option<(u64, u64)>, now: Instant) -> Limiter {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        let limit = RateLimit {
            bytes: bytes.map(rate),
            frames: frames.map(rate),
        };
        Limiter::new(&limit, now)
    }

    #[test]
    fn a_burst_passes_at_once_and_what_follows_at_the_rate() {
        let start = Instant::now();
        let mut limiter = limiter(None, Some((100, 3)), start);
        for _ in 0..3 {
            assert_eq!(limiter.wait(start), None);
            limiter.take(1500);
        }
        assert_eq!(limiter.wait(start), Some(Duration::from_millis(10)));
        let later = start + Duration::from_millis(10);
        assert_eq!(limiter.wait(later), None);
        limiter.take(1500);
        assert_eq!(limiter.wait(later), Some(Duration::from_millis(10)));
        // Idle time fills the bucket, and no more than that.
        let much_later = start + Duration::from_secs(3600);
        for _ in 0..3 {
            assert_eq!(limiter.wait(much_later), None);
            limiter.take(1);
        }
        assert!(limiter.wait(much_later).is_some());
    }

    #[test]
    fn a_frame_larger_than_the_bucket_passes_and_the_next_pays_for_it() {
        let start = Instant::now();
        let mut limiter = limiter(Some((1000, 100)), None, start);
        assert_eq!(limiter.wait(start), None);
        limiter.take(1100);
        let wait = limiter.wait(start).unwrap();
        assert_eq!(wait, Duration::from_millis(1001));
        assert_eq!(limiter.wait(start + wait), None);
    }

    #[test]
    fn the_fuller_bucket_waits_for_the_emptier_and_without_any_nothing_waits() {
        let start = Instant::now();
        let mut both = limiter(Some((1000, 1000)), Some((10, 1)), start);
        both.take(1);
        assert_eq!(both.wait(start), Some(Duration::from_millis(100)));
        let mut none = limiter(None, None, start);
        none.take(usize::MAX >> 12);
        assert_eq!(none.wait(start), None);
    }
}
