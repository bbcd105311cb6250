//! Which devices the container may open, as a BPF program on its cgroup.
//!
//! Root of the container may make device nodes, as in Docker. Without this, a node for the microVM's own disk would let
//! it write beneath the mounted file system.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::{self, BpfInstruction};

/// Character devices that may be opened: major and minor, `None` for every minor.
const ALLOWED: [(i32, Option<i32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    // Terminals of /dev/pts.
    (136, None),
];

/// `BPF_DEVCG_*` of `linux/bpf.h`.
const ACCESS_MKNOD: i32 = 1;
const TYPE_CHARACTER: i32 = 2;

/// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS_AND_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Attaches the filter to a cgroup.
pub(crate) fn attach(cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::attach_device_filter(cgroup, &program())
}

/// Registers of the program: its answer, its argument, and what it takes from that.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR_NUMBER: u8 = 4;
const MINOR_NUMBER: u8 = 5;

fn program() -> Vec<BpfInstruction> {
    let mut program = vec![
        load(ACCESS, ACCESS_AND_TYPE),
        load(KIND, ACCESS_AND_TYPE),
        load(MAJOR_NUMBER, MAJOR),
        load(MINOR_NUMBER, MINOR),
        instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        instruction(AND, KIND, 0, 0xffff),
        instruction(MOVE, ANSWER, 0, 1),
        skip_unless_equal(ACCESS, ACCESS_MKNOD, 1),
        EXIT,
    ];
    let mut allowed = Vec::new();
    for (major, minor) in ALLOWED {
        match minor {
            Some(minor) => {
                allowed.push(skip_unless_equal(MAJOR_NUMBER, major, 2));
                allowed.push(skip_unless_equal(MINOR_NUMBER, minor, 1));
            }
            None => allowed.push(skip_unless_equal(MAJOR_NUMBER, major, 1)),
        }
        allowed.push(EXIT);
    }
    program.push(skip_unless_equal(KIND, TYPE_CHARACTER, allowed.len() as i16));
    program.extend(allowed);
    program.extend([instruction(MOVE, ANSWER, 0, 0), EXIT]);
    program
}

/// Operation codes of `linux/bpf.h`: a 32-bit load from memory, and 64-bit arithmetic with a constant.
const LOAD: u8 = 0x61;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const MOVE: u8 = 0xb7;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: BpfInstruction = instruction(0x95, 0, 0, 0);

const fn instruction(code: u8, register: u8, offset: i16, constant: i32) -> BpfInstruction {
    BpfInstruction {
        code,
        registers: register,
        offset,
        constant,
    }
}

fn load(register: u8, offset: i16) -> BpfInstruction {
    BpfInstruction {
        code: LOAD,
        registers: register | (CONTEXT << 4),
        offset,
        constant: 0,
    }
}

fn skip_unless_equal(register: u8, constant: i32, count: i16) -> BpfInstruction {
    instruction(JUMP_IF_NOT_EQUAL, register, count, constant)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn allows(access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = |offset| match offset {
            ACCESS_AND_TYPE => access << 16 | kind,
            MAJOR => major,
            MINOR => minor,
            other => panic!("no field at {other}"),
        };
        let program = program();
        let (mut at, mut registers) = (0, [0u64; 11]);
        loop {
            let BpfInstruction {
                code,
                registers: fields,
                offset,
                constant,
            } = program[at];
            let register = &mut registers[usize::from(fields & 15)];
            at += 1;
            match code {
                LOAD => *register = context(offset).into(),
                SHIFT_RIGHT => *register >>= constant,
                AND => *register &= constant as u64,
                MOVE => *register = constant as u64,
                JUMP_IF_NOT_EQUAL if *register != constant as u64 => at += offset as usize,
                JUMP_IF_NOT_EQUAL => {}
                _ => return registers[usize::from(ANSWER)] == 1,
            }
        }
    }

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;
    const MKNOD: u32 = 1;
    const READ_WRITE: u32 = 6;

    #[test]
    fn the_usual_devices_are_open_and_disks_are_not() {
        for (major, minor) in [(1, 3), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)] {
            assert!(allows(READ_WRITE, CHARACTER, major, minor), "{major}:{minor}");
        }
        for (major, minor) in [(1, 1), (1, 2), (1, 4), (4, 64), (5, 3), (10, 229), (254, 0)] {
            assert!(!allows(READ_WRITE, CHARACTER, major, minor), "{major}:{minor}");
        }
        assert!(!allows(READ_WRITE, BLOCK, 254, 0));
        assert!(!allows(READ_WRITE, BLOCK, 1, 3));
    }

    #[test]
    fn any_node_may_be_made() {
        assert!(allows(MKNOD, BLOCK, 254, 0));
        assert!(allows(MKNOD, CHARACTER, 10, 229));
        assert!(!allows(MKNOD | READ_WRITE, BLOCK, 254, 0));
    }
}
