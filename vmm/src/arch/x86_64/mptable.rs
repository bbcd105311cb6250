//! The MP configuration table (Intel MultiProcessor Specification 1.4, section 4): how a kernel without ACPI learns of
//! its processors and of the I/O APIC.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;

/// Version 1.4 of the specification, as both structures encode it.
const SPEC_REVISION: u8 = 4;
/// The version register of KVM's APICs.
const APIC_VERSION: u8 = 0x14;
/// The processor entry's feature flags: an FPU and a local APIC.
const CPU_FEATURES: u32 = 0x201;
/// The only bus.
const ISA_BUS: u8 = 0;
/// Flags of an interrupt entry: polarity and trigger as the bus has them, which for ISA is high and edge.
const CONFORMS: u16 = 0;
/// Interrupt types: vectored, and external (from the 8259).
const INT_VECTORED: u8 = 0;
const INT_EXTERNAL: u8 = 3;
const INT_NMI: u8 = 1;
/// All local APICs.
const EVERY_APIC: u8 = 0xff;

/// Bytes of the configuration table's header.
const HEADER_LEN: usize = 44;

/// Writes the floating pointer and the table for `vcpus` processors and the interrupt `lines` that have a device. A
/// kernel programs every line it is told of, at two to four exits each, so it is told of no others.
pub fn write(memory: &GuestMemoryMmap, vcpus: u8, lines: &[u32]) -> Result<(), GuestMemoryError> {
    memory.write_slice(&floating_pointer(), GuestAddress(layout::CONVENTIONAL_END))?;
    memory.write_slice(&table(vcpus, lines), GuestAddress(layout::MP_TABLE))
}

fn floating_pointer() -> [u8; 16] {
    let mut pointer = [0; 16];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&(layout::MP_TABLE as u32).to_le_bytes());
    // The length in units of 16 bytes.
    pointer[8] = 1;
    pointer[9] = SPEC_REVISION;
    pointer[10] = checksum(&pointer);
    pointer
}

fn table(vcpus: u8, lines: &[u32]) -> Vec<u8> {
    let (entries, count) = entries(vcpus, lines);
    let mut table = Vec::with_capacity(HEADER_LEN + entries.len());
    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&((HEADER_LEN + entries.len()) as u16).to_le_bytes());
    table.push(SPEC_REVISION);
    table.push(0);
    table.extend_from_slice(b"HULL    MICROVM     ");
    table.extend_from_slice(&[0; 6]);
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    table.extend_from_slice(&[0; 4]);
    table.extend_from_slice(&entries);
    table[7] = checksum(&table);
    table
}

/// The entries in the order the specification wants, and their number.
fn entries(vcpus: u8, lines: &[u32]) -> (Vec<u8>, u16) {
    // The I/O APIC's id follows those of the local APICs.
    let ioapic_id = vcpus;
    let mut list: Vec<Vec<u8>> = (0..vcpus).map(processor).collect();
    list.push([&[1, ISA_BUS], &b"ISA   "[..]].concat());
    list.push(
        [
            &[2, ioapic_id, APIC_VERSION, 1],
            &layout::IOAPIC.to_le_bytes()[..],
        ]
        .concat(),
    );
    // Lines of the I/O APIC are numbered below 24.
    list.extend(
        lines
            .iter()
            .map(|line| interrupt(3, INT_VECTORED, *line as u8, ioapic_id, *line as u8)),
    );
    list.push(interrupt(4, INT_EXTERNAL, 0, 0, 0));
    list.push(interrupt(4, INT_NMI, 0, EVERY_APIC, 1));
    let count = list.len() as u16;
    (list.concat(), count)
}

fn processor(id: u8) -> Vec<u8> {
    let enabled = 1;
    let boots = u8::from(id == 0) << 1;
    let mut entry = vec![0, id, APIC_VERSION, enabled | boots];
    entry.extend_from_slice(&[0; 4]);
    entry.extend_from_slice(&CPU_FEATURES.to_le_bytes());
    entry.extend_from_slice(&[0; 8]);
    entry
}

/// An I/O (`entry` 3) or local (`entry` 4) interrupt assignment.
fn interrupt(entry: u8, kind: u8, irq: u8, apic: u8, pin: u8) -> Vec<u8> {
    let [low, high] = CONFORMS.to_le_bytes();
    vec![entry, kind, low, high, ISA_BUS, irq, apic, pin]
}

/// The byte that makes the sum of `bytes`, whose checksum is still zero, come to zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn pointer_and_table_sum_to_zero_and_agree_on_their_lengths() {
        assert_eq!(sum(&floating_pointer()), 0);
        for vcpus in [1, 2, 64] {
            let lines = &layout::DEVICE_IRQS;
            let table = table(vcpus, lines);
            assert_eq!(sum(&table), 0, "{vcpus} vCPUs");
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            let count = u16::from_le_bytes([table[34], table[35]]);
            assert_eq!(u64::from(count), u64::from(vcpus) + 2 + lines.len() as u64 + 2);
            let len = HEADER_LEN + usize::from(vcpus) * 20 + (usize::from(count) - usize::from(vcpus)) * 8;
            assert_eq!(table.len(), len);
            assert!(layout::MP_TABLE + (table.len() as u64) < layout::HIGH_MEMORY);
        }
    }

    #[test]
    fn only_the_first_processor_boots() {
        let flags = |id| processor(id)[3];
        assert_eq!((flags(0), flags(1), flags(63)), (3, 1, 1));
    }
}
