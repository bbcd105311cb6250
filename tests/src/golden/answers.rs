//! Calls made, and what came back.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Section, normal};
use crate::Outcome;

/// How long one call may take, in seconds: a microVM that hangs in its boot is booted once more after 60.
const PATIENCE: &str = "150";

/// Removes what a section makes.
const SWEEP: &str = r#"
    docker rm -f $(docker ps -aq --filter "name=^/?$1-")
    docker volume rm -f $(docker volume ls -q --filter "name=$1-")
    docker rmi -f $(docker images --format '{{.Repository}}:{{.Tag}}' "localhost/$1")
"#;

/// What a call did, with what differs from one time to the next replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The call.
    pub call: String,
    /// Its output, its errors behind `! ` and its exit code behind `= ` unless that is 0: a line each.
    pub text: String,
}

/// Makes the calls of a section against the daemon at a socket.
pub fn answers_of(section: &Section, socket: &Path) -> Result<Vec<Answer>> {
    let folder = tempfile::tempdir()?;
    let host = format!("unix://{}", socket.display());
    let shell = |script: &str| {
        let work = folder.path().join("work");
        let mut command = Command::new("timeout");
        command
            .args(["-k", "5", PATIENCE, "sh", "-c", script, "sh", &section.name])
            .current_dir(&work)
            .stdin(Stdio::null())
            .env("DOCKER_HOST", &host)
            .env("DOCKER_CONFIG", folder.path().join("config"))
            .env("DOCKER_CLI_HINTS", "false")
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        let output = command.output().context("timeout(1) cannot be executed")?;
        Ok::<_, anyhow::Error>(Outcome::from(output))
    };
    std::fs::create_dir(folder.path().join("work"))?;
    // What is left of a run that was cut short.
    shell(SWEEP)?;
    let answer = |call: &String| {
        let outcome = shell(call)?;
        let here = folder.path().display().to_string();
        Ok(Answer {
            call: call.clone(),
            text: normal::text(&outcome, &here),
        })
    };
    let answers = section.calls.iter().map(answer).collect();
    shell(SWEEP)?;
    answers
}
