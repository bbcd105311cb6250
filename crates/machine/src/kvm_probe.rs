//! What `/dev/kvm` of this host is worth, found out by running a guest.
//!
//! Opening the device proves nothing: some hosts let a process create VMs and vCPUs but interpret the
//! guest's kernel mode, a thousand times slower and with instructions missing. So a tiny guest counts a
//! register down in ring 0, and is timed.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

/// Instructions of one round of the guest's loop (`dec`, `jnz`), after which it leaves to be timed.
const ROUND_INSTRUCTIONS: u64 = 2 * ROUND_ITERATIONS as u64;
const ROUND_ITERATIONS: u32 = 20_000;
/// Rounds that are run at most: a few milliseconds on hardware, even one nesting level down.
const ROUNDS: u32 = 25;
/// When the rounds are cut short: an interpreting host would need seconds.
const PATIENCE: Duration = Duration::from_millis(50);
/// Instructions a second that separate hardware (1e8 and more, nested and with exits counted) from an
/// interpreter (2e6).
const HARDWARE_RATE: u64 = 30_000_000;

const PAGE: usize = 4096;
/// Port 0x80 is the PC's diagnostic port: a write to it leaves the guest and does nothing else.
const EXIT_PORT: u16 = 0x80;

/// What this host's KVM can do for this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvmState {
    /// A guest's kernel mode runs on the processor.
    Hardware {
        /// Instructions a second that the probe measured.
        rate: u64,
    },
    /// The device works, but a guest's kernel mode is interpreted: too slow, and not complete.
    Interpreted {
        /// Instructions a second that the probe measured.
        rate: u64,
    },
    /// The device is there, but this user may not open it.
    Denied,
    /// There is no `/dev/kvm`.
    Missing,
    /// The device is there, but a guest cannot be run with it.
    Broken {
        /// What was tried, and why it failed.
        reason: String,
    },
}

impl std::fmt::Display for KvmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KvmState::Hardware { rate } => {
                write!(
                    f,
                    "/dev/kvm runs guests on the processor ({} million instructions a second)",
                    rate / 1_000_000
                )
            }
            KvmState::Interpreted { rate } => write!(
                f,
                "/dev/kvm opens, but interprets a guest's kernel ({:.1} million instructions a second)",
                *rate as f64 / 1e6
            ),
            KvmState::Denied => f.write_str("/dev/kvm is there, but this user may not open it"),
            KvmState::Missing => f.write_str("there is no /dev/kvm"),
            KvmState::Broken { reason } => write!(f, "/dev/kvm cannot run a guest: {reason}"),
        }
    }
}

/// Probe this host's KVM, at most once in each boot of the host.
///
/// A measured answer is kept in `runtime` (hull's runtime folder) beside the host's boot id. Answers that
/// cost nothing to find again, such as a missing device, are not.
pub fn probe(runtime: &Path) -> KvmState {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return KvmState::Denied,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return KvmState::Missing,
        Err(e) => {
            return KvmState::Broken {
                reason: format!("cannot open it: {e}"),
            };
        }
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let cache = runtime.join("kvm-probe.json");
    if let Some(kept) = Kept::load(&cache, &boot_id) {
        return kept;
    }
    let state = run().unwrap_or_else(|reason| KvmState::Broken { reason });
    Kept::store(&cache, &boot_id, &state);
    state
}

#[derive(Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    state: KvmState,
}

impl Kept {
    fn load(cache: &Path, boot_id: &str) -> Option<KvmState> {
        let kept: Kept = serde_json::from_slice(&fs::read(cache).ok()?).ok()?;
        (kept.boot_id == boot_id).then_some(kept.state)
    }

    /// A cache that cannot be written costs 50 ms at the next call and is no error.
    fn store(cache: &Path, boot_id: &str, state: &KvmState) {
        let kept = Kept {
            boot_id: boot_id.to_owned(),
            state: state.clone(),
        };
        let new = cache.with_extension(format!("new-{}", std::process::id()));
        if let Ok(text) = serde_json::to_vec(&kept)
            && fs::write(&new, text).is_ok()
            && fs::rename(&new, cache).is_err()
        {
            let _ = fs::remove_file(&new);
        }
    }
}

/// One page of guest memory at guest address 0, with the loop at its start.
#[repr(C, align(4096))]
struct GuestPage([u8; PAGE]);

