//! How much is logged, and that it may be changed while hulld runs: SIGHUP reads the configuration file again.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config_file::{ConfigFile, ConfigFileError};

/// The least serious messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the level comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSpec {
    /// What the command line says: that stays.
    pub(crate) command_line: Option<LogLevel>,
    /// What the file says.
    pub(crate) file: Option<LogLevel>,
}

/// The log of this process.
pub(crate) struct Log {
    spec: LogSpec,
    filter: reload::Handle<LevelFilter, Registry>,
}

impl LogSpec {
    fn filter(&self) -> LevelFilter {
        match self.command_line.or(self.file).unwrap_or(LogLevel::Info) {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

impl Log {
    /// Begins it, on standard error.
    pub(crate) fn begin(spec: LogSpec) -> Self {
        let (filter, handle) = reload::Layer::new(spec.filter());
        let lines = fmt::layer().with_writer(io::stderr).with_target(false);
        tracing_subscriber::registry().with(filter).with(lines).init();
        Self { spec, filter: handle }
    }

    /// Goes on with what the configuration file says now; a file that is broken changes nothing.
    pub(crate) fn renew(&mut self, read: impl FnOnce() -> Result<ConfigFile, ConfigFileError>) {
        match read() {
            Ok(file) => {
                self.spec.file = file.log_level();
                let filter = self.spec.filter();
                let _ = self.filter.modify(|current| *current = filter);
                tracing::info!("SIGHUP: the log level is {filter}");
            }
            Err(error) => tracing::error!("SIGHUP: the log level stays as it is: {error}"),
        }
    }
}

/// The file that standard error goes to, if it is one.
pub(crate) fn file() -> Option<PathBuf> {
    let file = fs::read_link("/proc/self/fd/2").ok()?;
    (file.is_absolute() && file.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_and_silence_is_info() {
        let level = |command_line, file| LogSpec { command_line, file }.filter();
        assert_eq!(level(None, None), LevelFilter::INFO);
        assert_eq!(level(None, Some(LogLevel::Warn)), LevelFilter::WARN);
        assert_eq!(
            level(Some(LogLevel::Debug), Some(LogLevel::Warn)),
            LevelFilter::DEBUG
        );
    }
}
