//! `HEALTHCHECK`

use super::CommandLine;
use std::time::Duration;

/// `HEALTHCHECK NONE` or `HEALTHCHECK [--interval=…] … CMD <command>`
#[derive(Debug, Clone, PartialEq)]
pub enum Healthcheck {
    /// There is none, not even the base image's.
    None,
    /// A command says whether a container is well.
    Command(HealthcheckCommand),
}

/// How a container is checked. Docker's defaults hold for what is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthcheckCommand {
    /// The command.
    pub command: CommandLine,
    /// `--interval`: between two checks (30 s)
    pub interval: Option<Duration>,
    /// `--timeout`: of one check (30 s)
    pub timeout: Option<Duration>,
    /// `--start-period`: how long failures do not count (0 s)
    pub start_period: Option<Duration>,
    /// `--start-interval`: between two checks in that time (5 s)
    pub start_interval: Option<Duration>,
    /// `--retries`: failures in a row that make a container unhealthy (3)
    pub retries: Option<u32>,
}

impl HealthcheckCommand {
    /// `Test` of an image's configuration.
    pub fn test(&self) -> Vec<String> {
        let kind = match self.command {
            CommandLine::Shell(_) => "CMD-SHELL",
            CommandLine::Exec(_) => "CMD",
        };
        std::iter::once(kind.to_owned())
            .chain(self.command.arguments(&[]))
            .collect()
    }
}
