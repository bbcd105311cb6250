//! One microVM and the agent in it: start, speak, supervise, clean up.
//!
//! [`Sandbox::start`] spawns a `hull-vmm` and returns at once; what is sent to its [`Guest`] meanwhile waits until the
//! agent is there. The VMM outlives the process that started it: [`SandboxRecord`] is all that another one needs to
//! [reconnect](Sandbox::reconnect).

mod boot;
mod cgroup;
mod connection;
mod end;
mod error;
mod guest;
mod launch;
mod process;
mod sandbox;
mod shared;
mod spec;
mod streams;
mod supervise;
mod task;
mod template;
mod templates;
mod timeline;

pub use cgroup::{CpuShare, open_cgroup};
pub use end::*;
pub use error::*;
pub use guest::*;
pub use guest_protocol::filter::{self, FilterInstruction, MAX_INSTRUCTIONS};
pub use guest_protocol::{
    ACCEPTED, CallError, Change, ChangeKind, ContainerSpec, Device, DeviceAccess, DeviceKind, DeviceRule,
    DeviceUsage, Devices, ErrorKind as CallErrorKind, ExitStatus, File, FillSpec, Gateway, Interface,
    InterfaceUsage, IoLimits, Limits, MAX_NICS, Mount, MountSource, Namespaces, PathStat, ProcessClock,
    ProcessId, ProcessInfo, ProcessSpec, ProcessState, Rlimit, Rootfs, STREAM_WINDOW, Seccomp, Socket,
    StreamKind, Task, TaskFailure, TmpfsFlags, Traffic, UnpackSpec, Usage, WindowSize,
};
pub use sandbox::*;
pub use spec::*;
pub use streams::*;
pub use task::RunningTask;
pub use template::Template;
pub use templates::*;
pub use timeline::*;
pub use vm_spec::{MAX_QUEUE_PAIRS as MAX_NIC_QUEUES, MAX_VCPUS, MIN_MEMORY_MIB};
