//! Health checks: a command that is run in a container again and again, and whose exit code says whether it is well.

use std::collections::VecDeque;
use std::time::Duration;

use image_store::ImageHealthCheck;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EngineError, Result};

/// How many results are kept.
const KEEP_RESULTS: usize = 5;
/// The shortest time that may be asked for.
const SHORTEST: Duration = Duration::from_millis(1);

/// How to tell whether a container is well. What is `None` is said by the image or, where that says nothing, by Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// The command; `None` is the image's.
    pub test: Option<HealthTest>,
    /// From the end of a check to the next; 30 seconds.
    pub interval: Option<Duration>,
    /// How long a check may take; 30 seconds.
    pub timeout: Option<Duration>,
    /// How long after a start failures do not count; no time.
    pub start_period: Option<Duration>,
    /// The interval meanwhile; 5 seconds.
    pub start_interval: Option<Duration>,
    /// How many failures in a row make it unhealthy; 3.
    pub retries: Option<u32>,
}

/// The command of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthTest {
    /// There is none, whatever the image says.
    Off,
    /// A program and its arguments.
    Command(Vec<String>),
    /// What the container's shell is told.
    Shell(Vec<String>),
}

impl HealthTest {
    /// Docker's list: `NONE`, `CMD` or `CMD-SHELL`, and the command. An empty one says nothing.
    pub fn parse(mut words: Vec<String>) -> Result<Option<HealthTest>> {
        if words.is_empty() {
            return Ok(None);
        }
        let kind = words.remove(0);
        match kind.as_str() {
            "NONE" => Ok(Some(HealthTest::Off)),
            "CMD" | "CMD-SHELL" if words.is_empty() => Err(EngineError::Invalid(format!(
                "the Test of Healthcheck is {kind} without a command"
            ))),
            "CMD" => Ok(Some(HealthTest::Command(words))),
            "CMD-SHELL" => Ok(Some(HealthTest::Shell(words))),
            _ => Err(EngineError::Invalid(format!(
                "the Test of Healthcheck begins with `{}`: it is NONE, CMD or CMD-SHELL",
                kind.escape_debug()
            ))),
        }
    }

    /// The same as [`parse`](HealthTest::parse) takes it.
    pub fn words(&self) -> Vec<String> {
        let (kind, words) = match self {
            HealthTest::Off => ("NONE", &[][..]),
            HealthTest::Command(words) => ("CMD", &words[..]),
            HealthTest::Shell(words) => ("CMD-SHELL", &words[..]),
        };
        std::iter::once(kind.to_owned())
            .chain(words.iter().cloned())
            .collect()
    }
}

/// How well a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// In short.
    pub status: HealthStatus,
    /// How many checks have failed since the last that did not.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: VecDeque<HealthResult>,
}

/// Docker's words for health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// No check has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    /// The last check succeeded, or too few have failed since one did.
    Healthy,
    /// Too many checks have failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 is well; -1 is a check that could not be carried out or was not in time.
    pub exit_code: i32,
    /// The beginning of what it wrote, or why there is none.
    pub output: String,
}

impl HealthCheck {
    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        let times = [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ];
        match times
            .into_iter()
            .find(|(_, time)| time.is_some_and(|time| time < SHORTEST))
        {
            Some((name, _)) => Err(EngineError::Invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            ))),
            None => Ok(()),
        }
    }

    /// What an image says.
    pub(crate) fn of_image(check: ImageHealthCheck) -> HealthCheck {
        let time = |nanoseconds: i64| {
            u64::try_from(nanoseconds)
                .ok()
                .filter(|time| *time > 0)
                .map(Duration::from_nanos)
        };
        let test = HealthTest::parse(check.test).unwrap_or_else(|error| {
            // As with Docker, its containers run all the same.
            tracing::warn!(%error, "the health check of an image is left out");
            None
        });
        HealthCheck {
            test,
            interval: time(check.interval),
            timeout: time(check.timeout),
            start_period: time(check.start_period),
            start_interval: time(check.start_interval),
            retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0),
        }
    }

    /// What an image is to say; `None` where there is nothing to say.
    pub fn for_image(&self) -> Option<ImageHealthCheck> {
        let time = |time: Option<Duration>| {
            time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        };
        (*self != HealthCheck::default()).then(|| ImageHealthCheck {
            test: self.test.as_ref().map(HealthTest::words).unwrap_or_default(),
            interval: time(self.interval),
            timeout: time(self.timeout),
            start_period: time(self.start_period),
            start_interval: time(self.start_interval),
            retries: self.retries.map_or(0, i64::from),
        })
    }

    /// Takes what it does not say from the image's.
    pub(crate) fn or(self, image: HealthCheck) -> HealthCheck {
        HealthCheck {
            test: self.test.or(image.test),
            interval: self.interval.or(image.interval),
            timeout: self.timeout.or(image.timeout),
            start_period: self.start_period.or(image.start_period),
            start_interval: self.start_interval.or(image.start_interval),
            retries: self.retries.or(image.retries),
        }
    }

    /// What is executed; `None` where nothing is checked.
    pub(crate) fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        match self.test.as_ref()? {
            HealthTest::Off => None,
            HealthTest::Command(args) => Some(args.clone()),
            HealthTest::Shell(text) if shell.is_empty() => Some(
                ["/bin/sh", "-c"]
                    .map(String::from)
                    .into_iter()
                    .chain(text.clone())
                    .collect(),
            ),
            HealthTest::Shell(text) => Some(shell.iter().chain(text).cloned().collect()),
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(30))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }

    pub(crate) fn start_period(&self) -> Duration {
        self.start_period.unwrap_or_default()
    }

    pub(crate) fn start_interval(&self) -> Duration {
        self.start_interval.unwrap_or(Duration::from_secs(5))
    }

    pub(crate) fn retries(&self) -> u32 {
        self.retries.unwrap_or(3)
    }
}

