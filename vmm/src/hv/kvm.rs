//! KVM.
#![allow(unsafe_code)]

mod state;

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread::JoinHandle;

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MAX_MSR_ENTRIES, KVM_MEM_READONLY, Msrs, kvm_cpuid_entry2,
    kvm_msr_entry, kvm_regs, kvm_run, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::{HvError, Hypervisor, Kicker, Vcpu, VcpuExit, Vm};
use crate::arch::VcpuSetup;
use crate::arch::state::{VcpuState, VmState};

/// Three pages below 4 GiB, above all devices, that Intel processors without unrestricted guests need for real mode
/// (KVM api, KVM_SET_TSS_ADDR).
const TSS_ADDRESS: usize = 0xfffb_d000;

/// What hull cannot do without.
const CAPABILITIES: [(Cap, &str); 7] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// `/dev/kvm`, open.
pub struct KvmHypervisor {
    kvm: Arc<Kvm>,
}

impl KvmHypervisor {
    /// Opens `/dev/kvm` and checks that it has what hull needs.
    pub fn open() -> Result<Self, HvError> {
        let kvm = Kvm::new().map_err(|source| HvError::Open { source })?;
        match CAPABILITIES.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            Some((_, capability)) => Err(HvError::Capability { capability }),
            None => Ok(Self { kvm: Arc::new(kvm) }),
        }
    }
}

impl Hypervisor for KvmHypervisor {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HvError> {
        let fd = self.kvm.create_vm().map_err(call("create a virtual machine"))?;
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(call("set the TSS address"))?;
        fd.create_irq_chip()
            .map_err(call("create the interrupt controllers"))?;
        Ok(Box::new(KvmVm {
            fd,
            run_size: self.kvm.get_vcpu_mmap_size().map_err(call("size a vCPU"))?,
            kvm: self.kvm.clone(),
        }))
    }

    fn supported_cpuid(&self) -> Result<CpuId, HvError> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(call("list the supported CPUID leaves"))
    }
}

struct KvmVm {
    fd: VmFd,
    run_size: usize,
    kvm: Arc<Kvm>,
}

impl Vm for KvmVm {
    fn map_memory(&self, slot: u32, region: &Arc<GuestRegionMmap>) -> Result<(), HvError> {
        self.map(slot, region, 0)
    }

    fn map_read_only(&self, slot: u32, region: &Arc<GuestRegionMmap>) -> Result<(), HvError> {
        self.map(slot, region, KVM_MEM_READONLY)
    }

    fn create_vcpu(&self, id: u8) -> Result<Box<dyn Vcpu>, HvError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(id))
            .map_err(call(format!("create vCPU {id}")))?;
        Ok(Box::new(KvmVcpu {
            fd,
            id,
            run_size: self.run_size,
            kvm: Arc::clone(&self.kvm),
            cpuid: Vec::new(),
        }))
    }

    fn register_irqfd(&self, event: &EventFd, gsi: u32) -> Result<(), HvError> {
        self.fd
            .register_irqfd(event, gsi)
            .map_err(call(format!("join an eventfd to interrupt line {gsi}")))
    }

    fn register_ioeventfd(&self, event: &EventFd, gpa: u64, value: u32) -> Result<(), HvError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(gpa), value)
            .map_err(call(format!("join an eventfd to address {gpa:#x}")))
    }

    fn save(&self) -> Result<VmState, HvError> {
        state::save_vm(&self.fd)
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        state::restore_vm(&self.fd, state)
    }
}

impl KvmVm {
    fn map(&self, slot: u32, region: &Arc<GuestRegionMmap>, flags: u32) -> Result<(), HvError> {
        let kvm_region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: MmapRegion::as_ptr(region) as u64,
        };
        // SAFETY: the region is mapped for as long as this process lives, and slots are handed out once, so none
        // overlaps another.
        unsafe { self.fd.set_user_memory_region(kvm_region) }.map_err(call(format!(
            "map {} bytes of guest memory at {:#x}",
            region.len(),
            region.start_addr().0
        )))
    }
}

struct KvmVcpu {
    fd: VcpuFd,
    id: u8,
    run_size: usize,
    kvm: Arc<Kvm>,
    /// What CPUID tells the guest, without what the guest has turned on since.
    cpuid: Vec<kvm_cpuid_entry2>,
}

impl KvmVcpu {
    fn set_cpuid(&mut self, cpuid: &CpuId) -> Result<(), HvError> {
        self.fd.set_cpuid2(cpuid).map_err(call("set the CPUID leaves"))?;
        self.cpuid = cpuid.as_slice().to_vec();
        Ok(())
    }

    fn set_entry(&self, setup: &VcpuSetup) -> Result<(), HvError> {
        let Some(entry) = &setup.entry else {
            return Ok(());
        };
        let mut sregs = self.fd.get_sregs().map_err(call("read the system registers"))?;
        entry.apply_to(&mut sregs);
        self.fd
            .set_sregs(&sregs)
            .map_err(call("set the system registers"))?;
        let regs = kvm_regs {
            rip: entry.rip,
            rsp: entry.rsp,
            rbp: entry.rsp,
            rsi: entry.rsi,
            // Bit 1 is always set (Intel SDM, section 3.4.3).
            rflags: 2,
            ..kvm_regs::default()
        };
        self.fd.set_regs(&regs).map_err(call("set the registers"))
    }

