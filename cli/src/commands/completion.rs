//! `hull completion`, and `hull man`, which `make install` uses.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::print;
use crate::args;
use crate::failure::CommandResult;

/// Prints what teaches a shell to complete hull's commands and options.
#[derive(Debug, Args)]
#[command(override_usage = "hull completion SHELL")]
pub(crate) struct Arguments {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Writes a manual page for each command.
#[derive(Debug, Args)]
#[command(override_usage = "hull man DIR")]
pub(crate) struct ManArguments {
    /// The folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn execute(arguments: &Arguments) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut args::Arguments::command(),
        "hull",
        &mut script,
    );
    Ok(print(&String::from_utf8(script)?)?)
}

pub(crate) fn write_manual(arguments: &ManArguments) -> CommandResult {
    let folder = &arguments.folder;
    let written = fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(args::Arguments::command(), folder));
    Ok(written.with_context(|| format!("cannot write manual pages to {}", folder.display()))?)
}
