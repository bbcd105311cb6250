//! The supervisor of the helper VM. Started by `hull`; not meant to be run by hand.

use std::process::ExitCode;

use anyhow::{Context, bail};
use machine::supervisor::{ConfineSpec, LaunchSpec, serve};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hull-machine: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|a| a.to_str()) {
        Some("serve") => {
            let spec: LaunchSpec = serde_json::from_reader(std::io::stdin())
                .context("cannot read the launch spec from standard input")?;
            // A session of its own: the terminal that `hull` was started from may go away.
            rustix::process::setsid().context("cannot start a session")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(serve(spec))?)
        }
        Some("confine") => match ConfineSpec::parse(arguments)?.exec()? {},
        _ => bail!("started by `hull machine start`; see `hull machine --help`"),
    }
}
