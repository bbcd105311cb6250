//! The first state of the boot processor: 64-bit mode over an identity mapping.

use kvm_bindings::{kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;

/// CR0: protected mode, paging.
const CR0_PE_PG: u64 = 1 | 1 << 31;
/// CR4: physical address extension.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode enabled and active.
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;

/// Page table entry: present and writable.
const PRESENT_WRITABLE: u64 = 3;
/// Page directory entry: a 2 MiB page.
const LARGE_PAGE: u64 = 1 << 7;

/// Descriptors that the boot protocol asks for: null, unused, 64-bit code at selector 0x10 and data at 0x18.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;

/// Where the boot processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction.
    pub rip: u64,
    /// The first stack.
    pub rsp: u64,
    /// The address of the boot parameters.
    pub rsi: u64,
}

impl Entry {
    /// Writes the descriptor and page tables of the first instructions to guest memory.
    pub fn new(memory: &GuestMemoryMmap, rip: u64) -> Result<Self, GuestMemoryError> {
        for (index, descriptor) in (0..).zip(GDT) {
            memory.write_obj(descriptor, GuestAddress(layout::GDT + index * 8))?;
        }
        let [pml4, pdpt, directory] = [0, 1, 2].map(|table| layout::PAGE_TABLES + table * 0x1000);
        memory.write_obj(pdpt | PRESENT_WRITABLE, GuestAddress(pml4))?;
        memory.write_obj(directory | PRESENT_WRITABLE, GuestAddress(pdpt))?;
        let pages: Vec<u8> = (0..512u64)
            .flat_map(|page| (page << 21 | LARGE_PAGE | PRESENT_WRITABLE).to_le_bytes())
            .collect();
        memory.write_slice(&pages, GuestAddress(directory))?;
        Ok(Self {
            rip,
            rsp: layout::STACK_TOP,
            rsi: layout::ZERO_PAGE,
        })
    }

    /// Changes the system registers of a processor that was just reset.
    pub fn apply_to(&self, sregs: &mut kvm_sregs) {
        let code = segment(CODE_SELECTOR, 11, true);
        let data = segment(DATA_SELECTOR, 3, false);
        sregs.cs = code;
        for register in [
            &mut sregs.ds,
            &mut sregs.es,
            &mut sregs.fs,
            &mut sregs.gs,
            &mut sregs.ss,
        ] {
            *register = data;
        }
        sregs.gdt.base = layout::GDT;
        sregs.gdt.limit = (GDT.len() * 8 - 1) as u16;
        sregs.cr0 |= CR0_PE_PG;
        sregs.cr3 = layout::PAGE_TABLES;
        sregs.cr4 |= CR4_PAE;
        sregs.efer |= EFER_LME_LMA;
    }
}

/// A flat segment of 4 GiB; `kind` is its type field (Intel SDM, section 3.4.5.1).
fn segment(selector: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(long),
        db: u8::from(!long),
        ..kvm_segment::default()
    }
}
