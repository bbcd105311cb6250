//! Points in time that filters name, and when images were made.

use jiff::{SignedDuration, Timestamp};

use crate::error::ApiError;
use crate::filters::Filters;

/// When an image was made (RFC 3339), if it says so and it can be read.
pub(crate) fn created(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// The moment that the filter `until` names: a time, seconds since 1970, or how long ago (`10m`, `1h30m`).
pub(crate) fn parse_until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    let [text] = filters.values("until") else {
        return match filters.values("until") {
            [] => Ok(None),
            _ => Err(ApiError::bad_request("more than one until filter specified")),
        };
    };
    parse(text, now).map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid filter 'until={text}': write 2026-11-20T17:39:55Z, seconds since 1970, or how long ago as 10m or 1h30m"
        ))
    })
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    if let Ok(day) = text.parse::<jiff::civil::DateTime>() {
        return day
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let seconds = text.split('.').next()?.parse().ok()?;
        return Timestamp::from_second(seconds).ok();
    }
    let ago: SignedDuration = text.parse().ok()?;
    now.checked_sub(ago).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        parse(text, Timestamp::from_second(1_000_000).unwrap()).map(Timestamp::as_second)
    }

    #[test]
    fn times_seconds_and_durations_are_understood() {
        assert_eq!(at("10m"), Some(999_400));
        assert_eq!(at("1h30m"), Some(994_600));
        assert_eq!(at("1970-01-02T00:00:00Z"), Some(86_400));
        assert_eq!(at("1970-01-02"), Some(86_400));
        assert_eq!(at("1763660395"), Some(1_763_660_395));
        for text in ["", "yesterday", "10x", "99999999999999999999"] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
