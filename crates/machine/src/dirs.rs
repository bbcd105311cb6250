//! Where the helper VM keeps its files on the host.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folders and sockets of the helper VM on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineDirs {
    /// What outlives the VM: its configuration and its data disk.
    pub state: PathBuf,
    /// What lives as long as the VM: sockets, locks and logs.
    pub runtime: PathBuf,
    /// hull's own programs and images (`lib/hull`).
    pub lib: PathBuf,
    /// The Docker Engine API's socket, the same path as without a helper VM.
    pub api_socket: PathBuf,
}

impl MachineDirs {
    /// The helper VM's places below hull's state root and runtime folder on this host.
    ///
    /// `lib` is hull's `lib/hull` folder, `api_socket` the path on which clients expect the API.
    pub fn new(root: &Path, runtime: &Path, lib: &Path, api_socket: &Path) -> Self {
        MachineDirs {
            state: root.join("machine"),
            runtime: runtime.join("machine"),
            lib: lib.to_owned(),
            api_socket: api_socket.to_owned(),
        }
    }

    /// The settings that `hull machine init` wrote.
    pub fn config(&self) -> PathBuf {
        self.state.join("config.json")
    }

    /// The data disk: a sparse raw image.
    pub fn disk(&self) -> PathBuf {
        self.state.join("data.raw")
    }

    /// Held by the supervisor for as long as it lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// Held by whoever starts or removes the VM, so that two callers start one.
    pub(crate) fn start_lock(&self) -> PathBuf {
        self.runtime.join("start.lock")
    }

    /// The supervisor's own socket: status, stop, shell.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// Where QEMU meets the file server.
    pub(crate) fn virtiofs_socket(&self) -> PathBuf {
        self.runtime.join("virtiofs.sock")
    }

    /// What the supervisor itself has to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.runtime.join("supervisor.log")
    }

    /// QEMU's standard output and error.
    pub fn qemu_log(&self) -> PathBuf {
        self.runtime.join("qemu.log")
    }

    /// The file server's standard output and error.
    pub fn virtiofsd_log(&self) -> PathBuf {
        self.runtime.join("virtiofsd.log")
    }

    /// The VM's serial console.
    pub fn console_log(&self) -> PathBuf {
        self.runtime.join("console.log")
    }

    /// Which build of the image the VM was started from.
    pub(crate) fn image(&self) -> PathBuf {
        self.runtime.join("image")
    }

    /// The build that the user was told of, when it could not take over from the running one.
    pub(crate) fn announced_image(&self) -> PathBuf {
        self.runtime.join("image.announced")
    }

    /// The kernel that QEMU boots.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.lib.join("machine/vmlinuz")
    }

    /// The root file system that QEMU boots.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.lib.join("machine/initrd.img")
    }

    /// The supervisor's program.
    pub(crate) fn supervisor(&self) -> PathBuf {
        self.lib.join("hull-machine")
    }
}
