//! The helper VM: a Linux virtual machine under QEMU in which hull's daemon runs when this host cannot
//! run microVMs itself, or may not for this user.
//!
//! Whether it is needed is decided by [`HostReport`], from a timed probe of `/dev/kvm`. [`Machine`] is the
//! handle: it starts the VM, speaks to it and removes it. Two programs of this crate do the work:
//!
//! - `hull-machine` on the host ([`supervisor`]) owns QEMU and the file server (virtiofsd), listens on the
//!   ordinary API socket and forwards each connection. When it dies, both die with it.
//! - `machine-agent` ([`agent`]) is PID 1 of the VM: it mounts the host's files and the data disk, runs
//!   hulld, and answers the supervisor.
//!
//! They are joined by one virtio-serial port that carries many byte streams ([`link`]).

pub mod agent;
mod config;
mod dirs;
mod handle;
mod host;
mod host_settings;
mod kvm_probe;
pub mod link;
mod network;
pub mod ports;
pub mod protocol;
mod shell;
pub mod supervisor;

pub use config::{ConfigError, MachineConfig, MachineOptions};
pub use dirs::MachineDirs;
pub use handle::{DiskUse, Machine, MachineError, MachineReport, Progress, Renewal};
pub use host::{Accelerator, HostReport, Placement, Virtiofsd};
pub use host_settings::HostSettings;
pub use kvm_probe::{KvmState, probe};
pub use protocol::MachineStatus;