impl Health {
    /// Takes a result in; whether the status is another one now. Failures do not count `early`, in the start period.
    pub(crate) fn take(&mut self, result: HealthResult, early: bool, retries: u32) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(early && self.status == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() == KEEP_RESULTS {
            self.log.pop_front();
        }
        self.log.push_back(result);
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        HealthResult {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_well() {
        let mut health = Health::default();
        assert!(health.take(result(0), false, 2));
        assert!(!health.take(result(1), false, 2));
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 1));
        assert!(health.take(result(-1), false, 2));
        assert_eq!(health.status, HealthStatus::Unhealthy);
        assert!(health.take(result(0), false, 2));
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn failures_do_not_count_before_the_first_success_in_the_start_period() {
        let mut health = Health::default();
        assert!(!health.take(result(1), true, 1));
        assert_eq!(
            (health.status, health.failing_streak),
            (HealthStatus::Starting, 0)
        );
        health.take(result(0), true, 1);
        assert!(health.take(result(1), true, 1), "once it was well they do");
    }

    #[test]
    fn only_the_last_results_are_kept() {
        let mut health = Health::default();
        for code in 0..9 {
            health.take(result(code), false, 3);
        }
        let kept: Vec<_> = health.log.iter().map(|result| result.exit_code).collect();
        assert_eq!(kept, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_check_takes_what_it_does_not_say_from_the_image() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image = HealthCheck {
            test: Some(HealthTest::Shell(words(&["curl localhost"]))),
            retries: Some(7),
            ..HealthCheck::default()
        };
        let asked = HealthCheck {
            interval: Some(SHORTEST),
            ..HealthCheck::default()
        };
        let merged = asked.or(image.clone());
        assert_eq!((merged.retries(), merged.interval()), (7, SHORTEST));
        assert_eq!(
            merged.command(&[]).unwrap(),
            words(&["/bin/sh", "-c", "curl localhost"])
        );
        assert_eq!(
            merged.command(&words(&["bash", "-ec"])).unwrap(),
            words(&["bash", "-ec", "curl localhost"])
        );
        let off = HealthCheck {
            test: Some(HealthTest::Off),
            ..HealthCheck::default()
        };
        assert_eq!(off.or(image).command(&[]), None);
        assert_eq!(HealthCheck::default().command(&[]), None);
    }

    #[test]
    fn an_image_made_of_a_container_says_what_it_says() {
        let check = HealthCheck {
            test: Some(HealthTest::Command(vec!["true".into()])),
            interval: Some(Duration::from_secs(2)),
            retries: Some(4),
            ..HealthCheck::default()
        };
        assert_eq!(HealthCheck::of_image(check.for_image().unwrap()), check);
        assert_eq!(HealthCheck::default().for_image(), None);
    }

    #[test]
    fn times_of_nothing_are_refused() {
        let check = HealthCheck {
            timeout: Some(Duration::from_micros(1)),
            ..HealthCheck::default()
        };
        assert!(check.check().unwrap_err().to_string().contains("Timeout"));
        assert!(HealthCheck::default().check().is_ok());
    }
}
