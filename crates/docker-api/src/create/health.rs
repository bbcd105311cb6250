//! The health check of a request and of an answer.

use std::time::Duration;

use bollard_stubs::models::HealthConfig;
use engine::{HealthCheck, HealthTest};

use super::not_negative;
use crate::error::ApiError;

/// Times are nanoseconds; 0 is what the image says.
pub(crate) fn read(config: HealthConfig) -> Result<HealthCheck, ApiError> {
    let time = |name, nanoseconds| -> Result<_, ApiError> {
        let nanoseconds = not_negative(name, nanoseconds)?;
        Ok((nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds)))
    };
    let retries = match not_negative("Retries", config.retries)? {
        0 => None,
        retries => Some(u32::try_from(retries).unwrap_or(u32::MAX)),
    };
    Ok(HealthCheck {
        test: HealthTest::parse(config.test.unwrap_or_default())?,
        interval: time("Interval", config.interval)?,
        timeout: time("Timeout", config.timeout)?,
        start_period: time("StartPeriod", config.start_period)?,
        start_interval: time("StartInterval", config.start_interval)?,
        retries,
    })
}

/// The same as [`read`] takes it; `None` where there is nothing to tell.
pub(crate) fn describe(check: &HealthCheck) -> Option<HealthConfig> {
    let time = |time: Option<Duration>| time.map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    (*check != HealthCheck::default()).then(|| HealthConfig {
        test: check.test.as_ref().map(HealthTest::words),
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: check.retries.map(i64::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_described_again() {
        let config = HealthConfig {
            test: Some(vec!["CMD".into(), "true".into()]),
            interval: Some(1_500_000_000),
            timeout: Some(0),
            retries: Some(2),
            ..HealthConfig::default()
        };
        let check = read(config.clone()).unwrap();
        assert_eq!(check.interval, Some(Duration::from_millis(1500)));
        let expected = HealthConfig {
            timeout: None,
            ..config
        };
        assert_eq!(describe(&check), Some(expected));
        assert_eq!(describe(&HealthCheck::default()), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let negative = HealthConfig {
            interval: Some(-1),
            ..HealthConfig::default()
        };
        assert!(read(negative).unwrap_err().message().contains("Interval"));
        for test in [&["EXEC", "true"][..], &["CMD"]] {
            let config = HealthConfig {
                test: Some(test.iter().map(|word| (*word).to_owned()).collect()),
                ..HealthConfig::default()
            };
            assert!(read(config).unwrap_err().message().contains("Test"), "{test:?}");
        }
    }
}
