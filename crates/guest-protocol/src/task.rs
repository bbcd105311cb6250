//! Tasks: what the agent itself does with the container's file system, or looks up about its processes.
//!
//! A task is a process like another, started with [`Call::StartTask`](crate::Call::StartTask) under a
//! [`ProcessId`](crate::ProcessId) of its own: its streams, its end, its signals and its
//! [`Forget`](crate::Call::Forget) are those of a process. It sees the container's root and its volumes, whether the
//! container runs or not, but neither `/proc`, `/dev` and `/sys` nor what the container has mounted itself.
//!
//! It ends with 0 when all is done. Otherwise its exit code is that of a [`TaskFailure`], and its stderr is a message
//! for people, of at most [`MAX_TASK_MESSAGE`] bytes.

use serde::{Deserialize, Serialize};

/// The longest message of a task, in bytes.
pub const MAX_TASK_MESSAGE: usize = 8192;

/// What a [`Task::Accept`] writes first.
pub const ACCEPTED: u8 = b'+';

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Write the whole root to stdout as a tar archive, without volumes: `docker export`.
    Export,
    /// Write one [`PathStat`] frame about a path to stdout. A symbolic link at its end is not followed.
    Stat {
        /// Absolute in the container; a `/` or `/.` at its end asks for a directory.
        path: String,
    },
    /// Write a [`PathStat`] frame about a path to stdout, and behind it a tar archive of what is there. The entries are
    /// named by the path's last name: `.` for one that ends in `/.`, nothing for the root.
    Read {
        /// As for [`Task::Stat`].
        path: String,
    },
    /// Unpack the tar archive on stdin.
    Write(UnpackSpec),
    /// Copy what the image has at the target of a mount into what is mounted there: files, owners, modes, times and
    /// attributes, those of the folder itself, too. Nothing is done where the image has no folder.
    Fill(FillSpec),
    /// Write one [`Change`] frame to stdout for each difference between the container's root and its image, in the
    /// order of a walk over the tree.
    Changes,
    /// Write the writable layer to stdout as an OCI image layer: a tar archive with whiteouts.
    Layer,
    /// Wait until somebody connects to a [`Socket`](crate::Socket) of the container, and write [`ACCEPTED`] to stdout. Behind it comes
    /// what he sends, and what comes from stdin is sent to him. Each direction ends on its own, and the task with both.
    Accept {
        /// The socket's place among those of the container.
        socket: u32,
    },
    /// Write a [`ProcessClock`](crate::ProcessClock) frame to stdout, and behind it one
    /// [`ProcessInfo`](crate::ProcessInfo) frame for each process of the container, in the order of their ids.
    Processes,
}

/// How to unpack an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackSpec {
    /// The directory to unpack into, absolute in the container. It must be there.
    pub path: String,
    /// Whether a directory in the place of something else, or something else in the place of a directory, is an error
    /// rather than replaced.
    pub keep_kinds: bool,
    /// Docker's `user[:group]`, as for a process: who everything then belongs to. Without one the archive says it.
    pub owner: Option<String>,
}

/// Which mount to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSpec {
    /// Its place among the mounts of the container. It must be a folder of the host that can be written.
    pub mount: u32,
    /// Whether an earlier copy was cut short: what is there is copied over. Without it only an empty folder is filled.
    pub again: bool,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// The last name of the path.
    pub name: String,
    /// `st_size`.
    pub size: u64,
    /// `st_mode`, stat(2).
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// The rest of it in nanoseconds.
    pub mtime_nanoseconds: u32,
    /// Where a symbolic link leads to in the end, as an absolute path without links as far as there is anything.
    pub link_target: String,
}

/// A difference between a container's root and its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute in the container; what is not UTF-8 is replaced.
    pub path: String,
    /// In what way it differs.
    pub kind: ChangeKind,
}

/// The ways in which a path can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It is there in both, and not the same; or something below it differs.
    Modified,
    /// The image has no such path.
    Added,
    /// Only the image has it.
    Deleted,
}

/// Why a task failed, as far as a host tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFailure {
    /// Something that was not foreseen.
    Other,
    /// There is nothing at the path.
    NotFound,
    /// What was asked for cannot be: the destination is no directory, say.
    Invalid,
    /// The destination is read-only.
    ReadOnly,
    /// The owner is none of the container's users or groups.
    NoSuchUser,
}

impl TaskFailure {
    const ALL: [Self; 5] = [
        Self::Other,
        Self::NotFound,
        Self::Invalid,
        Self::ReadOnly,
        Self::NoSuchUser,
    ];

    /// The exit code of a task that fails so.
    pub fn code(self) -> i32 {
        match self {
            Self::Other => 1,
            Self::NotFound => 2,
            Self::Invalid => 3,
            Self::ReadOnly => 4,
            Self::NoSuchUser => 5,
        }
    }

    /// The failure that an exit code other than 0 stands for.
    pub fn from_code(code: i32) -> Self {
        let known = Self::ALL.into_iter().find(|failure| failure.code() == code);
        known.unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_as_exit_codes_and_unknown_codes_are_failures() {
        for failure in TaskFailure::ALL {
            assert_ne!(failure.code(), 0);
            assert_eq!(TaskFailure::from_code(failure.code()), failure);
        }
        assert_eq!(TaskFailure::from_code(137), TaskFailure::Other);
    }
}
