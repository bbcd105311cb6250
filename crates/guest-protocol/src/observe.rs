//! What a host learns of a running container's processes, and of what they use.

use serde::{Deserialize, Serialize};

/// What all processes of the container have used and use, from the files of its cgroup
/// (`Documentation/admin-guide/cgroup-v2.rst`). What the guest's kernel does not count is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `CLOCK_MONOTONIC` of the guest when this was read, in nanoseconds.
    pub clock_ns: u64,
    /// CPUs of the guest.
    pub cpus: u32,
    /// `cpu.stat`: names and values.
    pub cpu: Vec<(String, u64)>,
    /// `memory.current`, in bytes.
    pub memory_bytes: u64,
    /// `memory.max`, or what the guest has, in bytes.
    pub memory_limit: u64,
    /// `memory.stat`: names and values.
    pub memory: Vec<(String, u64)>,
    /// `pids.current`
    pub pids: u64,
    /// `pids.max`; `None` is no limit.
    pub pids_limit: Option<u64>,
    /// `io.stat`, a line for each device.
    pub io: Vec<DeviceUsage>,
    /// What went over each of the container's network interfaces.
    pub interfaces: Vec<InterfaceUsage>,
}

/// What went over a network interface since it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceUsage {
    /// Its name.
    pub name: String,
    /// What the container received.
    pub received: Traffic,
    /// What the container sent.
    pub sent: Traffic,
}

/// What went in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were damaged.
    pub errors: u64,
    /// Packets that there was no room for.
    pub dropped: u64,
}

/// What was read from and written to a block device of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// The first frame of [`Task::Processes`](crate::Task::Processes): what the numbers of the others are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessClock {
    /// Time since the guest's boot, in milliseconds.
    pub uptime_ms: u64,
    /// Memory of the guest in bytes.
    pub memory_bytes: u64,
}

/// One process or one of its threads' leaders, from `/proc` (proc(5)). Times are in hundredths of a second, which is
/// what the kernel counts for user space on every architecture that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// In the root pid namespace of the guest.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The foreground process group of its terminal.
    pub terminal_group: i32,
    /// Its terminal's device number; 0 is none.
    pub terminal: i32,
    /// Its real user.
    pub user: u32,
    /// Its effective user.
    pub effective_user: u32,
    /// Its real group.
    pub group_id: u32,
    /// Its effective group.
    pub effective_group: u32,
    /// Its state as a letter.
    pub state: char,
    /// Its priority as the kernel counts it.
    pub priority: i64,
    /// Its nice value.
    pub nice: i64,
    /// How many threads it has.
    pub threads: u64,
    /// Kernel flags.
    pub flags: u64,
    /// Page faults without and with I/O.
    pub faults: (u64, u64),
    /// Time in user mode.
    pub user_time: u64,
    /// Time in kernel mode.
    pub system_time: u64,
    /// When it began, after the guest's boot.
    pub started: u64,
    /// Its address space, in bytes.
    pub virtual_bytes: u64,
    /// Memory of it that is present, in bytes.
    pub resident_bytes: u64,
    /// Memory of it that is locked, in bytes.
    pub locked_bytes: u64,
    /// The CPU that it ran on last.
    pub cpu: i32,
    /// The name of its program, as the kernel keeps it; what is not UTF-8 is replaced.
    pub command: String,
    /// Its arguments; none for one that has ended and not been reaped. At most [`MAX_PROCESS_ARGUMENTS`] bytes.
    pub arguments: Vec<String>,
}

/// How much is told of the arguments of a process, in bytes.
pub const MAX_PROCESS_ARGUMENTS: usize = 4096;
