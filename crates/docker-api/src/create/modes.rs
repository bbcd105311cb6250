//! Which namespaces a container shares with whom.

use bollard_stubs::models::{HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum};
use engine::{ContainerCreate, IpcMode};

use super::refusal::unsupported;
use crate::error::ApiError;

/// What can be had of the modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) ipc: IpcMode,
    pub(super) guest_cgroups: bool,
    pub(super) guest_users: bool,
}

impl Modes {
    /// Reads the modes; those that can be had in one way only are checked.
    pub(super) fn read(host: &HostConfig) -> Result<Modes, ApiError> {
        let text = |mode: &Option<String>| mode.clone().unwrap_or_default();
        check(("PidMode", "PID"), &text(&host.pid_mode), &["private"])?;
        check(("UTSMode", "UTS"), &text(&host.uts_mode), &[])?;
        let users = text(&host.userns_mode);
        // Users are not mapped, which is what `host` asks for.
        check(("UsernsMode", "user namespace"), &users, &["host"])?;
        check_isolation(host.isolation.as_ref())?;
        Ok(Modes {
            ipc: ipc(&text(&host.ipc_mode))?,
            guest_cgroups: host.cgroupns_mode == Some(HostConfigCgroupnsModeEnum::HOST),
            guest_users: users == "host",
        })
    }
}

fn ipc(mode: &str) -> Result<IpcMode, ApiError> {
    match mode {
        "" | "private" => Ok(IpcMode::Private),
        "shareable" => Ok(IpcMode::Shareable),
        "none" => Ok(IpcMode::None),
        mode => check(("IpcMode", "IPC"), mode, &[]).map(|()| IpcMode::Private),
    }
}

/// The mode in Docker's words.
pub(crate) fn describe_ipc(config: &ContainerCreate) -> &'static str {
    match config.ipc {
        IpcMode::Private => "private",
        IpcMode::Shareable => "shareable",
        IpcMode::None => "none",
    }
}

/// Refuses what is neither nothing nor one of these. What Docker has says why it cannot be had here, and the rest is
/// nothing to Docker either.
fn check((option, name): (&str, &str), mode: &str, supported: &[&str]) -> Result<(), ApiError> {
    if mode.is_empty() || supported.contains(&mode) {
        return Ok(());
    }
    if mode == "host" || mode.starts_with("container:") {
        return Err(unsupported(option, Some(mode)));
    }
    Err(ApiError::bad_request(format!("invalid {name} mode: {mode}")))
}

fn check_isolation(isolation: Option<&HostConfigIsolationEnum>) -> Result<(), ApiError> {
    match isolation {
        Some(isolation @ (HostConfigIsolationEnum::PROCESS | HostConfigIsolationEnum::HYPERV)) => Err(
            ApiError::bad_request(format!("invalid isolation '{isolation}' on linux")),
        ),
        _ => Ok(()),
    }
}
