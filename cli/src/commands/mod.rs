//! The commands, a file each, and what several of them share.

pub(crate) mod attach;
pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod manifest;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

mod archive_file;
mod build_cache;
mod confirm;
mod container_spec;
mod csv;
mod disk_usage;
mod environment;
mod filters;
mod foreground;
mod health_options;
mod limit_options;
mod local_file;
mod log_options;
mod mount;
mod namespace_options;
mod network_attachment;
mod network_options;
mod open_ports;
mod platform;
mod prune;
mod publish;
mod restart_policy;
mod security_options;
mod volumes;

use std::collections::HashMap;
use std::io::{self, Write};

use futures_util::future::join_all;

use crate::api::{ApiError, Client, Endpoint};
use crate::args::{self, Command};
use crate::failure::{CommandResult, Failure, complain};

/// Does what the command line says.
pub(crate) async fn execute(arguments: args::Arguments) -> CommandResult {
    let args::Arguments { host, command } = arguments;
    // What needs no daemon must not fail for want of one.
    let command = match command {
        Command::Completion(arguments) => return completion::execute(&arguments),
        Command::Context(arguments) => return context::execute(&host, arguments),
        Command::Man(arguments) => return completion::write_manual(&arguments),
        command => command,
    };
    let client = Client::new(Endpoint::select(&host)?);
    match command {
        Command::Completion(_) | Command::Context(_) | Command::Man(_) => Ok(()),
        Command::Run(arguments) => run::execute(&client, *arguments).await,
        Command::Build(arguments) => build::execute(&client, *arguments).await,
        Command::Builder(arguments) => builder::execute(&client, *arguments).await,
        Command::Exec(arguments) => exec::execute(&client, arguments).await,
        Command::Ps(arguments) => ps::execute(&client, arguments).await,
        Command::Pull(arguments) => pull::execute(&client, arguments).await,
        Command::Push(arguments) => push::execute(&client, arguments).await,
        Command::Images(arguments) => images::execute(&client, arguments).await,
        Command::Login(arguments) => login::execute(&client, arguments).await,
        Command::Logout(arguments) => logout::execute(arguments),
        Command::Search(arguments) => search::execute(&client, arguments).await,
        Command::Version(arguments) => version::execute(&client, arguments).await,
        Command::Info(arguments) => info::execute(&client, arguments).await,
        Command::Container(arguments) => container::execute(&client, *arguments).await,
        Command::Image(arguments) => image::execute(&client, *arguments).await,
        Command::Manifest(arguments) => manifest::execute(&client, arguments).await,
        Command::Network(arguments) => network::execute(&client, arguments).await,
        Command::Volume(arguments) => volume::execute(&client, arguments).await,
        Command::System(arguments) => system::execute(&client, arguments).await,
        Command::Machine(arguments) => machine::execute(&client, arguments).await,
        Command::Doctor(arguments) => doctor::execute(&client, arguments).await,
        Command::Attach(arguments) => attach::execute(&client, arguments).await,
        Command::Commit(arguments) => commit::execute(&client, arguments).await,
        Command::Cp(arguments) => cp::execute(&client, arguments).await,
        Command::Create(arguments) => create::execute(&client, *arguments).await,
        Command::Diff(arguments) => diff::execute(&client, arguments).await,
        Command::Events(arguments) => events::execute(&client, arguments).await,
        Command::Export(arguments) => export::execute(&client, arguments).await,
        Command::History(arguments) => history::execute(&client, arguments).await,
        Command::Import(arguments) => import::execute(&client, arguments).await,
        Command::Inspect(arguments) => inspect::execute(&client, arguments).await,
        Command::Kill(arguments) => kill::execute(&client, arguments).await,
        Command::Load(arguments) => load::execute(&client, arguments).await,
        Command::Logs(arguments) => logs::execute(&client, arguments).await,
        Command::Pause(arguments) => pause::execute(&client, arguments).await,
        Command::Port(arguments) => port::execute(&client, arguments).await,
        Command::Rename(arguments) => rename::execute(&client, arguments).await,
        Command::Restart(arguments) => stop::restart(&client, arguments).await,
        Command::Rm(arguments) => rm::execute(&client, arguments).await,
        Command::Rmi(arguments) => rmi::execute(&client, arguments).await,
        Command::Save(arguments) => save::execute(&client, arguments).await,
        Command::Start(arguments) => start::execute(&client, arguments).await,
        Command::Stats(arguments) => stats::execute(&client, arguments).await,
        Command::Stop(arguments) => stop::execute(&client, arguments).await,
        Command::Tag(arguments) => tag::execute(&client, arguments).await,
        Command::Top(arguments) => top::execute(&client, arguments).await,
        Command::Unpause(arguments) => pause::unpause(&client, arguments).await,
        Command::Update(arguments) => update::execute(&client, arguments).await,
        Command::Wait(arguments) => wait::execute(&client, arguments).await,
    }
}

/// Does the same to every container at the same time. What worked is printed in the order of the
/// command line, what did not is said on standard error; 1 when anything did not work.
async fn for_each(
    names: &[String],
    action: impl AsyncFn(&str) -> Result<Option<String>, ApiError>,
) -> CommandResult {
    let results = join_all(names.iter().map(|name| action(name))).await;
    let mut failed = false;
    for result in results {
        match result {
            Ok(Some(line)) => print_line(&line)?,
            Ok(None) => {}
            Err(error) => {
                failed = true;
                complain(error);
            }
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(()) }
}

/// What [`for_each`] is told of a removal. What is not there need not be removed, when it is to be gone in any case.
fn removed(name: &str, force: bool, result: Result<(), ApiError>) -> Result<Option<String>, ApiError> {
    match result {
        Err(error) if force && error.is_not_found() => {
            complain(error);
            Ok(None)
        }
        result => result.map(|()| Some(name.to_owned())),
    }
}

/// `NAME=VALUE` of the command line, or names alone.
fn pairs(values: &[String]) -> HashMap<String, String> {
    let split = |value: &String| {
        let (name, value) = value.split_once('=').unwrap_or((value, ""));
        (name.to_owned(), value.to_owned())
    };
    values.iter().map(split).collect()
}

/// Prints text to standard output; a reader that has gone is an error, not a panic.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn print_line(line: &str) -> io::Result<()> {
    print(&format!("{line}\n"))
}
