//! `hull logout`

use clap::Args;

use super::login::server_key;
use super::print_line;
use crate::credentials::ConfigFile;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull logout [SERVER]")]
pub(crate) struct Arguments {
    /// The registry; Docker Hub when none is named
    server: Option<String>,
}

pub(crate) fn execute(arguments: Arguments) -> CommandResult {
    let server = server_key(arguments.server.as_deref());

    let mut config = ConfigFile::load()?;
    if !config.knows(&server) {
        return Ok(print_line(&format!("Not logged in to {server}"))?);
    }
    print_line(&format!("Removing login credentials for {server}"))?;
    Ok(config.erase(&server)?)
}
