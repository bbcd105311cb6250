//! Capabilities of a container's processes.

use std::collections::BTreeSet;

use crate::{EngineError, Result};

/// All of Linux 6.12, capabilities(7), without `CAP_`.
const ALL: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What a container has unless told otherwise: the 14 of Docker.
const STANDARD: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Every capability, each with `CAP_`.
pub(crate) fn all() -> Vec<String> {
    ALL.iter().map(|name| format!("CAP_{name}")).collect()
}

/// The standard capabilities with some added and some taken away, each with `CAP_`. `ALL` added means all but those
/// taken away; `ALL` taken away means only those added.
pub(crate) fn resolve(add: &[String], drop: &[String]) -> Result<Vec<String>> {
    let added = parse("CapAdd", add)?;
    let dropped = parse("CapDrop", drop)?;
    let base: BTreeSet<&str> = if added.all {
        ALL.into()
    } else if dropped.all {
        BTreeSet::new()
    } else {
        STANDARD.into()
    };
    // Taking away comes first, but for what was added by name while all were taken away.
    let kept = base
        .difference(&dropped.names)
        .chain(&added.names)
        .copied()
        .collect::<BTreeSet<_>>();
    Ok(kept.into_iter().map(|name| format!("CAP_{name}")).collect())
}

struct Named {
    all: bool,
    names: BTreeSet<&'static str>,
}

fn parse(list: &str, given: &[String]) -> Result<Named> {
    let mut named = Named {
        all: false,
        names: BTreeSet::new(),
    };
    for capability in given {
        let upper = capability.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            named.all = true;
        } else if let Some(known) = ALL.iter().find(|known| **known == name) {
            named.names.insert(known);
        } else {
            return Err(EngineError::Invalid(format!(
                "invalid {list}: unknown capability: {capability:?}"
            )));
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(add: &[&str], drop: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        resolve(&owned(add), &owned(drop)).unwrap()
    }

    #[test]
    fn the_standard_set_is_changed_by_name() {
        assert_eq!(resolved(&[], &[]).len(), 14);
        let changed = resolved(&["sys_admin", "CAP_CHOWN"], &["MKNOD"]);
        assert_eq!(changed.len(), 14);
        assert!(changed.contains(&"CAP_SYS_ADMIN".into()) && !changed.contains(&"CAP_MKNOD".into()));
    }

    #[test]
    fn all_may_be_added_or_taken_away() {
        assert_eq!(resolved(&["ALL"], &[]).len(), ALL.len());
        assert!(!resolved(&["ALL"], &["SYS_ADMIN"]).contains(&"CAP_SYS_ADMIN".into()));
        assert!(resolved(&[], &["all"]).is_empty());
        assert_eq!(resolved(&["NET_RAW"], &["ALL"]), ["CAP_NET_RAW"]);
    }

    #[test]
    fn an_unknown_capability_is_refused() {
        let error = resolve(&["FLY".into()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"FLY\"");
    }
}
