//! Containers, the processes in them and their images: policy and state.
//!
//! An [`Engine`] keeps every container in a folder of its own under its state root and runs it in a microVM of its own
//! through [`sandbox`]. A container belongs to its VMM, not to the engine: an engine that is opened on the same root
//! finds again what runs.
//!
//! Wherever a method takes a container's name, it may be the name, the id, or a prefix of the id that no other
//! container shares.

mod archive;
mod attach;
mod boot;
mod build;
mod capabilities;
mod client_files;
mod container;
mod cpuset;
mod create;
mod creation;
mod detach;
mod disk;
mod engine;
mod error;
mod events;
mod exec;
mod exec_process;
mod folder;
// In tests, too, so that it is compiled wherever they are.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod guest_spec;
mod health;
mod health_monitor;
mod host;
mod hub;
mod human_size;
mod ids;
mod images;
mod limits;
mod list;
mod log;
mod logs;
mod merge;
mod meters;
mod mounts;
mod names;
mod network_files;
mod networks;
mod pause;
mod processes;
mod registry;
mod rename;
mod restart;
mod restore;
mod run;
mod seccomp;
mod signals;
mod sizes;
mod start;
mod state;
mod stats;
mod stdin;
mod stop;
mod streams;
mod update;
mod view;
mod volumes;
mod wait;
mod watchdog;

pub use ::registry::{ConfigError as RegistryConfigError, InsecureHost, Mirror, RegistryConfig};
pub use archive::{Archive, Changes, UnpackOptions, Unpacking};
pub use attach::*;
pub use build::*;
pub use client_files::ClientFiles;
pub use create::*;
pub use engine::*;
pub use error::*;
pub use events::{Event, EventKind, EventStream};
pub use exec::*;
pub use guest_spec::{MASKED_PATHS, READ_ONLY_PATHS};
pub use health::{Health, HealthCheck, HealthResult, HealthStatus, HealthTest};
pub use human_size::{SizeError, binary_size};
pub use image_store::{
    CheckReport, DamagedObject, HistoryEntry, Image, ImageHealthCheck, ImageSummary, Layer, Problem, Pruned,
    Removal, Usage,
};
pub use images::*;
pub use log::{LogDriver, LogReader, LogSpec};
pub use logs::*;
pub use meters::Meters;
pub use network::{HostSettings, Protocol};
pub use networks::*;
pub use processes::ProcessList;
pub use restart::RestartPolicy;
pub use sandbox::{
    Change, ChangeKind, Device, DeviceAccess, DeviceKind, DeviceRule, DeviceUsage, InterfaceUsage, IoLimits,
    PathStat, ProcessClock, ProcessInfo, Rlimit, Timeline, Traffic, Usage as GuestUsage, WindowSize,
};
pub use sizes::ContainerSizes;
pub use state::*;
pub use stats::Sample;
pub use stop::StopTimeout;
pub use update::ContainerUpdate;
pub use view::*;
pub use volumes::{Volume, VolumeCreate};
pub use wait::*;
