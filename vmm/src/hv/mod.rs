//! The hypervisor beneath a microVM, as small object-safe traits: [`kvm`] is the real one, `fake` the one of tests.

use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_bindings::CpuId;
use thiserror::Error;
use vm_memory::GuestRegionMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::arch::VcpuSetup;
use crate::arch::state::{VcpuState, VmState};

#[cfg(test)]
pub mod fake;
pub mod kvm;

/// The hypervisor could not do something.
#[derive(Debug, Error)]
pub enum HvError {
    /// The device node could not be opened.
    #[error("cannot open /dev/kvm: {source}; run `hull doctor` to see what this host lacks")]
    Open {
        /// Why.
        source: kvm_ioctls::Error,
    },
    /// A capability is missing.
    #[error("this host's KVM lacks {capability}; Linux 4.14 or newer has it. Run `hull doctor`")]
    Capability {
        /// The name in KVM's API.
        capability: &'static str,
    },
    /// A call failed.
    #[error("KVM cannot {action}: {source}; run `hull doctor` to see whether this host can run microVMs")]
    Call {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: kvm_ioctls::Error,
    },
    /// A vCPU that does not come to rest.
    #[error("vCPU {id} cannot be saved: it exits with {exit}")]
    Unsettled {
        /// The vCPU.
        id: u8,
        /// Its exit.
        exit: String,
    },
    /// A saved state that is another host's.
    #[error("vCPU {id} was saved on another processor than this host has now, or by another KVM")]
    OtherProcessor {
        /// The vCPU.
        id: u8,
    },
    /// A register the guest's kernel needs is unknown to the host.
    #[error("KVM refused model specific register {index:#x}; run `hull doctor`")]
    Msr {
        /// The register.
        index: u32,
    },
}

/// Makes virtual machines.
pub trait Hypervisor {
    /// A virtual machine with interrupt controllers and no memory and no vCPU.
    fn create_vm(&self) -> Result<Box<dyn Vm>, HvError>;

    /// The CPUID leaves the host can give to a guest.
    fn supported_cpuid(&self) -> Result<CpuId, HvError>;
}

/// A virtual machine.
pub trait Vm: Send + Sync {
    /// Puts `region` into the guest's physical address space, in a slot that was not used before. Guest memory is
    /// never unmapped from this process (see [`crate::memory`]).
    fn map_memory(&self, slot: u32, region: &Arc<GuestRegionMmap>) -> Result<(), HvError>;

    /// The same for what the guest may only read: a write exits, or rings a doorbell, as where no memory is.
    fn map_read_only(&self, slot: u32, region: &Arc<GuestRegionMmap>) -> Result<(), HvError>;

    /// Adds vCPU `id`.
    fn create_vcpu(&self, id: u8) -> Result<Box<dyn Vcpu>, HvError>;

    /// A write to `event` pulses the interrupt line `gsi`.
    fn register_irqfd(&self, event: &EventFd, gsi: u32) -> Result<(), HvError>;

    /// A four-byte write of `value` at guest physical address `gpa` signals `event` and does not exit.
    fn register_ioeventfd(&self, event: &EventFd, gpa: u64, value: u32) -> Result<(), HvError>;

    /// The state that vCPUs share. No vCPU runs.
    fn save(&self) -> Result<VmState, HvError>;

    /// Takes over a saved state, after all vCPUs have taken over theirs and before any runs.
    fn restore(&self, state: &VmState) -> Result<(), HvError>;
}

/// A virtual CPU, used by one thread at a time.
pub trait Vcpu: Send {
    /// Gives the vCPU its identity and, where it is the one that boots, its first instruction.
    fn set_up(&mut self, setup: &VcpuSetup) -> Result<(), HvError>;

    /// The state of a vCPU that does not run. It finishes the access that it exited for last, so its device must have
    /// answered that.
    fn save(&mut self) -> Result<VcpuState, HvError>;

    /// Takes over a saved state in place of [`set_up`](Self::set_up); `setup` is what a new vCPU would be set up with.
    fn restore(&mut self, setup: &VcpuSetup, state: &VcpuState) -> Result<(), HvError>;

    /// Something that makes [`run`](Self::run) return from another thread.
    fn kicker(&self) -> Result<Box<dyn Kicker>, HvError>;

    /// Runs the guest until it needs the VMM. Data of a read exit is filled in before the next call.
    fn run(&mut self) -> Result<VcpuExit<'_>, HvError>;

    /// The vCPU was held and goes on: its clock must not be seen as a lockup.
    fn resumed(&mut self);
}

/// Makes a vCPU return from [`Vcpu::run`].
pub trait Kicker: Send + Sync {
    /// Makes `thread`, which runs this vCPU, come back: the call that is going on, or else the next one, returns soon.
    fn kick(&self, thread: &JoinHandle<()>);
}

/// Why a vCPU came back.
#[derive(Debug)]
pub enum VcpuExit<'a> {
    /// The guest reads from an I/O port; several bytes are several reads of the same port.
    IoIn(u16, &'a mut [u8]),
    /// The guest writes to an I/O port; several bytes are several writes to the same port.
    IoOut(u16, &'a [u8]),
    /// The guest reads device memory.
    MmioRead(u64, &'a mut [u8]),
    /// The guest writes device memory.
    MmioWrite(u64, &'a [u8]),
    /// A kick or a signal.
    Interrupted,
    /// The guest cannot go on, and why.
    Fault(String),
}
