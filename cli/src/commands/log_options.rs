//! The options about the log of a container.

use std::collections::HashMap;

use anyhow::bail;
use bollard_stubs::models::HostConfigLogConfig;
use clap::Args;

/// How a container's log is kept.
#[derive(Debug, Args)]
pub(super) struct LogOptions {
    /// Logging driver for the container ("json-file", "local", "none")
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,

    /// Log driver options, such as max-size=10m
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

impl LogOptions {
    /// What the daemon is told of them; nothing where nothing is asked for.
    pub(super) fn config(&self) -> anyhow::Result<Option<HostConfigLogConfig>> {
        let driver = self.log_driver.clone().unwrap_or_default();
        if driver == "none" && !self.log_opt.is_empty() {
            bail!("invalid logging opts for driver {driver}");
        }
        let options: HashMap<String, String> = self
            .log_opt
            .iter()
            .map(|option| {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect();
        Ok(
            (!driver.is_empty() || !options.is_empty()).then_some(HostConfigLogConfig {
                typ: Some(driver),
                config: Some(options),
            }),
        )
    }
}