    fn set_msrs(&self, values: &[(u32, u64)]) -> Result<(), HvError> {
        let entries: Vec<kvm_msr_entry> = values
            .iter()
            .map(|(index, data)| kvm_msr_entry {
                index: *index,
                data: *data,
                ..Default::default()
            })
            .collect();
        for entries in entries.chunks(KVM_MAX_MSR_ENTRIES) {
            let msrs = Msrs::from_entries(entries).expect("a list of MSRs within KVM's limit");
            let written = self
                .fd
                .set_msrs(&msrs)
                .map_err(call("set model specific registers"))?;
            if let Some(refused) = entries.get(written) {
                return Err(HvError::Msr { index: refused.index });
            }
        }
        Ok(())
    }
}

impl Vcpu for KvmVcpu {
    fn set_up(&mut self, setup: &VcpuSetup) -> Result<(), HvError> {
        self.set_cpuid(&setup.cpuid)?;
        self.set_msrs(&setup.msrs)?;
        self.set_entry(setup)
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        // KVM carries an access through when the vCPU is run again, and with this flag it does nothing else.
        self.fd.set_kvm_immediate_exit(1);
        let id = self.id;
        match self.run()? {
            VcpuExit::Interrupted => {}
            exit => {
                let exit = format!("{exit:?}");
                return Err(HvError::Unsettled { id, exit });
            }
        }
        Ok(VcpuState {
            cpuid: self.cpuid.clone(),
            ..state::save_vcpu(&self.kvm, &self.fd)?
        })
    }

    fn restore(&mut self, setup: &VcpuSetup, state: &VcpuState) -> Result<(), HvError> {
        let tsc_khz = self.fd.get_tsc_khz().map_err(call("read the clock rate"))?;
        if !state.fits(&setup.cpuid) || tsc_khz != state.tsc_khz {
            return Err(HvError::OtherProcessor { id: self.id });
        }
        self.set_cpuid(&setup.cpuid)?;
        state::restore_vcpu(&self.fd, state)?;
        self.set_msrs(&state.msrs)?;
        state::restore_events(&self.fd, state)
    }

    fn kicker(&self) -> Result<Box<dyn Kicker>, HvError> {
        Ok(Box::new(KvmKicker::new(&self.fd, self.run_size)?))
    }

    fn run(&mut self) -> Result<VcpuExit<'_>, HvError> {
        match self.fd.run() {
            Ok(exit) => Ok(translate(exit)),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                Ok(VcpuExit::Interrupted)
            }
            Err(source) => Err(HvError::Call {
                action: format!("run vCPU {}", self.id),
                source,
            }),
        }
    }

    fn resumed(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
        // A guest that has no kvm-clock yet has nothing to be told (EINVAL).
        let _ = self.fd.kvmclock_ctrl();
    }
}

fn translate(exit: kvm_ioctls::VcpuExit<'_>) -> VcpuExit<'_> {
    use kvm_ioctls::VcpuExit as Kvm;
    match exit {
        Kvm::IoIn(port, data) => VcpuExit::IoIn(port, data),
        Kvm::IoOut(port, data) => VcpuExit::IoOut(port, data),
        Kvm::MmioRead(gpa, data) => VcpuExit::MmioRead(gpa, data),
        Kvm::MmioWrite(gpa, data) => VcpuExit::MmioWrite(gpa, data),
        Kvm::Intr => VcpuExit::Interrupted,
        Kvm::Shutdown => VcpuExit::Fault("triple fault".to_owned()),
        Kvm::InternalError => VcpuExit::Fault(
            "KVM met an instruction that it cannot emulate; on a host without virtualization hardware this is \
             expected: run `hull doctor`"
                .to_owned(),
        ),
        Kvm::FailEntry(reason, cpu) => {
            VcpuExit::Fault(format!("the processor refused to enter the guest (reason {reason:#x}, cpu {cpu})"))
        }
        other => VcpuExit::Fault(format!("unexpected exit {other:?}")),
    }
}

/// A second mapping of a vCPU's `kvm_run`, to set `immediate_exit` from another thread.
///
/// The flag closes the gap between the vCPU thread's last look at its orders and its entry to KVM_RUN: a signal that
/// comes in this gap is lost, the flag is not.
struct KvmKicker {
    run: AtomicPtr<kvm_run>,
    size: usize,
}

impl KvmKicker {
    fn new(vcpu: &VcpuFd, size: usize) -> Result<Self, HvError> {
        register_signal_handler(SIGRTMIN(), ignore_signal)
            .map_err(call("install the kick's signal handler"))?;
        // SAFETY: a new shared mapping of the vCPU's own pages at an address that the kernel chooses.
        let run = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if run == libc::MAP_FAILED {
            return Err(call("map a vCPU's state")(kvm_ioctls::Error::last()));
        }
        Ok(Self {
            run: AtomicPtr::new(run.cast()),
            size,
        })
    }
}

impl Kicker for KvmKicker {
    fn kick(&self, thread: &JoinHandle<()>) {
        let run = self.run.load(Ordering::Relaxed);
        // SAFETY: `run` points to the mapping that this kicker owns; the field is a byte that the kernel and the
        // vCPU thread access at any time, hence volatile.
        unsafe { std::ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
        // The thread exists as long as its handle; one that has ended needs no kick.
        let _ = thread.kill(SIGRTMIN());
    }
}

impl Drop for KvmKicker {
    fn drop(&mut self) {
        // SAFETY: the mapping is this kicker's own, and nobody uses it any more.
        unsafe { libc::munmap(self.run.load(Ordering::Relaxed).cast(), self.size) };
    }
}

/// A signal without a handler would end the process; this one is only there to interrupt KVM_RUN.
extern "C" fn ignore_signal(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn call(action: impl Into<String>) -> impl FnOnce(kvm_ioctls::Error) -> HvError {
    let action = action.into();
    move |source| HvError::Call { action, source }
}
