//! Where things lie in guest physical memory, and on which interrupt lines.

/// The first kilobyte after the interrupt vectors of real mode: the descriptor table of the first instructions.
pub const GDT: u64 = 0x500;

/// `struct boot_params`, the "zero page" (4 KiB).
pub const ZERO_PAGE: u64 = 0x7000;

/// Top of the boot processor's first stack, right below the page tables.
pub const STACK_TOP: u64 = 0x8ff0;

/// Three page tables that map the first GiB to itself.
pub const PAGE_TABLES: u64 = 0x9000;

/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;

/// The longest command line an x86 kernel reads, with its terminator, in bytes.
pub const CMDLINE_SIZE: usize = 2048;

/// End of conventional memory; the MP floating pointer is searched in the kilobyte from here (MP 1.4, section 4).
pub const CONVENTIONAL_END: u64 = 0x9_fc00;

/// The MP configuration table, in what is ROM elsewhere.
pub const MP_TABLE: u64 = 0xe_0000;

/// Where memory begins again after the hole below 1 MiB.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Device pages: [`MMIO_SIZE`] bytes a device.
pub const MMIO_BASE: u64 = 0xd000_0000;

/// Bytes of one device's registers and configuration.
pub const MMIO_SIZE: u64 = 0x1000;

/// The I/O APIC, where every PC has it.
pub const IOAPIC: u32 = 0xfec0_0000;

/// The local APICs.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// The first serial port's line and I/O ports.
pub const SERIAL_IRQ: u32 = 4;

/// First of the eight ports of the serial port.
pub const SERIAL_PORT: u64 = 0x3f8;

/// The keyboard controller's data port; its command port is the fifth.
pub const I8042_PORT: u64 = 0x60;

/// A 16-bit port that powers the microVM off when 0x2000 (the S5 sleep type with its enable bit, as ACPI's PM1a
/// control has it) is written to it.
pub const POWER_PORT: u64 = 0x604;

/// Lines that are free for virtio devices, in the order of their slots. Left out are those a PC kernel takes for
/// itself: timer, keyboard, cascade, serial ports, clock, mouse, coprocessor. The I/O APIC has 24.
pub const DEVICE_IRQS: [u32; 16] = [5, 6, 7, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

/// The registers of the device in slot `index`.
pub fn mmio_address(index: usize) -> u64 {
    MMIO_BASE + index as u64 * MMIO_SIZE
}
