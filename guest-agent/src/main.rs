//! PID 1 of a hull microVM: it prepares the container, starts its processes and carries their streams, as the host asks
//! over vsock. `guest-protocol` is the contract.

mod agent;
mod archive;
mod boot;
mod capabilities;
mod cgroup;
mod clock;
mod command;
mod container;
mod control;
mod device_filter;
mod devices;
mod extra_devices;
mod files;
mod init;
mod launch;
mod mounts;
mod network;
mod os_error;
mod poll;
mod process;
mod processes;
mod report;
mod restored;
mod rlimits;
mod root;
mod rootfs;
mod seccomp;
mod sockets;
mod start;
mod stream;
mod sys;
mod terminal;
mod usage;
mod user;
mod user_namespace;
mod view;

use anyhow::{Context, bail};

fn main() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("guest-agent is the init of a hull microVM; it does nothing anywhere else");
    }
    let agent = agent::Agent::boot().context("the guest cannot be made ready")?;
    agent.serve().context("the guest agent cannot go on")
}
