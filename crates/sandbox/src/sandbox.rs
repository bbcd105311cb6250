//! A running microVM.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use vm_spec::control::{MAX_DESCRIPTORS, Request, Response};

use crate::boot::{Boot, END_AFTER_LOSS, Link, ended};
use crate::launch::{Launched, control_socket, launch, nic_name, open, vsock_socket};
use crate::process::{Process, start_time};
use crate::supervise::{self, Supervised, Watch, ask, remove_cgroup};
use crate::{
    Clock, CpuShare, Guest, InputStream, LAYERS_TAG, OutputStream, ProcessId, Result, SandboxEnd,
    SandboxError, SandboxSpec, Step, StreamKind, Timeline, cgroup,
};

/// How long a VMM that was asked to stop may take before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// All that is needed to find a running microVM again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: String,
    /// The process id of its VMM.
    pub pid: i32,
    /// When that process started, in clock ticks since boot.
    pub start_time: u64,
    /// The folder with its sockets.
    pub runtime: PathBuf,
    /// The folder with its log and its exit report.
    pub folder: PathBuf,
    /// Its control group.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// The host's monotonic clock when its start was asked for, in microseconds.
    pub origin: u64,
}

impl SandboxRecord {
    /// How it ended, from what its VMM left behind. Means nothing while it runs.
    pub fn end(&self) -> SandboxEnd {
        SandboxEnd::read(&self.folder, self.cgroup.as_deref())
    }
}

/// A microVM that was started. Clones are the same one; when the last is dropped it goes on.
#[derive(Clone, Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    record: SandboxRecord,
    guest: Guest,
    clock: Clock,
    process: Arc<Process>,
    end: tokio::sync::watch::Receiver<Option<SandboxEnd>>,
}

impl Sandbox {
    /// Spawns the VMM and returns. Whether the agent comes up is seen by calling it: the first call that is awaited
    /// returns why it did not.
    pub fn start(spec: &SandboxSpec, clock: Clock) -> Result<Sandbox> {
        let Launched { mut child, ready } = launch(spec, &spec.shape()?, None)?;
        clock.mark(Step::Spawned);
        let (pid, process, start_time) = match hold(&child) {
            Ok(held) => held,
            Err(source) => {
                // Only a process that cannot be supervised is left: it must not stay.
                let _ = child.start_kill();
                return Err(SandboxError::Spawn {
                    vmm: spec.vmm.clone(),
                    source,
                });
            }
        };
        let record = SandboxRecord {
            id: spec.id.clone(),
            pid,
            start_time,
            runtime: spec.runtime.clone(),
            folder: spec.folder.clone(),
            cgroup: spec.own_cgroup(),
            origin: clock.origin(),
        };
        let (sandbox, link) = Sandbox::supervise(record, process, Watch::Child(child), clock.clone());
        let boot = Boot {
            timeout: spec.boot_timeout,
            process: sandbox.shared.process.clone(),
            folder: spec.folder.clone(),
            clock,
        };
        match ready {
            Some(ready) => tokio::spawn(link.boot(boot, ready)),
            None => tokio::spawn(link.restore(boot)),
        };
        Ok(sandbox)
    }

    /// Finds a microVM that another process started; an error if it has ended since.
    pub async fn reconnect(record: SandboxRecord, timeline: Timeline) -> Result<Sandbox> {
        let gone = || SandboxError::Gone {
            id: record.id.clone(),
            pid: record.pid,
        };
        let process = Process::open(record.pid).map_err(|_| gone())?;
        // Held first, then compared: the id cannot have come to mean another process in between.
        if start_time(record.pid).ok() != Some(record.start_time) {
            return Err(gone());
        }
        let clock = Clock::resume(record.origin, timeline);
        let control = control_socket(&record.runtime);
        let connection = UnixStream::connect(&control).await.map_err(|source| {
            // Nobody could ever stop it.
            process.kill();
            SandboxError::File {
                action: "connect to",
                path: control,
                source,
            }
        })?;
        let (sandbox, link) = Sandbox::supervise(record, process, Watch::Connection(connection), clock);
        tokio::spawn(link.carry());
        let processes = sandbox.guest().processes().await?;
        sandbox.guest().record_exits(&processes);
        Ok(sandbox)
    }

    fn supervise(record: SandboxRecord, process: Process, watch: Watch, clock: Clock) -> (Sandbox, Link) {
        let (sender, end) = tokio::sync::watch::channel(None);
        let process = Arc::new(process);
        let supervised = Supervised {
            process: process.clone(),
            watch,
            folder: record.folder.clone(),
            runtime: record.runtime.clone(),
            cgroup: record.cgroup.clone(),
            clock: clock.clone(),
            end: sender,
        };
        tokio::spawn(supervised.run());
        let (guest, exchange) = Guest::new();
        let link = Link {
            exchange,
            runtime: record.runtime.clone(),
            end: end.clone(),
        };
        let shared = Shared {
            record,
            guest,
            clock,
            process,
            end,
        };
        (
            Sandbox {
                shared: Arc::new(shared),
            },
            link,
        )
    }

