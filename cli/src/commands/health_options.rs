//! The options of a health check.

use bollard_stubs::models::HealthConfig;
use clap::Args;

use crate::time::parse_duration;

/// How to tell whether a container is well.
#[derive(Debug, Args)]
pub(super) struct HealthOptions {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,

    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_interval: Option<i64>,

    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,

    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_interval: Option<i64>,

    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_period: Option<i64>,

    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_timeout: Option<i64>,

    /// Disable any container-specified HEALTHCHECK
    #[arg(
        long,
        conflicts_with_all = [
            "health_cmd", "health_interval", "health_retries", "health_start_interval", "health_start_period",
            "health_timeout",
        ]
    )]
    no_healthcheck: bool,
}

impl HealthOptions {
    /// What the daemon is told; `None` leaves all of it to the image.
    pub(super) fn config(&self) -> Option<HealthConfig> {
        let test = match &self.health_cmd {
            _ if self.no_healthcheck => Some(vec!["NONE".to_owned()]),
            Some(command) => Some(vec!["CMD-SHELL".to_owned(), command.clone()]),
            None => None,
        };
        let config = HealthConfig {
            test,
            interval: self.health_interval,
            timeout: self.health_timeout,
            retries: self.health_retries.map(i64::from),
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
        };
        (config != HealthConfig::default()).then_some(config)
    }
}
