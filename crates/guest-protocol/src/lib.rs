//! What host and guest agent say to each other, and how it is framed.
//!
//! The agent listens on two vsock ports, then connects once to [`READY_PORT`] of the host and closes: that connection
//! is the signal that it can be spoken to. From then on only the host opens connections. A guest that goes on from a VM
//! snapshot gives no such signal: it listens already.
//!
//! - [`CONTROL_PORT`]: the host sends [`Request`]s, the agent answers each with a [`Response`] that carries the same
//!   id, in any order, and sends [`Event`]s when they happen. A new control connection takes the place of an older one,
//!   so that a restarted host can take over; it learns what it missed with [`Call::State`].
//! - [`STREAM_PORT`]: one connection per stream of a process. The host sends a [`StreamHello`] frame, the agent answers
//!   with a [`StreamReply`] frame, and from then on the connection carries bytes. See [`StreamHello`].
//!
//! Frames are a `u32` length in little endian and that many bytes of [postcard](https://postcard.jamesmunns.com).
//! Neither side trusts the other: a frame over [`MAX_FRAME`] ends the connection.

mod container;
pub mod filter;
mod frame;
mod network;
mod observe;
mod process;
mod restored;
mod task;

pub use container::*;
pub use frame::*;
pub use network::*;
pub use observe::*;
pub use process::*;
pub use restored::*;
pub use task::*;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The port of the host that the agent connects to when it is ready.
pub const READY_PORT: u32 = 1;
/// The agent's port for [`Request`]s.
pub const CONTROL_PORT: u32 = 1024;
/// The agent's port for the streams of processes.
pub const STREAM_PORT: u32 = 1025;

/// How many bytes of a stream the agent keeps until the host has acknowledged them. The agent stops reading from the
/// process when that many are unacknowledged: this is the back-pressure, and the bound on memory.
pub const STREAM_WINDOW: u64 = 256 * 1024;

/// A request from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host; the response carries it back.
    pub id: u64,
    /// What is asked.
    pub call: Call,
}

/// What the host can ask. Requests are carried out in the order in which they arrive, so that a host may send several
/// without waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// This guest goes on from a VM snapshot, as others do from the same one: the first request after that. The agent
    /// makes the guest one of its own before it serves anything else; if it cannot, the guest ends. Answered with
    /// [`Reply::Done`].
    Restored(Restored),
    /// Prepare the one container of this microVM: its root file system, devices with host folders, files,
    /// cgroup, network interfaces. Answered with [`Reply::Done`]. What lies in namespaces (mounts over the root,
    /// hostname, sysctls, hidden paths) is made together with the container's init, and what is wrong with it is told by
    /// the [`Call::StartProcess`] of that.
    CreateContainer(Box<ContainerSpec>),
    /// Take the container away, so that there can be another one. All its processes and tasks must have ended; they are forgotten. Its
    /// writable layer is deleted. The layers below it stay mounted, its interfaces up, its limits set, until the next
    /// container has others. One with devices or a user namespace of its own has to stay. Answered with [`Reply::Done`].
    RemoveContainer,
    /// Start a process in the container. The first one is the container's init: its end is the end of the container
    /// and of every other process in it. Answered with [`Reply::Started`].
    StartProcess(Box<ProcessSpec>),
    /// Send a signal to a process. Answered with [`Reply::Done`]; a process that has ended is an
    /// [`ErrorKind::NotFound`].
    Signal {
        /// The process.
        process: ProcessId,
        /// The signal's number.
        signal: i32,
    },
    /// Resize the terminal of a process. Answered with [`Reply::Done`].
    Resize {
        /// The process.
        process: ProcessId,
        /// The new size.
        size: WindowSize,
    },
    /// List the processes the host started and has not [forgotten](Call::Forget). Answered with [`Reply::State`].
    State,
    /// Drop what is kept of a process that has ended: its exit status and unread output. Answered with
    /// [`Reply::Done`].
    Forget {
        /// The process.
        process: ProcessId,
    },
    /// Write everything to the disk and unmount it, after the container has ended. Answered with [`Reply::Done`].
    Sync,
    /// Start a [`Task`]. It is listed, signalled and forgotten as a process, and has a stdin if it reads one. It ends with
    /// the control connection. Answered with [`Reply::Started`].
    StartTask {
        /// Its name from now on.
        id: ProcessId,
        /// What it is to do.
        task: Task,
    },
    /// Hold all processes of the container, or let them go on: `cgroup.freeze`. Answered with [`Reply::Frozen`]: a
    /// process is held when it comes out of the kernel, so the host asks again until it is so.
    Freeze(bool),
    /// Change the limits of the container; what is `None` stays as it is. Answered with [`Reply::Done`].
    Limit(Limits),
    /// What the container uses. Answered with [`Reply::Usage`].
    Usage,
    /// The time of day on the host, since the beginning of 1970: a guest whose clock shows another one takes it over. Answered
    /// with [`Reply::Done`], which says that the agent is there.
    Time(Duration),
    /// Give the running container another network interface. Answered with [`Reply::Done`]; one that cannot be set up
    /// is not there afterwards.
    AddInterface(Interface),
    /// Take the interface on a network device away from the container, with its addresses and routes; the device can
    /// become another one. Answered with [`Reply::Done`].
    RemoveInterface {
        /// The network device.
        nic: u8,
    },
    /// Make these all the default routes of the container, one of each address family at most: those that the host
    /// made before go. Answered with [`Reply::Done`].
    SetGateways(Vec<Gateway>),
    /// Replace the content of files that [`ContainerSpec::files`] gave to the container; their modes stay. The files
    /// themselves are the same, so that who has one open reads the new content. If one of them was not given, none is
    /// written. Answered with [`Reply::Done`].
    WriteFiles(Vec<File>),
}

/// The answer to a [`Request`], or an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The answer to the request with this id.
    Response {
        /// The id of the request.
        id: u64,
        /// What came of it.
        result: Result<Reply, CallError>,
    },
    /// Something happened.
    Event(Event),
}

/// What a call that succeeded answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// The process runs.
    Started {
        /// Its pid in the root pid namespace of the guest.
        pid: i32,
    },
    /// The processes.
    State(Vec<ProcessState>),
    /// Whether all processes of the container are held.
    Frozen(bool),
    /// What the container uses.
    Usage(Box<Usage>),
}

/// Something that happened in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A process has ended. Its output may still be on its way: each stream ends on its own.
    Exited {
        /// The process.
        process: ProcessId,
        /// How.
        status: ExitStatus,
    },
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What a program needs to know.
    pub kind: ErrorKind,
    /// What a person needs to know: what was tried, on what, and why it failed.
    pub message: String,
}

/// The kinds of failure that a host tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The command of a process does not exist (exit code 127).
    CommandNotFound,
    /// The command of a process cannot be executed (exit code 126).
    CommandNotExecutable,
    /// A user or group name that the container's own files do not know.
    NoSuchUser,
    /// No process with this id, or it has ended.
    NotFound,
    /// Everything else.
    Failed,
}
