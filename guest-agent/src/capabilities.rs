//! Linux capabilities of a process.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet as Bits, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};

/// Names in the order of their numbers in `linux/capability.h`, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySet(u64);

/// A name that is no capability.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub(crate) struct UnknownCapability(String);

impl CapabilitySet {
    /// The set of the named capabilities, `CAP_CHOWN` and so on.
    pub(crate) fn from_names(names: &[String]) -> Result<Self, UnknownCapability> {
        let number = |name: &String| {
            let bare = name.strip_prefix("CAP_")?;
            NAMES
                .iter()
                .position(|known| *known == bare)
                .map(|number| number as u32)
        };
        names
            .iter()
            .map(|name| number(name).ok_or_else(|| UnknownCapability(name.clone())))
            .collect()
    }

    pub(crate) fn contains(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }

    /// Takes all others out of the bounding set, so that no program this process starts can gain them.
    pub(crate) fn bound(self) -> Result<(), Errno> {
        for capability in (0..NAMES.len() as u32).filter(|capability| !self.contains(*capability)) {
            remove_capability_from_bounding_set(Bits::from_bits_retain(1 << capability))?;
        }
        Ok(())
    }

    /// Makes them what the process has and may use. As in Docker none is inheritable, so a program of another user has
    /// them only by its own file capabilities.
    pub(crate) fn take(self) -> Result<(), Errno> {
        let bits = Bits::from_bits_retain(self.0);
        set_capabilities(
            None,
            CapabilitySets {
                effective: bits,
                permitted: bits,
                inheritable: Bits::empty(),
            },
        )
    }
}

impl FromIterator<u32> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self(numbers.into_iter().fold(0, |bits, number| bits | (1 << number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_kernels_numbers() {
        let set = CapabilitySet::from_names(&["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into(), "CAP_BPF".into()])
            .unwrap();
        assert_eq!(set, [0, 21, 39].into_iter().collect());
        assert!(set.contains(21) && !set.contains(20));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        for name in ["CAP_EVERYTHING", "CHOWN", "cap_chown", ""] {
            assert_eq!(
                CapabilitySet::from_names(&[name.into()]),
                Err(UnknownCapability(name.into()))
            );
        }
    }
}