    /// What [`Sandbox::reconnect`] needs.
    pub fn record(&self) -> &SandboxRecord {
        &self.shared.record
    }

    /// Its agent.
    pub fn guest(&self) -> &Guest {
        &self.shared.guest
    }

    /// Marks the steps of its life.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Opens an output stream of a process that was started, at an offset that the agent still keeps.
    pub async fn output(&self, process: ProcessId, stream: StreamKind, offset: u64) -> Result<OutputStream> {
        let socket = vsock_socket(&self.shared.record.runtime);
        let stream = OutputStream::open(&socket, process, stream, offset);
        self.explain(self.shared.guest.in_time(stream).await).await
    }

    /// Opens the input of a process that was started with one.
    pub async fn input(&self, process: ProcessId) -> Result<InputStream> {
        let socket = vsock_socket(&self.shared.record.runtime);
        let stream = InputStream::open(&socket, process);
        self.explain(self.shared.guest.in_time(stream).await).await
    }

    /// Holds its vCPUs.
    pub async fn pause(&self) -> Result<()> {
        self.ask("pause the microVM", Request::Pause).await
    }

    /// Lets its vCPUs go on.
    pub async fn resume(&self) -> Result<()> {
        self.ask("resume the microVM", Request::Resume).await
    }

    /// Plugs a network device into a TAP device, whose queues these are, as many as [`SandboxSpec::nic_queues`] says; none at all
    /// pulls the cable.
    pub async fn plug(&self, nic: u8, queues: &[BorrowedFd<'_>]) -> Result<()> {
        let plugged = supervise::plug(&self.shared.record.runtime, nic_name(nic), queues).await;
        self.done("plug in a network device", plugged).await
    }

    /// Shows the guest more layer files, by their names, beside those that it has. It must have been started with one at least.
    pub async fn add_layers(&self, layers: &[(String, PathBuf)]) -> Result<()> {
        for some in layers.chunks(MAX_DESCRIPTORS) {
            let names = some.iter().map(|(name, _)| name.clone()).collect();
            let files: Vec<File> = some.iter().map(|(_, path)| open(path)).collect::<Result<_>>()?;
            let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            let runtime = &self.shared.record.runtime;
            let added = supervise::add_layers(runtime, LAYERS_TAG.into(), names, &files).await;
            self.done("add a layer", added).await?;
        }
        Ok(())
    }

    /// Gives it its share of the host's CPUs. Boots and restores are done with all that they can take.
    pub fn share_cpu(&self, share: CpuShare) -> Result<()> {
        match &self.shared.record.cgroup {
            Some(group) => cgroup::share(group, share),
            None => Ok(()),
        }
    }

    /// Ends it, whatever the guest does, and returns when its process is gone and its sockets are removed. What the
    /// guest has not [written to its disk](Guest::sync) is lost.
    pub async fn stop(&self) -> SandboxEnd {
        if self.is_running() && self.ask("stop the microVM", Request::Stop).await.is_err() {
            self.shared.process.kill();
        }
        match tokio::time::timeout(STOP_TIMEOUT, self.ended()).await {
            Ok(end) => end,
            Err(_) => {
                self.shared.process.kill();
                self.ended().await
            }
        }
    }

    /// Its end, once it has come and its sockets are removed.
    pub async fn ended(&self) -> SandboxEnd {
        let mut end = self.shared.end.clone();
        // The supervisor always tells an end, unless its runtime is shut down, which drops this future, too.
        ended(&mut end).await.unwrap_or_else(|| SandboxEnd {
            report: None,
            log: String::new(),
            out_of_memory: false,
        })
    }

    /// Whether its end has not been seen yet.
    pub fn is_running(&self) -> bool {
        self.shared.end.borrow().is_none()
    }

    async fn ask(&self, action: &'static str, request: Request) -> Result<()> {
        let answer = ask(&self.shared.record.runtime, request).await;
        self.done(action, answer).await
    }

    async fn done(&self, action: &'static str, answer: Result<Response>) -> Result<()> {
        match self.explain(answer).await? {
            Response::State(_) => Ok(()),
            Response::Error(answer) => Err(SandboxError::Unexpected { action, answer }),
        }
    }

    /// The end of the microVM in place of an error that only follows from it. A VMM that ends closes its sockets
    /// before it is gone, so its end may be a moment away.
    async fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let Err(SandboxError::Connection { .. }) = &result else {
            return result;
        };
        match tokio::time::timeout(END_AFTER_LOSS, self.ended()).await {
            Ok(end) => Err(SandboxError::Ended(end)),
            Err(_) => result,
        }
    }
}

