//! `struct boot_params`: what the kernel is told about memory, its command line and its initramfs.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;
use crate::memory;

/// The boot loader has no number assigned (boot.rst, type_of_loader).
const UNKNOWN_LOADER: u8 = 0xff;
/// "HdrS", the magic of the setup header.
const HEADER_MAGIC: u32 = 0x5372_6448;
/// The magic at the end of a boot sector.
const BOOT_FLAG: u16 = 0xaa55;
/// The kernel's alignment, as its own header would have it: 16 MiB.
const KERNEL_ALIGNMENT: u32 = 0x100_0000;
/// Usable memory in the e820 map.
const E820_RAM: u32 = 1;

/// An initramfs in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// Its address, below 4 GiB.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Writes the zero page for a machine with `ram` bytes of memory.
pub fn write_boot_params(
    memory: &GuestMemoryMmap,
    ram: u64,
    initramfs: Initramfs,
) -> Result<(), GuestMemoryError> {
    let mut params = boot_params::default();
    params.hdr.type_of_loader = UNKNOWN_LOADER;
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = layout::CMDLINE_SIZE as u32;
    // Both lie in low RAM, which ends below 4 GiB.
    params.hdr.ramdisk_image = initramfs.gpa as u32;
    params.hdr.ramdisk_size = initramfs.len as u32;
    let map = e820(ram);
    params.e820_entries = map.len() as u8;
    params.e820_table[..map.len()].copy_from_slice(&map);
    memory.write_obj(params, GuestAddress(layout::ZERO_PAGE))
}

/// Usable memory: below the hole under 1 MiB, above it, and above 4 GiB.
fn e820(ram: u64) -> Vec<boot_e820_entry> {
    let low = ram.min(memory::LOW_RAM_END);
    let parts = [
        (0, layout::CONVENTIONAL_END),
        (layout::HIGH_MEMORY, low - layout::HIGH_MEMORY),
        (memory::HIGH_BASE, ram - low),
    ];
    let usable = parts.into_iter().filter(|(_, size)| *size > 0);
    usable
        .map(|(addr, size)| boot_e820_entry {
            addr,
            size,
            type_: E820_RAM,
        })
        .collect()
}
