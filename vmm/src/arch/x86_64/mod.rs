//! x86-64: a Linux kernel entered in 64-bit mode (Linux Documentation/arch/x86/boot.rst, "64-bit boot protocol"), no
//! firmware, no ACPI; processors and interrupts are described by an MP table.

pub mod boot;
pub mod cpuid;
pub mod entry;
pub mod layout;
pub mod mptable;
pub mod state;

use kvm_bindings::CpuId;

pub use entry::Entry;

/// IA32_MISC_ENABLE and its bit for fast string operations.
const MSR_MISC_ENABLE: (u32, u64) = (0x1a0, 1);

/// IA32_MTRR_DEF_TYPE: MTRRs on, memory is write-back where none says otherwise.
const MSR_MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// The first state of a vCPU.
pub struct VcpuSetup {
    /// What CPUID tells the guest.
    pub cpuid: CpuId,
    /// Model specific registers that differ from their reset value: index and value.
    pub msrs: Vec<(u32, u64)>,
    /// Where the boot processor begins; the others wait for it.
    pub entry: Option<Entry>,
}

impl VcpuSetup {
    /// The state of vCPU `id` of `count`, given what the host supports.
    pub fn new(supported: &CpuId, id: u8, count: u8, entry: Option<Entry>) -> Self {
        Self {
            cpuid: cpuid::for_vcpu(supported, id, count),
            msrs: vec![MSR_MISC_ENABLE, MSR_MTRR_DEF_TYPE],
            entry,
        }
    }
}