fn hold(child: &tokio::process::Child) -> std::io::Result<(i32, Process, u64)> {
    // Not reaped yet, so the id is its own.
    let pid = child.id().ok_or(std::io::ErrorKind::NotFound)? as i32;
    Ok((pid, Process::open(pid)?, start_time(pid)?))
}

/// Ends the microVM whose sockets are in this folder, if one runs, and removes the folder and what it has in `cgroup`: what is
/// left of a start whose record was never written.
pub async fn remove_stray(runtime: &Path, cgroup: Option<&Path>) -> std::io::Result<()> {
    if let Ok(Response::Error(error)) = ask(runtime, Request::Stop).await {
        tracing::warn!(folder = %runtime.display(), error, "a stray microVM does not stop");
    }
    if let (Some(parent), Some(name)) = (cgroup, runtime.file_name()) {
        remove_cgroup(parent.join(name)).await;
    }
    std::fs::remove_dir_all(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spec over files that exist, so that only the VMM decides what comes of it.
    fn spec(folder: &Path, vmm: &str) -> SandboxSpec {
        for name in ["vmlinux", "initramfs.cpio", "disk.ext4"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        SandboxSpec {
            id: "test".into(),
            vmm: vmm.into(),
            kernel: folder.join("vmlinux"),
            initramfs: folder.join("initramfs.cpio"),
            runtime: folder.join("run"),
            folder: folder.to_owned(),
            cgroup: None,
            vcpus: 1,
            memory_mib: 64,
            layers: Vec::new(),
            disk: Some(folder.join("disk.ext4")),
            folders: Vec::new(),
            nics: 0,
            boot_timeout: Duration::from_secs(60),
            template: None,
        }
    }

    #[tokio::test]
    async fn a_missing_vmm_is_told_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            Sandbox::start(&spec(folder.path(), "/nonexistent/hull-vmm"), Clock::start()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/hull-vmm"), "{error}");
        assert!(!folder.path().join("run").exists());
    }

    #[tokio::test]
    async fn a_missing_kernel_is_told_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), "/bin/cat");
        spec.kernel = folder.path().join("no-kernel");
        let error = Sandbox::start(&spec, Clock::start()).unwrap_err();
        assert!(error.to_string().contains("no-kernel"), "{error}");
        assert!(!folder.path().join("run").exists());
    }

    #[tokio::test]
    async fn a_runtime_folder_with_a_long_path_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path(), "/bin/cat");
        spec.runtime = folder.path().join("r".repeat(100));
        assert!(matches!(
            Sandbox::start(&spec, Clock::start()),
            Err(SandboxError::PathTooLong(_))
        ));
        assert!(!spec.runtime.exists());
    }

    #[tokio::test]
    async fn a_stream_that_is_opened_as_the_vmm_ends_fails_with_its_end_and_not_with_a_reset() {
        let folder = tempfile::tempdir().unwrap();
        let vmm = folder.path().join("vmm");
        // A process that ends closes its sockets, which resets who is connected to them, a moment before it is gone.
        let script = "#!/bin/sh\nexec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-\nsleep 0.3\n";
        std::fs::write(&vmm, script).unwrap();
        std::fs::set_permissions(&vmm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sandbox = Sandbox::start(&spec(folder.path(), vmm.to_str().unwrap()), Clock::start()).unwrap();
        let error = sandbox.output(1, StreamKind::Stdout, 0).await.unwrap_err();
        assert!(matches!(error, SandboxError::Ended(_)), "{error}");
    }

    #[tokio::test]
    async fn a_vmm_that_ends_at_once_fails_the_calls_with_its_end() {
        let folder = tempfile::tempdir().unwrap();
        // Given a spec, cat reads it and ends; it reports nothing, as a VMM that was killed.
        let sandbox = Sandbox::start(&spec(folder.path(), "/bin/cat"), Clock::start()).unwrap();
        let error = sandbox.guest().sync().await.unwrap_err();
        assert!(
            matches!(error, SandboxError::Ended(SandboxEnd { report: None, .. })),
            "{error}"
        );
        assert_eq!(sandbox.ended().await.report, None);
        assert!(!sandbox.is_running());
        assert!(!folder.path().join("run").exists());
        assert!(sandbox.clock().timeline().gone.is_some());
        let again = Sandbox::reconnect(sandbox.record().clone(), Timeline::default()).await;
        assert!(matches!(again, Err(SandboxError::Gone { .. })));
    }
}
