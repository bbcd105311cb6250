//! Programs for the kernel's seccomp filter machine, and what they are built of.

use serde::{Deserialize, Serialize};

/// The most instructions that the kernel takes in a program, `BPF_MAXINSNS` of `linux/bpf_common.h`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction, `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct FilterInstruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are left out where the comparison holds.
    pub jt: u8,
    /// How many where it does not.
    pub jf: u8,
    /// What is compared with, returned, or where to load from.
    pub k: u32,
}

/// Loads a word of `struct seccomp_data` into the accumulator.
pub const BPF_LOAD: u16 = 0x20;
/// Keeps the bits of the accumulator that are in `k`.
pub const BPF_AND: u16 = 0x54;
/// Leaves `k` instructions out.
pub const BPF_JUMP: u16 = 0x05;
/// Whether the accumulator is `k`.
pub const BPF_JUMP_EQUAL: u16 = 0x15;
/// Whether the accumulator is above `k`.
pub const BPF_JUMP_ABOVE: u16 = 0x25;
/// Whether the accumulator is `k` or above it.
pub const BPF_JUMP_AT_LEAST: u16 = 0x35;
/// Whether the accumulator and `k` have a bit in common.
pub const BPF_JUMP_ANY_BIT: u16 = 0x45;
/// Ends the program with what becomes of the system call.
pub const BPF_RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`: the number of the system call,
pub const NUMBER: u32 = 0;
/// the instruction set,
pub const ARCH: u32 = 4;
/// and the low half of the first argument; eight bytes for each.
pub const FIRST_ARGUMENT: u32 = 16;

/// `AUDIT_ARCH_*` of `linux/audit.h`.
pub const ARCH_X86_64: u32 = 0xc000_003e;
/// For 32-bit programs.
pub const ARCH_I386: u32 = 0x4000_0003;

/// `SECCOMP_RET_ALLOW`.
pub const RETURN_ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO`, with the error in the low half.
pub const RETURN_ERRNO: u32 = 0x0005_0000;

impl FilterInstruction {
    /// An instruction that compares nothing.
    pub const fn plain(code: u16, k: u32) -> FilterInstruction {
        FilterInstruction {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }

    /// A comparison with how many instructions are left out where it holds, and where it does not.
    pub const fn compare(code: u16, k: u32, jt: u8, jf: u8) -> FilterInstruction {
        FilterInstruction { code, jt, jf, k }
    }

    /// Loads the word at this offset.
    pub const fn load(offset: u32) -> FilterInstruction {
        Self::plain(BPF_LOAD, offset)
    }

    /// Leaves this many instructions out.
    pub const fn jump(distance: u32) -> FilterInstruction {
        Self::plain(BPF_JUMP, distance)
    }

    /// Ends the program with this.
    pub const fn give(verdict: u32) -> FilterInstruction {
        Self::plain(BPF_RETURN, verdict)
    }
}

/// Code that finds the range of the number in the accumulator and goes on with the code for it. The ranges are given by
/// the first number that they hold for, ascending from 0; the last one holds for all higher numbers.
pub fn search<R>(
    ranges: &[(u32, R)],
    code_of: &impl Fn(&R) -> Vec<FilterInstruction>,
) -> Vec<FilterInstruction> {
    match ranges {
        [] => Vec::new(),
        [(_, range)] => code_of(range),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (low, first_high) = (search(low, code_of), high[0].0);
            let at_least = |jt, jf| FilterInstruction::compare(BPF_JUMP_AT_LEAST, first_high, jt, jf);
            let mut code = match u8::try_from(low.len()) {
                Ok(distance) => vec![at_least(distance, 0)],
                // Conditional jumps reach 255 instructions; unconditional ones any distance.
                Err(_) => vec![at_least(0, 1), FilterInstruction::jump(low.len() as u32)],
            };
            code.extend(low);
            code.extend(search(high, code_of));
            code
        }
    }
}
