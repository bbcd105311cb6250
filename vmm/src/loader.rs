//! The kernel, its initramfs and its command line, read straight into guest memory.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

use linux_loader::cmdline::Cmdline;
use linux_loader::loader::elf::Elf;
use linux_loader::loader::{KernelLoader, load_cmdline};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::arch::boot::{self, Initramfs};
use crate::arch::{Entry, layout, mptable};
use crate::memory::{HUGE_PAGE, LOW_RAM_END, RamPart};

/// The first bytes of every ELF file.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";

/// Alignment of the initramfs.
const PAGE: u64 = 4096;

/// The guest's first programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel could not be read.
    #[error("cannot read the kernel: {0}")]
    ReadKernel(io::Error),
    /// The kernel is some other kind of file.
    #[error(
        "the kernel is not an ELF file (it begins with {begin:02x?}); hull boots an uncompressed `vmlinux`"
    )]
    NotElf {
        /// Its first bytes.
        begin: Vec<u8>,
    },
    /// The kernel is an ELF file and still no kernel.
    #[error("cannot load the kernel into {ram_mib} MiB of memory: {source}")]
    Kernel {
        /// Guest memory.
        ram_mib: u64,
        /// Why.
        source: linux_loader::loader::Error,
    },
    /// Not enough memory.
    #[error(
        "{ram_mib} MiB of memory are too little: the kernel and its initramfs alone need {needed_mib} MiB"
    )]
    TooLittleMemory {
        /// Guest memory.
        ram_mib: u64,
        /// What is needed.
        needed_mib: u64,
    },
    /// The initramfs could not be read.
    #[error("cannot read the initramfs: {0}")]
    ReadInitramfs(io::Error),
    /// The initramfs is shorter than its file says.
    #[error("cannot load the initramfs: {0}")]
    Initramfs(GuestMemoryError),
    /// The command line is too long or holds characters that have no place there.
    #[error("cannot use the kernel command line: {0}")]
    Cmdline(String),
    /// A table of the VMM's own does not fit guest memory.
    #[error("cannot write the boot tables: {0}")]
    Tables(#[from] GuestMemoryError),
}

/// What is loaded.
pub struct Images {
    /// An ELF kernel.
    pub kernel: File,
    /// An uncompressed initramfs.
    pub initramfs: File,
    /// The whole command line.
    pub cmdline: Cmdline,
    /// The interrupt lines that have a device.
    pub lines: Vec<u32>,
}

/// A machine's memory was filled.
pub struct Loaded {
    /// The boot processor's first state.
    pub entry: Entry,
    /// Where the kernel's instructions lie: memory that it does not write to once it has come up, as far as it is known.
    pub text: Vec<RamPart>,
}

/// Fills the memory of a machine with `ram` bytes and `vcpus` processors.
pub fn load(memory: &GuestMemoryMmap, ram: u64, vcpus: u8, images: Images) -> Result<Loaded, LoadError> {
    let Images {
        mut kernel,
        initramfs,
        cmdline,
        lines,
    } = images;
    let (entry, kernel_end) = load_kernel(memory, ram, &mut kernel)?;
    let initramfs = load_initramfs(memory, ram, kernel_end, initramfs)?;
    load_cmdline(memory, GuestAddress(layout::CMDLINE), &cmdline)
        .map_err(|error| LoadError::Cmdline(error.to_string()))?;
    boot::write_boot_params(memory, ram, initramfs)?;
    mptable::write(memory, vcpus, &lines)?;
    Ok(Loaded {
        entry: Entry::new(memory, entry)?,
        text: find_text(&kernel).map_err(LoadError::ReadKernel)?,
    })
}