impl GuestPage {
    fn with_loop() -> Box<Self> {
        let mut code = vec![0xb9]; // mov ecx, ROUND_ITERATIONS
        code.extend_from_slice(&ROUND_ITERATIONS.to_le_bytes());
        code.extend_from_slice(&[
            0x49, // dec ecx
            0x75,
            0xfd, // jnz the dec
            0xe6,
            EXIT_PORT as u8, // out EXIT_PORT, al
            0xeb,
            0xf4, // jmp the mov
        ]);
        let mut page = Box::new(GuestPage([0; PAGE]));
        page.0[..code.len()].copy_from_slice(&code);
        page
    }
}

/// The probing VM. Fields are dropped in order: the VM is gone before its memory.
struct ProbeVm {
    vcpu: VcpuFd,
    _vm: VmFd,
    _page: Box<GuestPage>,
}

impl ProbeVm {
    fn new() -> Result<Self, String> {
        let failed = |what: &'static str| move |e: kvm_ioctls::Error| format!("{what}: {e}");
        let kvm = Kvm::new().map_err(failed("cannot open it"))?;
        let vm = kvm.create_vm().map_err(failed("cannot create a VM"))?;
        let page = GuestPage::with_loop();
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: PAGE as u64,
            userspace_addr: std::ptr::from_ref::<GuestPage>(&page) as u64,
        };
        // SAFETY: the region is the whole of `page`, page-aligned and of that size. It is owned by the
        // returned value, which drops it only after the VM, and nobody else reads or writes it meanwhile.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed("cannot give the VM memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(failed("cannot create a vCPU"))?;
        let sregs = vcpu
            .get_sregs()
            .map_err(failed("cannot read the vCPU's registers"))?;
        vcpu.set_sregs(&flat_protected_mode(sregs))
            .map_err(failed("cannot enter protected mode"))?;
        let regs = kvm_regs {
            rip: 0,
            rflags: 2,
            ..kvm_regs::default()
        };
        vcpu.set_regs(&regs)
            .map_err(failed("cannot set the vCPU's registers"))?;
        Ok(ProbeVm {
            vcpu,
            _vm: vm,
            _page: page,
        })
    }

    fn round(&mut self) -> Result<(), String> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(EXIT_PORT, _)) => Ok(()),
            Ok(other) => Err(format!("the probe's guest ended with {other:?}")),
            Err(e) => Err(format!("cannot run the probe's guest: {e}")),
        }
    }
}

/// Ring 0, 32 bits, no paging: the least that is not real mode, which some processors emulate.
fn flat_protected_mode(mut sregs: kvm_sregs) -> kvm_sregs {
    let data = kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: 0x10,
        type_: 0x3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment {
        selector: 0x8,
        type_: 0xb,
        ..data
    };
    sregs.ds = data;
    sregs.es = data;
    sregs.ss = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.cr0 |= 1;
    sregs
}

fn run() -> Result<KvmState, String> {
    let mut vm = ProbeVm::new()?;
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && start.elapsed() < PATIENCE {
        vm.round()?;
        rounds += 1;
    }
    let elapsed = start.elapsed().as_nanos().max(1);
    let rate = u128::from(ROUND_INSTRUCTIONS) * u128::from(rounds) * 1_000_000_000 / elapsed;
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    Ok(if rate >= HARDWARE_RATE {
        KvmState::Hardware { rate }
    } else {
        KvmState::Interpreted { rate }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_for_this_boot_only() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = tmp.path().join("kvm-probe.json");
        assert_eq!(Kept::load(&cache, "boot 1"), None);
        let state = KvmState::Interpreted { rate: 1_700_000 };
        Kept::store(&cache, "boot 1", &state);
        assert_eq!(Kept::load(&cache, "boot 1"), Some(state));
        assert_eq!(Kept::load(&cache, "boot 2"), None);
        fs::write(&cache, b"{").unwrap();
        assert_eq!(Kept::load(&cache, "boot 1"), None);
    }

    #[test]
    fn the_probe_is_bounded_whatever_it_finds() {
        let tmp = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let state = probe(tmp.path());
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{state:?} took {:?}",
            start.elapsed()
        );
        if let KvmState::Hardware { rate } | KvmState::Interpreted { rate } = state {
            assert!(rate > 0);
            assert_eq!(probe(tmp.path()), state, "the second answer comes from the cache");
        }
    }
}
