//! The program inside the helper VM (`machine-agent`), twice: as PID 1, which brings the kernel's side up
//! and buries the dead, and as its one child, which speaks to the host and keeps hulld running.
//!
//! They are two processes because PID 1 must wait for every process there is, and whoever runs children of
//! its own must not have them waited for by somebody else.

mod async_file;
mod daemon;
mod host_files;
pub(crate) mod host_ports;
mod init;
mod kvm_hold;
mod loopback;
mod network;
mod port;
mod serve;
mod shell;
mod storage;

pub use init::{InitError, init};
pub use serve::{ServeError, serve};

/// The virtio-serial port that carries the link.
pub const LINK_PORT: &str = "hull.link";
/// What the agent sends first on that port: the link's protocol begins after it.
pub(crate) const PREAMBLE: &[u8] = b"hull-link 1\n";
/// The virtio-fs tag of the host's `/`.
pub const HOST_TAG: &str = "host";
/// Where the host's `/` is mounted in the VM.
pub const HOST_ROOT: &str = "/host";
/// hull's programs and images in the VM.
pub(crate) const LIB: &str = "/usr/local/lib/hull";
/// hulld's state, on the data disk.
pub(crate) const STATE: &str = "/var/lib/hull";
/// hulld's runtime folder.
pub(crate) const RUNTIME: &str = "/run/hull";
/// Where hulld serves the API in the VM.
pub(crate) const API_SOCKET: &str = "/run/hull/hull.sock";
/// Where hulld asks for ports of the host. In a folder of the agent's, because the socket is for root alone.
pub(crate) const HOST_PORTS_SOCKET: &str = "/run/hull-machine/host-ports.sock";
/// What the commands of the VM are run with.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