/// Looks for the executable segments that are not writable, in a kernel that was loaded (`Elf64_Ehdr` and `Elf64_Phdr` in
/// elf(5)), and returns their whole huge pages. What of them a machine does not have is not loaded either.
fn find_text(kernel: &File) -> io::Result<Vec<RamPart>> {
    const LOADABLE: u32 = 1;
    const EXECUTABLE: u32 = 1;
    const WRITABLE: u32 = 2;
    let mut header = [0; 64];
    kernel.read_exact_at(&mut header, 0)?;
    let (table, size, count) = (word(&header, 32), half(&header, 54), half(&header, 56));
    let mut text = Vec::new();
    for index in 0..u64::from(count) {
        let mut segment = [0; 56];
        let at = index * u64::from(size);
        kernel.read_exact_at(&mut segment, table.saturating_add(at))?;
        let (kind, flags) = (word(&segment, 0) as u32, (word(&segment, 0) >> 32) as u32);
        if kind != LOADABLE || flags & (EXECUTABLE | WRITABLE) != EXECUTABLE {
            continue;
        }
        let (address, len) = (word(&segment, 24), word(&segment, 40));
        let begin = address.saturating_add(HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        let end = address.saturating_add(len) / HUGE_PAGE * HUGE_PAGE;
        if begin < end && end <= LOW_RAM_END {
            text.push(RamPart {
                offset: begin,
                len: end - begin,
            });
        }
    }
    Ok(text)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Returns the first instruction and the end of the kernel's memory.
fn load_kernel(memory: &GuestMemoryMmap, ram: u64, kernel: &mut File) -> Result<(u64, u64), LoadError> {
    let mut begin = [0; 4];
    let read = kernel.read_at(&mut begin, 0).map_err(LoadError::ReadKernel)?;
    if begin[..read] != ELF_MAGIC {
        return Err(LoadError::NotElf {
            begin: begin[..read].to_vec(),
        });
    }
    let ram_mib = ram >> 20;
    let above = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded =
        Elf::load(memory, None, kernel, above).map_err(|source| LoadError::Kernel { ram_mib, source })?;
    if loaded.kernel_end > ram.min(LOW_RAM_END) {
        return Err(LoadError::TooLittleMemory {
            ram_mib,
            needed_mib: loaded.kernel_end.div_ceil(1 << 20),
        });
    }
    Ok((loaded.kernel_load.0, loaded.kernel_end))
}

/// Puts the initramfs at the end of low memory, out of the kernel's way.
fn load_initramfs(
    memory: &GuestMemoryMmap,
    ram: u64,
    kernel_end: u64,
    mut file: File,
) -> Result<Initramfs, LoadError> {
    let len = file.metadata().map_err(LoadError::ReadInitramfs)?.len();
    let low = ram.min(LOW_RAM_END);
    let gpa = low
        .checked_sub(len)
        .map(|gpa| gpa / PAGE * PAGE)
        .filter(|gpa| *gpa >= kernel_end);
    let Some(gpa) = gpa else {
        let needed = kernel_end.saturating_add(len);
        return Err(LoadError::TooLittleMemory {
            ram_mib: ram >> 20,
            needed_mib: needed.div_ceil(1 << 20),
        });
    };
    // A descriptor that was handed over may stand anywhere in its file.
    file.rewind().map_err(LoadError::ReadInitramfs)?;
    // The length of a file fits the address space it was just found to fit.
    memory
        .read_exact_volatile_from(GuestAddress(gpa), &mut file, len as usize)
        .map_err(LoadError::Initramfs)?;
    Ok(Initramfs { gpa, len })
}

/// The command line of a machine with a console or none and `devices` virtio devices: the VMM's own parameters, then
/// `base`, whose part after ` -- ` is for init.
pub fn cmdline(base: &str, console: bool, devices: usize) -> Result<Cmdline, LoadError> {
    let invalid = |error: linux_loader::cmdline::Error| LoadError::Cmdline(error.to_string());
    if base.contains(char::is_control) {
        return Err(LoadError::Cmdline("it holds a control character".to_owned()));
    }
    let own = match console {
        true => "console=ttyS0",
        false => "8250.nr_uarts=0",
    };
    // Nothing hangs on the keyboard controller, so nothing is to be looked for.
    let keyboard = "i8042.nokbd i8042.noaux i8042.nomux i8042.nopnp";
    let line = format!("{own} {keyboard} {base}");
    let mut cmdline = Cmdline::try_from(line.trim(), layout::CMDLINE_SIZE).map_err(invalid)?;
    for index in 0..devices {
        let address = GuestAddress(layout::mmio_address(index));
        let irq = layout::DEVICE_IRQS[index];
        cmdline
            .add_virtio_mmio_device(layout::MMIO_SIZE, address, irq, None)
            .map_err(invalid)?;
    }
    Ok(cmdline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(base: &str, console: bool, devices: usize) -> String {
        cmdline(base, console, devices)
            .unwrap()
            .as_cstring()
            .unwrap()
            .into_string()
            .unwrap()
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn devices_are_announced_before_the_arguments_of_init() {
        let line = text("quiet -- debug", false, 2);
        assert!(line.starts_with("8250.nr_uarts=0 "), "{line}");
        assert!(
            line.ends_with(
                "quiet virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 -- debug"
            ),
            "{line}"
        );
        assert!(text("", true, 0).starts_with("console=ttyS0 "));
    }

    #[test]
    fn a_command_line_beyond_the_kernels_limit_is_refused() {
        assert!(cmdline(&"x".repeat(layout::CMDLINE_SIZE), false, 0).is_err());
        assert!(cmdline("a\0b", false, 0).is_err());
    }

    #[test]
    fn a_kernel_that_is_no_elf_is_named_as_such() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap();
        for content in [&b""[..], b"MZ", b"#!/bin/sh\n"] {
            let error = load_kernel(&memory, 32 << 20, &mut file(content)).unwrap_err();
            assert!(matches!(error, LoadError::NotElf { .. }), "{error}");
        }
        let error = load_kernel(&memory, 32 << 20, &mut file(b"\x7fELF then nothing")).unwrap_err();
        assert!(matches!(error, LoadError::Kernel { .. }), "{error}");
    }

    #[test]
    fn instructions_are_found_in_whole_huge_pages_and_writable_ones_are_left_out() {
        let segment = |kind: u32, flags: u32, address: u64, len: u64| {
            let words = [0, 0, address, len, len, 0];
            let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
            bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
            bytes
        };
        let mut elf = vec![0; 64];
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 5;
        elf.extend(segment(1, 5, 16 << 20, 11 << 20));
        elf.extend(segment(1, 7, 32 << 20, 8 << 20));
        elf.extend(segment(1, 6, 40 << 20, 8 << 20));
        elf.extend(segment(4, 5, 48 << 20, 8 << 20));
        elf.extend(segment(1, 5, u64::MAX - 5, u64::MAX));
        let found = find_text(&file(&elf)).unwrap();
        assert_eq!(
            found,
            [RamPart {
                offset: 16 << 20,
                len: 10 << 20
            }]
        );
        assert!(find_text(&file(&elf[..100])).is_err());
    }

    #[test]
    fn an_initramfs_that_meets_the_kernel_is_refused_and_one_below_the_top_is_loaded() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap();
        let loaded = load_initramfs(&memory, 32 << 20, 16 << 20, file(&[7; 5000])).unwrap();
        assert_eq!(
            loaded,
            Initramfs {
                gpa: (32 << 20) - 8192,
                len: 5000
            }
        );
        assert_eq!(memory.read_obj::<u8>(GuestAddress(loaded.gpa + 4999)).unwrap(), 7);
        let error = load_initramfs(&memory, 32 << 20, (32 << 20) - 4096, file(&[7; 5000])).unwrap_err();
        assert!(
            matches!(error, LoadError::TooLittleMemory { needed_mib: 33, .. }),
            "{error}"
        );
    }
}
