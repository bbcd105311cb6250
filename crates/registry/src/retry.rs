//! When what failed is tried again.

use std::time::Duration;

use crate::config::RetryPolicy;
use crate::error::RegistryError;

/// Failures in a row, and the pause after each.
pub(crate) struct Retries {
    policy: RetryPolicy,
    failures: u32,
    timeouts: u32,
}

/// Time-outs in a row after which a server hangs for good.
const MAX_TIMEOUTS: u32 = 2;

impl Retries {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            timeouts: 0,
        }
    }

    /// How many tries have failed since the last progress.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Something was gained since the last failure.
    pub(crate) fn progress(&mut self) {
        (self.failures, self.timeouts) = (0, 0);
    }

    /// The pause before the next try.
    ///
    /// # Errors
    /// The error itself, if it would come again or was seen often enough.
    pub(crate) fn pause_after(
        &mut self,
        error: RegistryError,
    ) -> Result<(Duration, RegistryError), RegistryError> {
        self.failures += 1;
        let timed_out = matches!(error, RegistryError::TimedOut { .. });
        self.timeouts = if timed_out { self.timeouts + 1 } else { 0 };
        let often = self.failures >= self.policy.attempts || self.timeouts >= MAX_TIMEOUTS;
        if often || !error.is_transient() {
            return Err(error.after_attempts(self.failures));
        }
        let asked = match &error {
            RegistryError::TooManyRequests { retry_after, .. } => *retry_after,
            _ => None,
        };
        match asked {
            Some(wait) if wait > self.policy.longest_retry_after => Err(error),
            Some(wait) => Ok((wait, error)),
            None => Ok((self.pause(), error)),
        }
    }

    fn pause(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.saturating_sub(1));
        self.policy
            .first_pause
            .saturating_mul(doubled)
            .min(self.policy.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(3),
            longest_retry_after: Duration::from_secs(9),
        }
    }

    fn refused() -> RegistryError {
        RegistryError::Refused {
            what: "try".into(),
            host: "a".into(),
        }
    }

    fn busy(seconds: u64) -> RegistryError {
        RegistryError::TooManyRequests {
            what: "try".into(),
            registry: "a".into(),
            detail: Default::default(),
            retry_after: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_end() {
        let mut retries = Retries::new(policy());
        let pauses: Vec<_> = (0..3)
            .map(|_| retries.pause_after(refused()).unwrap().0.as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 3]);
        assert!(retries.pause_after(refused()).is_err());
        retries.progress();
        assert_eq!(retries.pause_after(refused()).unwrap().0.as_secs(), 1);
    }

    #[test]
    fn the_server_says_how_long_within_a_bound() {
        let mut retries = Retries::new(policy());
        assert_eq!(retries.pause_after(busy(9)).unwrap().0.as_secs(), 9);
        assert!(retries.pause_after(busy(10)).is_err());
    }

    #[test]
    fn a_server_that_hangs_is_asked_twice() {
        let hang = || RegistryError::TimedOut {
            what: "try".into(),
            registry: "a".into(),
            missing: "no answer",
            waited: Duration::from_secs(60),
        };
        let mut retries = Retries::new(policy());
        assert!(retries.pause_after(hang()).is_ok());
        assert!(retries.pause_after(hang()).is_err());
    }

    #[test]
    fn what_would_come_again_is_not_tried_again() {
        let mut retries = Retries::new(policy());
        let refusal = RegistryError::Forbidden {
            what: "try".into(),
            registry: "a".into(),
            detail: Default::default(),
        };
        assert!(retries.pause_after(refusal).is_err());
    }
}
