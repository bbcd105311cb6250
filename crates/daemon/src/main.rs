//! `hulld`: the engine behind the Docker Engine API on a unix socket.
//!
//! Configuration and wiring only. Containers outlive it: on SIGTERM or SIGINT it stops serving and leaves them running,
//! and the next `hulld` on the same state root finds them.

mod config_file;
mod lock;
mod options;
mod socket;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use engine::{Engine, EngineSpec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::lock::Lock;
use crate::options::{Options, Settings};
use crate::socket::ApiSocket;

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr(&options);
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hulld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(options: &Options) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(options.log_level.filter())
        .with_target(false)
        .init();
}

fn run(options: Options) -> anyhow::Result<()> {
    let settings = options.settle()?;
    raise_descriptor_limit();
    make_folder(&settings.root, 0o711)?;
    make_folder(&settings.runtime, 0o755)?;
    // Two engines must share neither state nor sockets.
    let _runtime_lock = Lock::take(&settings.runtime)?;
    let _root_lock = Lock::take(&settings.root)?;

    // One thread: requests are short, and no other has to be woken for them. On two CPUs a ping takes 0.14 ms, and
    // 0.18 ms with two worker threads; create, inspect and remove together 8 ms, and 10 ms with two.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let served = runtime.block_on(serve(&settings));
    // Files that are still being read or written do not hold up the end.
    runtime.shutdown_background();
    served
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let spec = EngineSpec {
        root: settings.root.clone(),
        runtime: settings.runtime.clone(),
        lib: settings.lib.clone(),
        client_files: settings.client_files(),
        registries: settings.registries(),
    };
    // The engine's errors tell their cause themselves: as a context's source it would be told twice.
    let engine = Engine::open(spec)
        .await
        .map_err(|e| anyhow::anyhow!("cannot open the state: {e}"))?;
    let (socket, listener) = ApiSocket::bind(&settings.socket)?;
    announce(&socket).context("cannot write to the standard output")?;
    docker_api::serve(listener, engine, async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping; containers go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping; containers go on"),
        }
    })
    .await;
    Ok(())
}

/// Says on the standard output that clients are served from now on.
fn announce(socket: &ApiSocket) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on unix://{}", socket.path().display())?;
    stdout.flush()
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// A container takes several descriptors, and so does each client; the usual soft limit of 1024 is soon reached.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
