//! What of a virtual machine and its vCPUs a VM snapshot holds, in KVM's own structures.

use kvm_bindings::{
    CpuId, kvm_cpuid_entry2, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use serde::{Deserialize, Serialize};

/// IA32_TSC.
pub const MSR_TSC: u32 = 0x10;

/// IA32_TSC_DEADLINE: means something once the counter and the local APIC do.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// A vCPU that is held.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct VcpuState {
    /// What CPUID tells the guest.
    pub cpuid: Vec<kvm_cpuid_entry2>,
    /// How many thousand times a second its time stamp counter counts.
    pub tsc_khz: u32,
    /// Whether it runs, halts or waits to be started.
    pub mp_state: kvm_mp_state,
    /// General registers.
    pub regs: kvm_regs,
    /// System registers.
    pub sregs: kvm_sregs,
    /// FPU and vector registers.
    pub xsave: kvm_xsave,
    /// Extended control registers.
    pub xcrs: kvm_xcrs,
    /// Debug registers.
    pub debug_registers: kvm_debugregs,
    /// The local APIC.
    pub lapic: kvm_lapic_state,
    /// Exceptions and interrupts that are on their way.
    pub events: kvm_vcpu_events,
    /// Model specific registers, index and value, in the order in which they are to be set.
    pub msrs: Vec<(u32, u64)>,
}

impl VcpuState {
    /// Whether the host tells this vCPU of the same features as the saved one. The clock rate is KVM's to tell.
    pub fn fits(&self, cpuid: &CpuId) -> bool {
        self.cpuid == cpuid.as_slice()
    }
}

/// What vCPUs share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VmState {
    /// The kvm-clock, in nanoseconds.
    pub clock: u64,
    /// Both 8259s and the I/O APIC, in the order of KVM's numbers for them.
    pub interrupt_controllers: Vec<kvm_irqchip>,
}

/// Puts model specific registers into the order in which they are to be set, and gives all vCPUs of a machine one time:
/// KVM takes counters for synchronous that are set to the same value.
pub fn order_msrs(vcpus: &mut [VcpuState]) {
    let tsc = |vcpu: &VcpuState| {
        let counter = vcpu.msrs.iter().find(|(index, _)| *index == MSR_TSC);
        counter.map_or(0, |(_, value)| *value)
    };
    let latest = vcpus.iter().map(tsc).max().unwrap_or(0);
    for vcpu in vcpus {
        vcpu.msrs.sort_by_key(|(index, _)| match *index {
            MSR_TSC => 0,
            MSR_TSC_DEADLINE => 2,
            _ => 1,
        });
        for (_, value) in vcpu.msrs.iter_mut().filter(|(index, _)| *index == MSR_TSC) {
            *value = latest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_set_first_and_alike_and_deadlines_last() {
        let vcpu = |tsc| VcpuState {
            msrs: vec![(MSR_TSC_DEADLINE, 7), (0xc000_0080, 1), (MSR_TSC, tsc)],
            ..VcpuState::default()
        };
        let mut vcpus = [vcpu(100), vcpu(300)];
        order_msrs(&mut vcpus);
        for vcpu in vcpus {
            assert_eq!(
                vcpu.msrs,
                [(MSR_TSC, 300), (0xc000_0080, 1), (MSR_TSC_DEADLINE, 7)]
            );
        }
    }
}
