//! A limit of time as people write it: `90s`, `30m`, `1h30m`.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

/// More than no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TimeLimit(Duration);

/// A text that is no limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid limit of time {0:?}: write 90s, 30m or 1h30m")]
pub(crate) struct TimeLimitError(String);

impl FromStr for TimeLimit {
    type Err = TimeLimitError;

    fn from_str(text: &str) -> Result<Self, TimeLimitError> {
        let parsed = text.parse::<SignedDuration>().ok();
        let time = parsed.and_then(|time| Duration::try_from(time).ok());
        let time = time.filter(|time| !time.is_zero());
        time.map(Self).ok_or_else(|| TimeLimitError(text.to_owned()))
    }
}

impl TryFrom<String> for TimeLimit {
    type Error = TimeLimitError;

    fn try_from(text: String) -> Result<Self, TimeLimitError> {
        text.parse()
    }
}

impl From<TimeLimit> for Duration {
    fn from(limit: TimeLimit) -> Self {
        limit.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_with_units() {
        let seconds = |text: &str| text.parse().map(|limit: TimeLimit| limit.0.as_secs_f64());
        for (text, expected) in [
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("30m", 1800.0),
            ("1.5s", 1.5),
            ("500ms", 0.5),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "90", "0s", "-1m", "1h ago", "x", "1y"] {
            assert_eq!(seconds(text), Err(TimeLimitError(text.to_owned())), "{text}");
        }
    }
}
