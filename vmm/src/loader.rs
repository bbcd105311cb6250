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
use crate::memory::LOW_RAM_END;

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

/// Fills the memory of a machine with `ram` bytes and `vcpus` processors; returns the boot processor's first state.
pub fn load(memory: &GuestMemoryMmap, ram: u64, vcpus: u8, images: Images) -> Result<Entry, LoadError> {
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
    Ok(Entry::new(memory, entry)?)
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
