//! How long a build may take.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::BuildError;
use super::underway::Underway;

/// How long a build may take, from when its context is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimit {
    /// How long.
    pub time: Duration,
    /// Whose limit it is.
    pub owner: LimitOwner,
}

/// Who has set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOwner {
    /// Whoever asks for the build.
    Request,
    /// The daemon's configuration.
    Daemon,
}

/// A limit that has begun.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    limit: Option<(TimeLimit, Instant)>,
    underway: Underway,
}

impl Deadline {
    /// From now on.
    pub(super) fn begin(limit: Option<TimeLimit>, underway: Underway) -> Self {
        // One that is beyond what clocks tell is none.
        let limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit.time)?)));
        Self { limit, underway }
    }

    /// Drops what is not done in time.
    pub(super) async fn hold<T>(
        &self,
        work: impl Future<Output = Result<T, BuildError>>,
    ) -> Result<T, BuildError> {
        let Some((limit, end)) = self.limit else {
            return work.await;
        };
        // What it was at is only known until it is dropped.
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout_at(end, &mut work).await {
            Ok(done) => done,
            Err(_) => Err(self.too_slow(limit)),
        }
    }

    fn too_slow(&self, limit: TimeLimit) -> BuildError {
        let longest = self.underway.longest();
        let span = longest.as_ref().map(|longest| longest.span);
        let error = BuildError::TooSlow {
            limit,
            at: longest.map(|longest| (longest.what, longest.time)),
        };
        match span {
            Some(span) => error.at(span),
            None => error,
        }
    }
}

/// What is told of a build that takes too long.
pub(super) fn message(limit: &TimeLimit, at: Option<&(String, Duration)>) -> String {
    let time = shown(limit.time);
    let at = at.map(|(what, time)| format!(": it had been at {what} for {}", shown(*time)));
    let more = match limit.owner {
        LimitOwner::Request => "give it more with --timeout",
        LimitOwner::Daemon => {
            "the daemon gives no build more; raise \"build-time-limit\" in its configuration"
        }
    };
    format!(
        "the build was given up after {time}, its limit of time{}; {more}",
        at.unwrap_or_default()
    )
}

/// For people: `1h 2m 3s`, and parts of a second only where there are few.
fn shown(time: Duration) -> String {
    let unit = match time.as_secs() {
        0..10 => 100,
        _ => 1000,
    };
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_millis(millis / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_how_long_and_who_may_allow_more_is_told() {
        let limit = |owner| TimeLimit {
            time: Duration::from_secs(3600),
            owner,
        };
        let at = ("step 3/7 (RUN make)".to_owned(), Duration::from_millis(542_901));
        assert_eq!(
            message(&limit(LimitOwner::Request), Some(&at)),
            "the build was given up after 1h, its limit of time: it had been at step 3/7 (RUN make) for 9m 2s; \
             give it more with --timeout"
        );
        assert_eq!(
            message(&limit(LimitOwner::Daemon), None),
            "the build was given up after 1h, its limit of time; the daemon gives no build more; raise \
             \"build-time-limit\" in its configuration"
        );
        assert_eq!(shown(Duration::from_millis(1_549)), "1s 500ms");
        assert_eq!(shown(Duration::from_millis(42)), "0s");
    }
}
