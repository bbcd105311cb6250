//! Durations for people, rounded as Docker rounds them, and times of this place.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `About an hour ago`, for a time in seconds since the epoch.
pub(crate) fn ago(then: i64, now: i64) -> String {
    format!("{} ago", human(now.saturating_sub(then).max(0)))
}

fn human(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, everything else is cut off.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2026-11-20 17:39:55 +0000 UTC`, in the local time zone.
pub(crate) fn local_time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => {
            let zoned = time.to_zoned(TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
        }
        Err(_) => seconds.to_string(),
    }
}

/// `2026-11-20T17:39:55+01:00`, in the local time zone.
pub(crate) fn local_time_rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => {
            let zoned = time.to_zoned(TimeZone::system());
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            match text.strip_suffix("+00:00") {
                Some(utc) => format!("{utc}Z"),
                None => text,
            }
        }
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn every_range_reads_as_docker_writes_it() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (46 * 60, "46 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds} s");
        }
    }
}
