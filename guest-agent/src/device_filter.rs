//! Which devices the container may open, as a BPF program on its cgroup.
//!
//! Root of the container may make device nodes, as in Docker. Without this, a node for the microVM's own disk would let
//! it write beneath the mounted file system.

use std::os::fd::BorrowedFd;

use guest_protocol::{DeviceAccess, DeviceKind, DeviceRule};
use rustix::io::Errno;

use crate::sys::{self, BpfInstruction};

/// Character devices that every container may open: major and minor, `None` for every minor.
const STANDARD: [(u32, Option<u32>); 9] = [
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
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;

/// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS_AND_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Has the container open standard devices, and what `rules` allow, in place of what it was allowed before.
pub(crate) fn attach(cgroup: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<(), Errno> {
    sys::attach_device_filter(cgroup, &program(rules))
}

/// Has the container open every device.
pub(crate) fn attach_nothing(cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::attach_device_filter(cgroup, &[instruction(MOVE, ANSWER, 0, 1), EXIT])
}

/// Registers of the program: its answer, its argument, what it takes from that, and room for arithmetic.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR_NUMBER: u8 = 4;
const MINOR_NUMBER: u8 = 5;
const SCRATCH: u8 = 6;

fn program(rules: &[DeviceRule]) -> Vec<BpfInstruction> {
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
    let standard = STANDARD.map(|(major, minor)| DeviceRule {
        kind: Some(DeviceKind::Character),
        major: Some(major),
        minor,
        access: DeviceAccess {
            read: true,
            write: true,
            make: true,
        },
    });
    program.extend(standard.iter().chain(rules).flat_map(allow));
    program.extend([instruction(MOVE, ANSWER, 0, 0), EXIT]);
    program
}

/// Ends the program when the rule holds, and goes on behind this when it does not.
fn allow(rule: &DeviceRule) -> Vec<BpfInstruction> {
    let DeviceAccess { read, write, .. } = rule.access;
    let allowed = [(read, ACCESS_READ), (write, ACCESS_WRITE), (true, ACCESS_MKNOD)];
    let allowed = allowed
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, bit)| bit)
        .sum::<i32>();
    let kind = rule.kind.map(|kind| match kind {
        DeviceKind::Block => TYPE_BLOCK,
        DeviceKind::Character => TYPE_CHARACTER,
    });
    // A register holds 64 bits of which the context sets 32, and a constant is sign-extended: numbers of devices have 20
    // bits at most, others match nothing.
    let number = |number: u32| i32::try_from(number).unwrap_or(-1);
    let conditions = [
        (KIND, kind),
        (MAJOR_NUMBER, rule.major.map(number)),
        (MINOR_NUMBER, rule.minor.map(number)),
    ];
    let conditions: Vec<_> = conditions
        .into_iter()
        .filter_map(|(register, value)| Some((register, value?)))
        .collect();
    // The exit, and the three instructions on the access.
    let mut left = conditions.len() as i16 + 4;
    let mut block = Vec::new();
    for (register, value) in conditions {
        left -= 1;
        block.push(skip_unless_equal(register, value, left));
    }
    block.extend([
        copy(SCRATCH, ACCESS),
        instruction(AND, SCRATCH, 0, !allowed),
        skip_unless_equal(SCRATCH, 0, 1),
        EXIT,
    ]);
    block
}

/// Operation codes of `linux/bpf.h`: a 32-bit load from memory, and 64-bit arithmetic with a constant.
const LOAD: u8 = 0x61;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
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

fn copy(to: u8, from: u8) -> BpfInstruction {
    BpfInstruction {
        code: COPY,
        registers: to | (from << 4),
        offset: 0,
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
        allows_with(&[], access, kind, major, minor)
    }

    fn allows_with(rules: &[DeviceRule], access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = |offset| match offset {
            ACCESS_AND_TYPE => access << 16 | kind,
            MAJOR => major,
            MINOR => minor,
            other => panic!("no field at {other}"),
        };
        let program = program(rules);
        let (mut at, mut registers) = (0, [0u64; 11]);
        loop {
            let BpfInstruction {
                code,
                registers: fields,
                offset,
                constant,
            } = program[at];
            let from = registers[usize::from(fields >> 4)];
            let register = &mut registers[usize::from(fields & 15)];
            at += 1;
            match code {
                LOAD => *register = context(offset).into(),
                SHIFT_RIGHT => *register >>= constant,
                AND => *register &= i64::from(constant) as u64,
                COPY => *register = from,
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
    const READ: u32 = 2;
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
    fn rules_open_more_and_no_more_than_they_say() {
        let read_only = DeviceAccess {
            read: true,
            ..DeviceAccess::default()
        };
        let tun = DeviceRule {
            kind: Some(DeviceKind::Character),
            major: Some(10),
            minor: Some(200),
            access: read_only,
        };
        let disks = DeviceRule {
            kind: Some(DeviceKind::Block),
            major: Some(7),
            minor: None,
            access: DeviceAccess {
                write: true,
                ..read_only
            },
        };
        let rules = [tun, disks];
        assert!(allows_with(&rules, READ, CHARACTER, 10, 200));
        assert!(!allows_with(&rules, READ_WRITE, CHARACTER, 10, 200));
        assert!(!allows_with(&rules, READ, CHARACTER, 10, 229));
        assert!(!allows_with(&rules, READ, BLOCK, 10, 200));
        assert!(allows_with(&rules, READ_WRITE | MKNOD, BLOCK, 7, 9));
        assert!(!allows_with(&rules, READ, BLOCK, 254, 0));
        assert!(allows_with(&rules, READ_WRITE, CHARACTER, 1, 3));
        let every = DeviceRule {
            kind: None,
            major: None,
            ..disks
        };
        assert!(allows_with(&[every], READ_WRITE, BLOCK, 254, 0));
        assert!(allows_with(&[every], READ_WRITE, CHARACTER, 10, 229));
    }

    #[test]
    fn any_node_may_be_made() {
        assert!(allows(MKNOD, BLOCK, 254, 0));
        assert!(allows(MKNOD, CHARACTER, 10, 229));
        assert!(!allows(MKNOD | READ_WRITE, BLOCK, 254, 0));
    }
}
