//! What is counted of an engine's life, for who watches it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::{Engine, EngineError, Result};

/// Upper bounds of the durations of starts, in seconds: from a template on fast hardware to a boot under emulation.
const START_BOUNDS: [f64; 12] = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0, 180.0];

type States = Family<[(&'static str, &'static str); 1], Gauge>;

/// Counters since this engine was opened. Cloning gives the same ones.
#[derive(Clone, Debug)]
pub struct Meters {
    starts: Histogram,
    start_failures: Counter,
    execs: Counter,
    pub(crate) pulls: Counter,
    pub(crate) pull_failures: Counter,
    pub(crate) pulled_bytes: Counter,
    pub(crate) templates_used: Counter,
    templates_made: Counter<u64, AtomicU64>,
    containers: States,
    images: Gauge,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            starts: Histogram::new(START_BOUNDS),
            start_failures: Counter::default(),
            execs: Counter::default(),
            pulls: Counter::default(),
            pull_failures: Counter::default(),
            pulled_bytes: Counter::default(),
            templates_used: Counter::default(),
            templates_made: Counter::default(),
            containers: States::default(),
            images: Gauge::default(),
        }
    }
}

impl Meters {
    /// A container was started, or was not.
    pub(crate) fn started(&self, took: Duration, done: Result<(), &EngineError>) {
        match done {
            Ok(()) => self.starts.observe(took.as_secs_f64()),
            Err(_) => drop(self.start_failures.inc()),
        }
    }

    /// A process was started in a container beside its first one.
    pub(crate) fn executed(&self) {
        self.execs.inc();
    }

    /// Names them all in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter(
            "container_start_failures",
            "Starts of containers that failed",
            &self.start_failures,
        );
        counter("execs", "Processes started in running containers", &self.execs);
        counter("image_pulls", "Images pulled", &self.pulls);
        counter(
            "image_pull_failures",
            "Pulls of images that failed",
            &self.pull_failures,
        );
        counter(
            "templates_used",
            "Starts that went on from a template",
            &self.templates_used,
        );
        counter("templates_made", "Templates made", &self.templates_made);
        registry.register_with_unit(
            "image_pull",
            "Bytes of layers received from registries",
            Unit::Bytes,
            self.pulled_bytes.clone(),
        );
        registry.register_with_unit(
            "container_start_duration",
            "Time from the request to the container's process running",
            Unit::Seconds,
            self.starts.clone(),
        );
        registry.register("containers", "Containers by state", self.containers.clone());
        registry.register("images", "Images in the store", self.images.clone());
    }
}

impl Engine {
    /// What is counted.
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// Brings what is counted only when somebody asks up to date.
    pub async fn refresh_meters(&self) -> Result<()> {
        let info = self.info().await?;
        let meters = self.meters();
        for (state, count) in [
            ("running", info.running),
            ("paused", info.paused),
            ("stopped", info.stopped),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            meters.containers.get_or_create(&[("state", state)]).set(count);
        }
        meters.images.set(i64::try_from(info.images).unwrap_or(i64::MAX));
        let made = self.shared.templates.made();
        meters.templates_made.inner().store(made, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_failed_has_no_duration() {
        let meters = Meters::default();
        meters.started(Duration::from_millis(30), Ok(()));
        meters.started(Duration::from_secs(30), Err(&EngineError::Start("no".into())));
        let mut registry = Registry::with_prefix("hull");
        meters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "hull_container_start_duration_seconds_count 1",
            "hull_container_start_duration_seconds_bucket{le=\"0.025\"} 0",
            "hull_container_start_duration_seconds_bucket{le=\"0.05\"} 1",
            "hull_container_start_failures_total 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in:\n{text}"
            );
        }
    }
}
