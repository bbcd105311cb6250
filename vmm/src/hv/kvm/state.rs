//! Reading and writing the state of vCPUs and interrupt controllers.
//!
//! The order of writes is KVM's: what is derived from another register comes after it (KVM api, KVM_SET_LAPIC after
//! KVM_SET_SREGS with the APIC's base, events after all registers).
#![allow(unsafe_code)]

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data, kvm_irqchip,
    kvm_msr_entry,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::call;
use crate::arch::state::{MSR_TSC, VcpuState, VmState};
use crate::hv::HvError;

/// The interrupt controllers that KVM has a state of.
const CONTROLLERS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

pub(super) fn save_vm(fd: &VmFd) -> Result<VmState, HvError> {
    let controller = |chip_id: u32| {
        let mut controller = kvm_irqchip {
            chip_id,
            ..kvm_irqchip::default()
        };
        fd.get_irqchip(&mut controller)
            .map_err(call("read an interrupt controller"))?;
        Ok(controller)
    };
    Ok(VmState {
        clock: fd.get_clock().map_err(call("read the clock"))?.clock,
        interrupt_controllers: CONTROLLERS
            .into_iter()
            .map(controller)
            .collect::<Result<_, HvError>>()?,
    })
}

pub(super) fn restore_vm(fd: &VmFd, state: &VmState) -> Result<(), HvError> {
    let clock = kvm_clock_data {
        clock: state.clock,
        ..kvm_clock_data::default()
    };
    fd.set_clock(&clock).map_err(call("set the clock"))?;
    for controller in &state.interrupt_controllers {
        fd.set_irqchip(controller)
            .map_err(call("set an interrupt controller"))?;
    }
    Ok(())
}

/// Everything but the CPUID leaves: those that KVM reads back show what the guest has turned on.
pub(super) fn save_vcpu(kvm: &Kvm, fd: &VcpuFd) -> Result<VcpuState, HvError> {
    let read = call("read the state of a vCPU");
    let save = || {
        Ok(VcpuState {
            // First: it brings the events of the others up to date.
            mp_state: fd.get_mp_state()?,
            regs: fd.get_regs()?,
            sregs: fd.get_sregs()?,
            xsave: fd.get_xsave()?,
            xcrs: fd.get_xcrs()?,
            debug_registers: fd.get_debug_regs()?,
            lapic: fd.get_lapic()?,
            msrs: save_msrs(kvm, fd)?,
            tsc_khz: fd.get_tsc_khz()?,
            events: fd.get_vcpu_events()?,
            cpuid: Vec::new(),
        })
    };
    save().map_err(read)
}

/// All model specific registers that can be read and written.
fn save_msrs(kvm: &Kvm, fd: &VcpuFd) -> Result<Vec<(u32, u64)>, kvm_ioctls::Error> {
    let mut saved = Vec::new();
    for index in kvm.get_msr_index_list()?.as_slice() {
        let entry = kvm_msr_entry {
            index: *index,
            ..kvm_msr_entry::default()
        };
        let mut one = Msrs::from_entries(&[entry]).expect("a list of one MSR");
        // KVM lists registers that this vCPU, by its CPUID, does not have; and some can be read and not written. To
        // write the counter back would only make it late.
        let kept = fd.get_msrs(&mut one)? == 1 && (*index == MSR_TSC || fd.set_msrs(&one)? == 1);
        if kept {
            saved.push((*index, one.as_slice()[0].data));
        }
    }
    Ok(saved)
}

pub(super) fn restore_vcpu(fd: &VcpuFd, state: &VcpuState) -> Result<(), HvError> {
    let restore = || {
        fd.set_mp_state(state.mp_state)?;
        fd.set_regs(&state.regs)?;
        fd.set_sregs(&state.sregs)?;
        // SAFETY: KVM reads the structure's 4096 bytes, and no more than that as long as this process has not asked for
        // larger vector state, which it never does.
        unsafe { fd.set_xsave(&state.xsave) }?;
        fd.set_xcrs(&state.xcrs)?;
        fd.set_debug_regs(&state.debug_registers)?;
        fd.set_lapic(&state.lapic)
    };
    restore().map_err(call("set the state of a vCPU"))
}

pub(super) fn restore_events(fd: &VcpuFd, state: &VcpuState) -> Result<(), HvError> {
    fd.set_vcpu_events(&state.events)
        .map_err(call("set the pending events of a vCPU"))?;
    // As after any pause, its clock must not be seen as a lockup; a guest without kvm-clock has nothing to be told.
    let _ = fd.kvmclock_ctrl();
    Ok(())
}
