//! How a log is kept, in Docker's words.

use std::collections::BTreeMap;

use bollard_stubs::models::HostConfigLogConfig;
use engine::{LogDriver, LogSpec};

use crate::error::ApiError;

/// Docker's standard where nothing is said is ours.
pub(super) fn read(config: Option<HostConfigLogConfig>) -> Result<LogSpec, ApiError> {
    let config = config.unwrap_or_default();
    let driver = match config.typ.as_deref().unwrap_or_default() {
        "" => LogDriver::default(),
        name => LogDriver::named(name).ok_or_else(|| {
            ApiError::bad_request(format!(
                "error looking up logging plugin {name}: plugin \"{name}\" not found"
            ))
        })?,
    };
    Ok(LogSpec {
        driver,
        options: config
            .config
            .unwrap_or_default()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The same as [`read`] takes it.
pub(crate) fn describe(log: &LogSpec) -> HostConfigLogConfig {
    HostConfigLogConfig {
        typ: Some(log.driver.name().into()),
        config: Some(log.options.clone().into_iter().collect()),
    }
}
