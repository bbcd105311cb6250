//! `hulld`: the engine behind the Docker Engine API.
//!
//! Configuration and wiring only. Containers outlive it: on SIGTERM or SIGINT it stops serving and leaves them running,
//! and the next `hulld` on the same state root finds them.

mod config_file;
mod host;
mod listeners;
mod lock;
mod logging;
mod options;
mod socket;
mod time_limit;
mod tls;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use docker_api::{About, Listener};
use engine::{Engine, EngineSpec, HostSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::listeners::{Inherited, Listeners};
use crate::lock::Lock;
use crate::logging::Log;
use crate::options::{Options, Settings};

/// How many files this process and each VMM may have open.
const MAX_DESCRIPTORS: u64 = 1 << 20;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hulld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let inherited = Inherited::take();
    let settings = options.settle()?;
    let log = Log::begin(settings.log.clone());
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
    let served = runtime.block_on(serve(&settings, inherited, log));
    // Files that are still being read or written do not hold up the end.
    runtime.shutdown_background();
    served
}

async fn serve(settings: &Settings, mut inherited: Inherited, mut log: Log) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut renew = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let spec = EngineSpec {
        root: settings.root.clone(),
        runtime: settings.runtime.clone(),
        lib: settings.lib.clone(),
        client_files: settings.client_files(),
        registries: settings.registries(),
        networks: HostSettings {
            forbidden: settings.forbidden.clone(),
            outer_host: settings.host_ports.clone(),
        },
        build_time_limit: settings.build_time_limit,
        build_cache_bytes: settings.build_cache_limit,
    };
    // The engine's errors tell their cause themselves: as a context's source it would be told twice.
    let engine = Engine::open(spec)
        .await
        .map_err(|e| anyhow::anyhow!("cannot open the state: {e}"))?;
    let mut listeners = Listeners::bind(&settings.hosts, &settings.tcp, &mut inherited)?;
    let metrics = settings.metrics.as_deref().map(metrics_listener).transpose()?;
    announce(&listeners).context("cannot write to the standard output")?;
    tell_service_manager(&[NotifyState::Ready]);
    let sockets = docker_api::Listeners {
        api: std::mem::take(&mut listeners.sockets),
        metrics: metrics.into_iter().collect(),
    };
    let about = About {
        addresses: listeners.addresses.clone(),
        config_file: settings.config_file.clone(),
        log_file: logging::file(),
    };
    docker_api::serve(sockets, engine.clone(), about, async {
        loop {
            tokio::select! {
                _ = renew.recv() => {
                    log.renew(|| settings.read_config());
                    if let Some(tls) = &listeners.tls {
                        tls.renew();
                    }
                }
                _ = terminate.recv() => break tracing::info!("SIGTERM: stopping; containers go on"),
                _ = interrupt.recv() => break tracing::info!("SIGINT: stopping; containers go on"),
            }
        }
    })
    .await;
    tell_service_manager(&[NotifyState::Stopping]);
    engine.close().await;
    Ok(())
}

/// Says how far this is to who asked for it (`sd_notify(3)`), if somebody did.
fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}

/// Says on the standard output that clients are served from now on, all at once: who waits for it may go after a line.
fn announce(listeners: &Listeners) -> io::Result<()> {
    let lines = listeners
        .addresses
        .iter()
        .map(|address| format!("listening on {address}\n"));
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.collect::<String>().as_bytes())?;
    stdout.flush()
}

/// The port of the counters. They hold nothing secret but how much goes on here, so that it has no TLS; Docker's has none.
fn metrics_listener(address: &str) -> anyhow::Result<Listener> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    let listener =
        bound.with_context(|| format!("cannot serve metrics at {address} (--metrics-addr HOST:PORT)"))?;
    tracing::info!("metrics are served at http://{}/metrics", listener.local_addr()?);
    Ok(Listener::tcp(listener, None))
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Lets this process and the VMMs, which inherit it, have [`MAX_DESCRIPTORS`] files open: a VMM has each file of a shared folder
/// open that its guest knows of. Where the host's limit is lower and only root may raise it, that is the limit.
fn raise_descriptor_limit() {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let set = |limit| {
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        setrlimit(Resource::Nofile, limit)
    };
    let wanted = allowed.map(|allowed| allowed.max(MAX_DESCRIPTORS));
    if let Err(error) = set(wanted).or_else(|_| set(allowed)) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
