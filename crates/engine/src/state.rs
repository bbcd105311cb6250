//! How a container stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The states of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Made, and never started, or its start failed.
    #[default]
    Created,
    /// Its init runs.
    Running,
    /// Its processes are held.
    Paused,
    /// Its init has ended.
    Exited,
    /// Its init has ended, and it is started again after a pause.
    Restarting,
    /// It is being removed.
    Removing,
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Exited => "exited",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
        }
    }
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Which of the states it is in.
    pub status: Status,
    /// The process id of its VMM on the host while it runs.
    pub pid: Option<i32>,
    /// The exit code of its last run; 0 if there was none.
    pub exit_code: i32,
    /// Why its last start failed, or its last run ended other than by its init's end; empty if neither is so.
    pub error: String,
    /// Whether its memory limit ended it.
    pub oom_killed: bool,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// When its last run ended.
    pub finished_at: Option<Timestamp>,
    /// How often it was started again by its restart policy since it was last started by somebody.
    pub restarts: u32,
    /// Whether somebody asked for its end since it was last started.
    pub stopped: bool,
}
