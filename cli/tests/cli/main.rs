//! What the built `hull` prints and how it exits, against an API that answers with fixed data.
//! What it does with containers is tested with the real daemon, in the workspace's `tests`.

mod api;
mod build_cache;
mod build_contexts;
mod build_outputs;
mod builds;
mod contexts;
mod exit_codes;
mod help;
mod images;
mod lists;
mod networks;
mod objects;
mod registries;
mod streams;

use std::process::{Command, Output};

/// `hull` that talks to `api`, in a time zone that is the same everywhere.
fn hull(api: &api::Api, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hull"));
    command
        .arg("--host")
        .arg(api.host())
        .args(arguments)
        .env("TZ", "UTC")
        .env("DOCKER_CONFIG", "/nonexistent")
        .env_remove("HULL_HOST");
    command
}

/// Exit code, standard output and standard error, as one text for a golden file.
fn transcript(output: &Output) -> String {
    format!(
        "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
        output
            .status
            .code()
            .map_or("none".to_owned(), |code| code.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
