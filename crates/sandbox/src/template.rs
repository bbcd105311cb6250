//! Templates: VM snapshots of guests that have booted and wait for their host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use vm_spec::control::{Request, Response};

use crate::launch::{Launched, launch};
use crate::supervise::{ask_patiently, remove_cgroup};
use crate::{Result, SandboxEnd, SandboxError, SandboxSpec, Shape};

/// How long the guest is left alone before it is saved, so that what its kernel does late is in the snapshot.
const SETTLE: Duration = Duration::from_millis(300);

/// A folder with a VM snapshot that microVMs of one shape go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    folder: PathBuf,
    copied: bool,
}

impl Template {
    /// The template in `folder`; `copied` says whether microVMs copy the memory that they write to at once.
    pub(crate) fn new(folder: PathBuf, copied: bool) -> Template {
        Template { folder, copied }
    }

    pub(crate) fn copies(&self) -> bool {
        self.copied
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The state of vCPUs and devices.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Guest memory.
    pub(crate) fn memory(&self) -> PathBuf {
        self.folder.join("memory")
    }

    /// Boots a guest of this shape, and saves it once its agent waits for its host. `spec` says what it boots, and has
    /// nothing for its devices but a disk; its folders are the caller's to remove, whatever comes of it. The guest has
    /// run nothing but its kernel and its agent.
    pub(crate) async fn make(&self, spec: &SandboxSpec, shape: &Shape) -> Result<()> {
        let Launched { mut child, ready } = launch(spec, shape, Some(self))?;
        let cgroup = spec.own_cgroup();
        lower_priority(&child);
        let made = tokio::time::timeout(spec.boot_timeout, async {
            tokio::select! {
                saved = save(ready, &spec.runtime) => saved,
                _ = child.wait() => Err(SandboxError::Ended(SandboxEnd::read(&spec.folder, cgroup.as_deref()))),
            }
        });
        let made = made.await.unwrap_or_else(|_| {
            Err(SandboxError::BootTimeout {
                seconds: spec.boot_timeout.as_secs(),
                log: String::new(),
            })
        });
        // Whatever state it is in, nothing of it is needed any more. It may have ended already.
        let _ = child.kill().await;
        if let Some(cgroup) = cgroup {
            remove_cgroup(cgroup).await;
        }
        made
    }
}

async fn save(ready: Option<tokio::net::UnixListener>, runtime: &Path) -> Result<()> {
    if let Some(ready) = ready {
        let (agent, _) = ready
            .accept()
            .await
            .map_err(SandboxError::connection("wait for the agent"))?;
        wait_for_close(agent).await?;
    }
    tokio::time::sleep(SETTLE).await;
    match ask_patiently(runtime, Request::Save).await? {
        Response::State(_) => Ok(()),
        Response::Error(answer) => Err(SandboxError::Unexpected {
            action: "save the microVM",
            answer,
        }),
    }
}

/// The agent closes the connection when it has nothing to do but to wait for its host.
async fn wait_for_close(mut agent: UnixStream) -> Result<()> {
    match agent.read(&mut [0]).await {
        Ok(0) => Ok(()),
        Ok(_) => Err(SandboxError::Unexpected {
            action: "wait for the agent",
            answer: "a byte".into(),
        }),
        Err(source) => Err(SandboxError::Connection {
            action: "wait for the agent",
            source,
        }),
    }
}

/// Containers come first. If this fails it only is a matter of time.
fn lower_priority(child: &tokio::process::Child) {
    const LOWEST: i32 = 19;
    let pid = child
        .id()
        .and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    if let Some(pid) = pid {
        let _ = rustix::process::setpriority_process(Some(pid), LOWEST);
    }
}
