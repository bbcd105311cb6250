//! Points in time as `--since` and `--until` take them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use thiserror::Error;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A text that names no time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "invalid time {0:?}: write 2026-11-20T17:39:55Z, seconds since 1970, or how long ago as 10m or 1h30m"
)]
pub(crate) struct TimeError(String);

/// Seconds since the epoch, now.
pub(crate) fn now() -> i64 {
    now_nanos().div_euclid(NANOS_PER_SECOND) as i64
}

fn now_nanos() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as i128
}

/// As the API wants it: seconds since the epoch, with nine digits after the point. The client
/// reads durations and dates because it knows the user's clock and time zone.
pub(crate) fn api_time(text: &str) -> Result<String, TimeError> {
    parse(text, now_nanos(), &TimeZone::system()).ok_or_else(|| TimeError(text.to_owned()))
}

/// A duration as people write it, such as `1m30s`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let nanos = duration(text).and_then(|nanos| i64::try_from(nanos).ok());
    nanos.ok_or_else(|| format!("invalid duration {text:?}: write 500ms, 10s or 1m30s"))
}

fn parse(text: &str, now: i128, zone: &TimeZone) -> Option<String> {
    let nanos = match duration(text) {
        Some(ago) => now.checked_sub(ago)?,
        None if is_number(text) => return Some(text.to_owned()),
        None => date(text, zone)?.as_nanosecond(),
    };
    let (seconds, fraction) = (
        nanos.div_euclid(NANOS_PER_SECOND),
        nanos.rem_euclid(NANOS_PER_SECOND),
    );
    Some(format!("{seconds}.{fraction:09}"))
}

fn is_number(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}

/// With a zone as it is, without one in this place; hours, minutes and seconds may be left out.
fn date(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    if let Some(day) = text.strip_suffix('Z') {
        return day
            .parse::<DateTime>()
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp());
    }
    let local: DateTime = text.parse().ok()?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

/// Go's durations: `1h30m`, `1.5s`, `200ms`; nanoseconds.
fn duration(text: &str) -> Option<i128> {
    let mut rest = text;
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit: i64 = match &rest[..end] {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3600 * 1_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add((number * unit as f64) as i128)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        parse(text, 1_000_000 * NANOS_PER_SECOND, &zone)
    }

    #[test]
    fn durations_count_back_from_now() {
        assert_eq!(at("10m").as_deref(), Some("999400.000000000"));
        assert_eq!(at("1h30m0.5s").as_deref(), Some("994599.500000000"));
    }

    #[test]
    fn dates_are_of_their_zone_or_of_this_place() {
        assert_eq!(at("1970-01-02T00:00:00Z").as_deref(), Some("86400.000000000"));
        assert_eq!(
            at("1970-01-02T00:00:00.25+01:00").as_deref(),
            Some("82800.250000000")
        );
        assert_eq!(at("1970-01-02T00:00:00").as_deref(), Some("79200.000000000"));
        assert_eq!(at("1970-01-02T00:00").as_deref(), Some("79200.000000000"));
        assert_eq!(at("1970-01-02").as_deref(), Some("79200.000000000"));
    }

    #[test]
    fn seconds_go_through_as_they_are() {
        assert_eq!(at("1763660395").as_deref(), Some("1763660395"));
        assert_eq!(at("1763660395.5").as_deref(), Some("1763660395.5"));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "yesterday", "10", "5x", "1.2.3"] {
            let expected = (text == "10").then(|| "10".to_owned());
            assert_eq!(at(text), expected, "{text}");
        }
    }
}
