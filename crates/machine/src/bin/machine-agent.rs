//! The helper VM's own program: PID 1, and the agent that speaks to the host.

use std::process::ExitCode;

use machine::agent;

fn main() -> ExitCode {
    let result = if std::process::id() == 1 {
        agent::init().map_err(anyhow::Error::from)
    } else {
        serve()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("machine-agent: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    anyhow::ensure!(
        std::env::args().nth(1).as_deref() == Some("serve"),
        "this program is PID 1 of the helper VM; `hull machine start` starts that"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(agent::serve())?)
}
