//! Records what Docker's engine answers to the calls in `tests/tests/docker_cli/calls.txt`, which is what hull is held to:
//! `record-goldens SOCKET [SECTION]` with the socket of a dockerd that has hull's `localhost/busybox` image, as `busybox` too. With
//! a section, its answers are printed instead.
//!
//! Such a dockerd can be had without touching a machine's own:
//! `dockerd --data-root DATA --exec-root EXEC -p EXEC/pid -H unix://SOCKET --bridge=none --iptables=false --storage-driver=vfs`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use system_tests::Outcome;
use system_tests::golden::{Transcript, answers_of, read_calls};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket = PathBuf::from(arguments.next().context("no socket of a dockerd is named")?);
    let only = arguments.next();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker_cli");
    let mut sections = read_calls(&fs::read_to_string(folder.join("calls.txt"))?)?;
    sections.retain(|section| only.as_ref().is_none_or(|only| section.name == *only));
    let mut transcript = Transcript::default();
    for section in &sections {
        eprintln!("[{}] {} calls", section.name, section.calls.len());
        transcript.push(&section.name, answers_of(section, &socket)?);
    }
    let versions = versions(&socket)?;
    let text = format!(
        "# What the docker CLI printed: {versions}.\n# Recorded by record-goldens; not to be changed by hand.\n{transcript}"
    );
    match only {
        Some(_) => print!("{text}"),
        None => fs::write(folder.join("docker.txt"), text)?,
    }
    Ok(())
}

fn versions(socket: &Path) -> Result<String> {
    let output = Command::new("docker")
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .args([
            "version",
            "--format",
            "client {{.Client.Version}}, engine {{.Server.Version}}",
        ])
        .output()
        .context("docker cannot be executed")?;
    Ok(Outcome::from(output).ok().trim().to_owned())
}
