//! Resource limits of a process.

use guest_protocol::Rlimit;
use rustix::process::{Resource, setrlimit};

use crate::os_error::{During, OsError};

/// Why a limit could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RlimitError {
    #[error("unknown resource limit {0:?}")]
    Unknown(String),
    #[error(transparent)]
    Os(#[from] OsError),
}

/// Sets the limits of this process.
pub(crate) fn apply(limits: &[Rlimit]) -> Result<(), RlimitError> {
    for limit in limits {
        let resource = resource(&limit.name).ok_or_else(|| RlimitError::Unknown(limit.name.clone()))?;
        let value = |value| (value != u64::MAX).then_some(value);
        let new = rustix::process::Rlimit {
            current: value(limit.soft),
            maximum: value(limit.hard),
        };
        setrlimit(resource, new).during("set the resource limit", &limit.name)?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getrlimit;

    #[test]
    fn a_named_limit_takes_effect() {
        let before = getrlimit(Resource::Core);
        let hard = before.maximum.unwrap_or(u64::MAX);
        apply(&[Rlimit {
            name: "core".into(),
            soft: 0,
            hard,
        }])
        .unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }

    #[test]
    fn an_unknown_limit_is_named() {
        let error = apply(&[Rlimit {
            name: "wishes".into(),
            soft: 3,
            hard: 3,
        }])
        .unwrap_err();
        assert_eq!(error.to_string(), "unknown resource limit \"wishes\"");
    }
}
