//! What CPUID tells the guest: what the host supports, less what hull does not give, plus the vCPU's place among its
//! siblings (Intel SDM, CPUID; AMD APM volume 3, appendix E).

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Extended topology, and its successors, which are left out.
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const TOPOLOGY_AMD: u32 = 0x8000_0026;

/// The CPUID leaves of vCPU `id` of `count`.
pub fn for_vcpu(supported: &CpuId, id: u8, count: u8) -> CpuId {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| ![TOPOLOGY, TOPOLOGY_V2, TOPOLOGY_AMD].contains(&entry.function))
        .copied()
        .collect();
    for entry in &mut entries {
        adapt(entry, id, count);
    }
    entries.extend(topology(id, count));
    // At most three entries are added where KVM's list, which has room for more, was full.
    CpuId::from_entries(&entries).expect("a CPUID list within KVM's limit")
}

fn adapt(entry: &mut kvm_cpuid_entry2, id: u8, count: u8) {
    let last = u32::from(count) - 1;
    match entry.function {
        0x1 => features(entry, id, count),
        // Deterministic cache parameters: all but the last level belong to one core.
        0x4 | 0x8000_001d => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { last } else { 0 };
            entry.eax = entry.eax & !(0xfff << 14) | sharing << 14;
            if entry.function == 0x4 && entry.eax & 0x1f != 0 {
                entry.eax = entry.eax & !(0x3f << 26) | last.min(0x3f) << 26;
            }
        }
        // Performance counters are not given to guests.
        0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // No SVM (bit 2), no performance counter extensions (bits 23, 24 and 28).
        0x8000_0001 => entry.ecx &= !(1 << 2 | 1 << 23 | 1 << 24 | 1 << 28),
        // The number of cores, and of the bits of an APIC id that count them.
        0x8000_0008 => entry.ecx = entry.ecx & !0xf0ff | id_bits(count) << 12 | last,
        0x8000_000a => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // Extended APIC id; core id with one thread a core; one node.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (u32::from(id), u32::from(id), 0),
        0x8000_0022 => (entry.eax, entry.ebx) = (0, 0),
        _ => {}
    }
}

fn features(entry: &mut kvm_cpuid_entry2, id: u8, count: u8) {
    const VMX: u32 = 1 << 5;
    const PDCM: u32 = 1 << 15;
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    const HTT: u32 = 1 << 28;
    entry.ebx = entry.ebx & 0xffff | u32::from(count) << 16 | u32::from(id) << 24;
    // KVM's local APIC has the deadline timer and leaves it to the VMM to say so; with it the guest need not measure
    // the timer's frequency, nor have an 8254.
    entry.ecx = entry.ecx & !(VMX | PDCM) | TSC_DEADLINE | HYPERVISOR;
    entry.edx = if count > 1 {
        entry.edx | HTT
    } else {
        entry.edx & !HTT
    };
}

/// Leaf 0xb: a level of threads (one a core), a level of cores, the end.
fn topology(id: u8, count: u8) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let level = |index: u32, shift: u32, processors: u32, kind: u32| kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: kind << 8 | index,
        edx: u32::from(id),
        ..kvm_cpuid_entry2::default()
    };
    [
        level(0, 0, 1, THREADS),
        level(1, id_bits(count), u32::from(count), CORES),
        level(2, 0, 0, 0),
    ]
}

/// Bits of an APIC id that tell `count` processors apart.
fn id_bits(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found = cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == function && entry.index == index);
        *found.expect("the leaf")
    }

    fn host() -> CpuId {
        let entry = |function| kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        CpuId::from_entries(&[1, 4, 0xa, 0xb, 0x1f, 0x8000_0001, 0x8000_0008, 0x8000_001e].map(entry))
            .unwrap()
    }

    #[test]
    fn each_vcpu_finds_its_own_place() {
        let cpuid = for_vcpu(&host(), 2, 3);
        assert_eq!(leaf(&cpuid, 1, 0).ebx >> 16, 2 << 8 | 3);
        let cores = leaf(&cpuid, TOPOLOGY, 1);
        assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (2, 3, 0x201, 2));
        assert_eq!(leaf(&cpuid, 0x8000_0008, 0).ecx & 0xf0ff, 2 << 12 | 2);
        assert_eq!(leaf(&cpuid, 0x8000_001e, 0).eax, 2);
    }

    #[test]
    fn nested_virtualization_and_counters_are_not_given() {
        let cpuid = for_vcpu(&host(), 0, 1);
        assert_eq!(leaf(&cpuid, 1, 0).ecx & 1 << 5, 0, "VMX");
        assert_eq!(leaf(&cpuid, 0x8000_0001, 0).ecx & 1 << 2, 0, "SVM");
        assert_eq!(leaf(&cpuid, 0xa, 0).eax, 0, "performance counters");
        assert!(cpuid.as_slice().iter().all(|entry| entry.function != TOPOLOGY_V2));
    }

    #[test]
    fn a_lone_vcpu_is_no_multiprocessor() {
        let features = leaf(&for_vcpu(&host(), 0, 1), 1, 0);
        assert_eq!(features.edx & 1 << 28, 0);
        assert_ne!(features.ecx & 1 << 31, 0, "hypervisor present");
    }
}
