//! What the host has.

use std::fs;

/// The host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) name: String,
    pub(crate) kernel: String,
    pub(crate) machine: String,
    pub(crate) operating_system: String,
}

impl Host {
    /// Looks around.
    pub(crate) fn look() -> Host {
        let names = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        Host {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.totalram as u64 * u64::from(memory.mem_unit),
            name: text(names.nodename()),
            kernel: text(names.release()),
            machine: text(names.machine()),
            operating_system: operating_system().unwrap_or_else(|| text(names.sysname())),
        }
    }
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}
