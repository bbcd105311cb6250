//! `hull context`

mod endpoint;
mod list;
mod transfer;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::print_line;
use crate::api::HostOptions;
use crate::contexts::{ContextError, Current, DEFAULT, Store};
use crate::failure::{CommandResult, Failure, complain};

#[derive(Debug, Args)]
#[command(override_usage = "hull context COMMAND")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a context
    Create(endpoint::CreateArguments),
    /// Export a context to a tar archive FILE or a tar stream on STDOUT
    Export(transfer::ExportArguments),
    /// Import a context from a tar file
    Import(transfer::ImportArguments),
    /// Display detailed information on one or more contexts
    Inspect(list::InspectArguments),
    /// List contexts
    #[command(visible_alias = "list")]
    Ls(list::ListArguments),
    /// Remove one or more contexts
    #[command(visible_alias = "remove")]
    Rm(RemoveArguments),
    /// Print the name of the current context
    #[command(override_usage = "hull context show")]
    Show,
    /// Update a context
    Update(endpoint::UpdateArguments),
    /// Set the current context
    Use(UseArguments),
}

#[derive(Debug, Args)]
#[command(override_usage = "hull context rm CONTEXT [CONTEXT...]")]
struct RemoveArguments {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,

    /// Names
    #[arg(required = true, value_name = "CONTEXT")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull context use CONTEXT")]
struct UseArguments {
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// Needs no daemon; `options` say which context is in use.
pub(crate) fn execute(options: &HostOptions, arguments: Arguments) -> CommandResult {
    let store = Store::open();
    match arguments.command {
        Command::Create(arguments) => endpoint::create(&store, options, arguments),
        Command::Export(arguments) => transfer::export(&store, arguments),
        Command::Import(arguments) => transfer::import(&store, arguments),
        Command::Inspect(arguments) => list::inspect(&store, options, arguments),
        Command::Ls(arguments) => list::list(&store, options, arguments),
        Command::Rm(arguments) => remove(&store, options, &arguments),
        Command::Show => Ok(print_line(&options.context()?)?),
        Command::Update(arguments) => endpoint::update(&store, options, arguments),
        Command::Use(arguments) => make_current(&store, &arguments.name),
    }
}

fn make_current(store: &Store, name: &str) -> CommandResult {
    if name != DEFAULT {
        store.get(name)?;
    }
    Current::load()?.set(name)?;
    print_line(name)?;
    complain(format_args!("Current context is now {name:?}"));
    if let Some(variable) = HostOptions::host_variable() {
        complain(format_args!(
            "Warning: {variable} environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset {variable} environment variable."
        ));
    }
    Ok(())
}

fn remove(store: &Store, options: &HostOptions, arguments: &RemoveArguments) -> CommandResult {
    let mut failed = false;
    for name in &arguments.names {
        match remove_one(store, options, name, arguments.force) {
            Ok(()) => print_line(name)?,
            Err(error) => {
                failed = true;
                complain(error);
            }
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(()) }
}

fn remove_one(store: &Store, options: &HostOptions, name: &str, force: bool) -> anyhow::Result<()> {
    if name == DEFAULT {
        return Err(anyhow!("context {DEFAULT:?} cannot be removed"));
    }
    if !store.has(name) && !force {
        return Err(anyhow!("context {name:?} does not exist"));
    }
    let mut current = Current::load()?;
    let in_use = current.name() == name || options.context()? == name;
    if in_use && !force {
        return Err(anyhow!("context {name:?} is in use, set -f flag to force remove"));
    }
    store.remove(name)?;
    if current.name() == name {
        current.set(DEFAULT)?;
    }
    Ok(())
}

/// The name can be had by a new context.
fn check_free(store: &Store, name: &str) -> Result<(), ContextError> {
    crate::contexts::check_name(name)?;
    if store.has(name) {
        return Err(ContextError::Exists(name.to_owned()));
    }
    Ok(())
}
