//! The engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::*;

/// Where an engine works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSpec {
    /// The state root: containers, images and volumes.
    pub root: PathBuf,
    /// Sockets of running microVMs; must be short, for a socket's path has at most 107 bytes.
    pub runtime: PathBuf,
    /// What hull is installed with: `hull-vmm`, `vmlinux`, `initramfs.cpio`, `busybox/`.
    pub lib: PathBuf,
}

/// Containers, execs and images. Cloning is cheap and gives the same engine.
#[derive(Clone)]
pub struct Engine {
    _shared: Arc<()>,
}

/// When [`Engine::wait`] is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run.
    #[default]
    NotRunning,
    /// It ends from now on, whether it runs already or not.
    NextExit,
    /// It is removed.
    Removed,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitStatus {
    /// Its exit code.
    pub code: i32,
    /// Why it ended other than by its init's end; empty if it did not.
    pub error: String,
}

/// A wait that has begun.
#[derive(Debug)]
pub struct Waiter {}

impl Waiter {
    /// The container's exit, once the condition is met.
    pub async fn status(self) -> WaitStatus {
        unimplemented!()
    }
}

/// Reads a container's log record by record.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// Whether the container has a terminal: its log then is one raw stream.
    pub fn terminal(&self) -> bool {
        unimplemented!()
    }

    /// The next record; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LogRecord>> {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Engine {
    /// Opens the state under the root, finds what runs, and removes what a crash left behind.
    pub async fn open(spec: EngineSpec) -> Result<Engine> {
        unimplemented!()
    }

    /// Makes a container.
    pub async fn create(&self, create: ContainerCreate) -> Result<Created> {
        unimplemented!()
    }

    /// Starts a container; returns when its init runs.
    pub async fn start(&self, name: &str) -> Result<()> {
        unimplemented!()
    }

    /// Asks a container to end and ends it after `timeout`, or its own. `signal` takes the place of its stop signal.
    /// Returns when it has ended; [`EngineError::NotModified`] if it does not run.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<StopTimeout>) -> Result<()> {
        unimplemented!()
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<StopTimeout>,
    ) -> Result<()> {
        unimplemented!()
    }

    /// Sends a signal, by name or number, to a container's init.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        unimplemented!()
    }

    /// Holds a container.
    pub async fn pause(&self, name: &str) -> Result<()> {
        unimplemented!()
    }

    /// Lets a held container go on.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        unimplemented!()
    }

    /// Begins to wait for a container. An end that comes after this returned is not missed.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiter> {
        unimplemented!()
    }

    /// Removes a container; with `force` a running one is ended first, with `volumes` its nameless volumes go, too.
    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        unimplemented!()
    }

    /// The containers, the newest first.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<Container>> {
        unimplemented!()
    }

    /// One container.
    pub async fn inspect(&self, name: &str) -> Result<Container> {
        unimplemented!()
    }

    /// Reads a container's log.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogReader> {
        unimplemented!()
    }

    /// Attaches a client to a container, whether it runs already or is yet to be started. Output that comes after this
    /// returned is not missed.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        unimplemented!()
    }

    /// Resizes the terminal of a container.
    pub async fn resize(&self, name: &str, size: WindowSize) -> Result<()> {
        unimplemented!()
    }

    /// Makes a process ready in a running container; answers its id.
    pub async fn exec_create(&self, name: &str, create: ExecCreate) -> Result<String> {
        unimplemented!()
    }

    /// Starts an exec; `None` if it is detached.
    pub async fn exec_start(&self, id: &str, start: ExecStart) -> Result<Option<Attachment>> {
        unimplemented!()
    }

    /// One exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<Exec> {
        unimplemented!()
    }

    /// Resizes the terminal of an exec.
    pub async fn exec_resize(&self, id: &str, size: WindowSize) -> Result<()> {
        unimplemented!()
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<Image>> {
        unimplemented!()
    }

    /// The image with this name or id.
    pub async fn image(&self, name: &str) -> Result<Image> {
        unimplemented!()
    }

    /// The engine as a whole.
    pub async fn info(&self) -> Result<Info> {
        unimplemented!()
    }
}

/// How long a stop waits for a container to end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTimeout {
    /// This long.
    After(Duration),
    /// As long as it takes.
    Never,
}
