//! What this host has, and what follows for where microVMs run.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kvm_probe::{self, KvmState};

/// QEMU's emulator for this processor, as Debian and others call it.
const QEMU: &str = "qemu-system-x86_64";
/// The file server: a package of its own (written in Rust), or QEMU's own of version 7.2 and before.
const VIRTIOFSD_RUST: [&str; 2] = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];
const VIRTIOFSD_QEMU: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd"];

/// How QEMU runs the helper VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// On the processor; microVMs are nested guests.
    Kvm,
    /// Emulated. QEMU emulates AMD's SVM too, so that microVMs are real KVM guests of the emulated machine.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "nested KVM",
            Accelerator::Tcg => "emulation (QEMU TCG with AMD SVM)",
        })
    }
}

/// Where microVMs run, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On this host, under a hulld of its own.
    Host,
    /// In the helper VM.
    Machine {
        /// What runs the helper VM.
        accelerator: Accelerator,
        /// One line for the user.
        why: String,
    },
}

/// Which of the two implementations of virtiofsd there is; they differ in their arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Virtiofsd {
    /// The one of its own package, written in Rust.
    Rust(PathBuf),
    /// The one that came with QEMU up to 7.2, written in C.
    Qemu(PathBuf),
}

/// What this host has that decides where microVMs run.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// What `/dev/kvm` is worth to this user.
    pub kvm: KvmState,
    /// Whether KVM's guests may run KVM guests of their own.
    pub nested: bool,
    /// Whether this user is root.
    pub root: bool,
    /// CPUs this process may use.
    pub cpus: u32,
    /// The host's memory in MiB.
    pub memory_mib: u64,
    /// QEMU, when installed.
    pub qemu: Option<PathBuf>,
    /// The file server, when installed.
    pub virtiofsd: Option<Virtiofsd>,
}

impl HostReport {
    /// Look at this host. `runtime` is hull's runtime folder, where the probe's answer is kept.
    pub fn gather(runtime: &Path) -> Self {
        HostReport {
            kvm: kvm_probe::probe(runtime),
            nested: nested(),
            root: rustix::process::geteuid().is_root(),
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_mib: memory_mib(),
            qemu: find_program(QEMU),
            virtiofsd: find_virtiofsd(),
        }
    }

    /// What would run a helper VM on this host.
    pub fn accelerator(&self) -> Accelerator {
        match self.kvm {
            KvmState::Hardware { .. } if self.nested => Accelerator::Kvm,
            _ => Accelerator::Tcg,
        }
    }

    /// Where microVMs run on this host, for this user.
    pub fn placement(&self) -> Placement {
        let fast = matches!(self.kvm, KvmState::Hardware { .. });
        if fast && self.root {
            return Placement::Host;
        }
        let accelerator = self.accelerator();
        let why = match (fast, accelerator) {
            (true, Accelerator::Kvm) => "hull needs root on this host and you are not".to_owned(),
            (true, Accelerator::Tcg) => {
                "hull needs root on this host and you are not, and KVM's nesting is off".to_owned()
            }
            (false, _) => self.kvm.to_string(),
        };
        Placement::Machine { accelerator, why }
    }

    /// What the user could change to make hull faster here, a sentence each.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        match &self.kvm {
            KvmState::Hardware { .. } if self.root => {}
            KvmState::Hardware { .. } if self.nested => {
                advice.push("run hull as root: microVMs then run on this host's KVM without a helper VM".to_owned());
            }
            KvmState::Hardware { .. } => advice.push(
                "run hull as root, or turn KVM's nesting on (`modprobe kvm_intel nested=1`, for AMD kvm_amd)".to_owned(),
            ),
            KvmState::Denied => advice.push(
                "become a member of the group that owns /dev/kvm (`usermod -aG kvm $USER`, then log in again)".to_owned(),
            ),
            KvmState::Missing => advice.push(
                "load KVM (`modprobe kvm_intel` or `kvm_amd`); in a cloud VM choose a type with nested virtualization, on a PC turn VT-x or SVM on in its firmware".to_owned(),
            ),
            KvmState::Interpreted { .. } | KvmState::Broken { .. } => advice.push(
                "use a bare-metal host, or a cloud VM with nested virtualization (VT-x or SVM)".to_owned(),
            ),
        }
        if matches!(self.placement(), Placement::Machine { .. }) {
            if self.qemu.is_none() {
                advice.push(format!(
                    "install {QEMU} (Debian: `apt-get install qemu-system-x86`): the helper VM needs it"
                ));
            } else if self.virtiofsd.is_none() {
                advice.push("install virtiofsd (Debian 12: part of qemu-system-common, later: `apt-get install virtiofsd`): the helper VM needs it for bind mounts".to_owned());
            }
        }
        advice
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        HostReport {
            kvm: KvmState::Missing,
            nested: false,
            root: true,
            cpus: 2,
            memory_mib: 8192,
            qemu: None,
            virtiofsd: None,
        }
    }
}

fn nested() -> bool {
    ["kvm_intel", "kvm_amd"].iter().any(|module| {
        fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|value| matches!(value.trim(), "Y" | "1"))
    })
}

fn memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    // The field's type differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    let bytes = info.totalram as u64 * u64::from(info.mem_unit);
    bytes >> 20
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn find_virtiofsd() -> Option<Virtiofsd> {
    let rust = VIRTIOFSD_RUST
        .iter()
        .map(PathBuf::from)
        .find(|file| file.is_file());
    let qemu = || {
        VIRTIOFSD_QEMU
            .iter()
            .map(PathBuf::from)
            .find(|file| file.is_file())
    };
    rust.map(Virtiofsd::Rust).or_else(|| qemu().map(Virtiofsd::Qemu))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kvm: KvmState, nested: bool, root: bool) -> HostReport {
        HostReport {
            kvm,
            nested,
            root,
            ..HostReport::for_tests()
        }
    }

    const FAST: KvmState = KvmState::Hardware { rate: 2_000_000_000 };

    #[test]
    fn root_with_fast_kvm_needs_no_helper_vm() {
        assert_eq!(host(FAST, false, true).placement(), Placement::Host);
    }

    #[test]
    fn interpreted_kvm_means_emulation_and_says_why() {
        let host = host(KvmState::Interpreted { rate: 1_700_000 }, true, true);
        let Placement::Machine { accelerator, why } = host.placement() else {
            panic!("not in the helper VM")
        };
        assert_eq!(accelerator, Accelerator::Tcg);
        assert!(why.contains("interprets") && why.contains("1.7 million"), "{why}");
    }

    #[test]
    fn an_ordinary_user_gets_nested_kvm_only_where_nesting_is_on() {
        for (nested, expected) in [(true, Accelerator::Kvm), (false, Accelerator::Tcg)] {
            let Placement::Machine { accelerator, why } = host(FAST, nested, false).placement() else {
                panic!("an ordinary user was sent to the host")
            };
            assert_eq!(accelerator, expected);
            assert!(why.contains("root"), "{why}");
        }
    }

    #[test]
    fn missing_programs_are_named_with_their_package() {
        let advice = host(KvmState::Missing, false, true).advice().join("\n");
        assert!(advice.contains("qemu-system-x86"), "{advice}");
        let with_qemu = HostReport {
            qemu: Some("/usr/bin/qemu-system-x86_64".into()),
            ..HostReport::for_tests()
        };
        assert!(with_qemu.advice().join("\n").contains("virtiofsd"));
    }
}
