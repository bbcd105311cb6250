//! Docker's default seccomp profile as a program for the kernel's filter machine.
//!
//! The program finds a system call's number by binary search over ranges of numbers that are treated alike. That makes
//! it some ten comparisons long where a list would take hundreds, for every call of the container, and for the kernel
//! too, which tries every number once while it attaches the filter.

mod syscalls;

use rustix::io::Errno;

use guest_protocol::Seccomp;
use guest_protocol::filter::{
    ARCH, ARCH_I386, ARCH_X86_64, BPF_JUMP_ANY_BIT, BPF_JUMP_EQUAL, FIRST_ARGUMENT, FilterInstruction,
    NUMBER, RETURN_ALLOW, RETURN_ERRNO, search,
};

use crate::capabilities::CapabilitySet;
use crate::sys;
use syscalls::{ALWAYS, BY_CAPABILITY, NONE};

const CAP_SYS_ADMIN: u32 = 21;

/// `CLONE_NEW*` for mount, cgroup, UTS, IPC, user, pid and network namespaces.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
const AF_VSOCK: u32 = 40;
/// Linux, 32-bit ABI, and both with `UNAME26`; and the question which one is set.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(u16),
    /// Allowed when it makes no namespace.
    CloneWithoutNamespaces,
    /// Allowed but for `AF_VSOCK`, which would reach the host behind the network's back.
    SocketButVsock,
    /// Allowed for the personalities that weaken nothing.
    HarmlessPersonality,
}

/// Numbers of the calls whose arguments matter.
struct Conditional {
    clone: u16,
    clone3: u16,
    socket: u16,
    personality: u16,
}

/// Restricts this process and all it becomes. Without no_new_privs it needs `CAP_SYS_ADMIN`, as it is.
pub(crate) fn apply(seccomp: &Seccomp, capabilities: CapabilitySet) -> Result<(), Errno> {
    match seccomp {
        Seccomp::Unconfined => Ok(()),
        Seccomp::Standard => sys::install_seccomp_filter(&program(capabilities)),
        // The kernel looks whether it is one.
        Seccomp::Program(program) => sys::install_seccomp_filter(program),
    }
}

/// The whole program for a process with these capabilities in its bounding set.
fn program(capabilities: CapabilitySet) -> Vec<FilterInstruction> {
    let wide = Conditional {
        clone: 56,
        clone3: 435,
        socket: 41,
        personality: 135,
    };
    let narrow = Conditional {
        clone: 120,
        clone3: 435,
        socket: 359,
        personality: 136,
    };
    let x86_64 = search(&ranges(capabilities, &wide, |call| call.x86_64), &carry_out);
    let i386 = search(&ranges(capabilities, &narrow, |call| call.i386), &carry_out);
    let mut program = vec![
        FilterInstruction::load(ARCH),
        jump_if_equal(ARCH_X86_64, 1, 0),
        FilterInstruction::jump(x86_64.len() as u32 + 1),
        FilterInstruction::load(NUMBER),
    ];
    program.extend(x86_64);
    program.extend([
        jump_if_equal(ARCH_I386, 1, 0),
        refuse(ENOSYS),
        FilterInstruction::load(NUMBER),
    ]);
    program.extend(i386);
    program
}

/// Verdicts by the first number they hold for, ascending from 0; the last holds for all higher numbers.
fn ranges(
    capabilities: CapabilitySet,
    conditional: &Conditional,
    number: impl Fn(&syscalls::Syscall) -> u16,
) -> Vec<(u32, Verdict)> {
    let mut verdicts = vec![Verdict::Refuse(EPERM); usize::from(highest(&number)) + 1];
    let may_administrate = capabilities.contains(CAP_SYS_ADMIN);
    verdicts[usize::from(conditional.clone)] = Verdict::CloneWithoutNamespaces;
    // glibc asks with clone3 first; a plain EPERM would keep it from falling back to clone.
    verdicts[usize::from(conditional.clone3)] = Verdict::Refuse(ENOSYS);
    verdicts[usize::from(conditional.socket)] = Verdict::SocketButVsock;
    verdicts[usize::from(conditional.personality)] = Verdict::HarmlessPersonality;
    let by_capability = BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| capabilities.contains(*capability));
    for call in ALWAYS.iter().chain(by_capability.flat_map(|(_, calls)| *calls)) {
        let number = number(call);
        if number != NONE {
            verdicts[usize::from(number)] = Verdict::Allow;
        }
    }
    debug_assert!(!may_administrate || verdicts[usize::from(conditional.clone)] == Verdict::Allow);
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for (number, verdict) in verdicts.iter().enumerate() {
        if ranges.last().is_none_or(|(_, last)| last != verdict) {
            ranges.push((number as u32, *verdict));
        }
    }
    // A call newer than the profile: programs take ENOSYS for "not there" and do without.
    ranges.push((verdicts.len() as u32, Verdict::Refuse(ENOSYS)));
    ranges
}

/// The highest number that the profile names.
fn highest(number: &impl Fn(&syscalls::Syscall) -> u16) -> u16 {
    let all = ALWAYS
        .iter()
        .chain(BY_CAPABILITY.iter().flat_map(|(_, calls)| *calls));
    all.map(number)
        .filter(|number| *number != NONE)
        .max()
        .unwrap_or(0)
}

fn carry_out(verdict: &Verdict) -> Vec<FilterInstruction> {
    const FIRST: FilterInstruction = FilterInstruction::load(FIRST_ARGUMENT);
    match verdict {
        Verdict::Allow => vec![ALLOW],
        Verdict::Refuse(errno) => vec![refuse(*errno)],
        Verdict::CloneWithoutNamespaces => {
            vec![
                FIRST,
                FilterInstruction::compare(BPF_JUMP_ANY_BIT, CLONE_NAMESPACES, 1, 0),
                ALLOW,
                refuse(EPERM),
            ]
        }
        Verdict::SocketButVsock => vec![FIRST, jump_if_equal(AF_VSOCK, 1, 0), ALLOW, refuse(EPERM)],
        Verdict::HarmlessPersonality => {
            let mut code = vec![FIRST];
            for (index, personality) in PERSONALITIES.iter().enumerate() {
                code.push(jump_if_equal(
                    *personality,
                    (PERSONALITIES.len() - index) as u8,
                    0,
                ));
            }
            code.extend([refuse(EPERM), ALLOW]);
            code
        }
    }
}

const ALLOW: FilterInstruction = FilterInstruction::give(RETURN_ALLOW);

fn jump_if_equal(value: u32, jt: u8, jf: u8) -> FilterInstruction {
    FilterInstruction::compare(BPF_JUMP_EQUAL, value, jt, jf)
}

fn refuse(errno: u16) -> FilterInstruction {
    FilterInstruction::give(RETURN_ERRNO | u32::from(errno))
}

#[cfg(test)]
mod tests {
    use guest_protocol::filter::{BPF_JUMP, BPF_JUMP_AT_LEAST, BPF_LOAD, BPF_RETURN};

    use super::*;

    const ALLOWED: u32 = 0x7fff_0000;
    const DENIED: u32 = 0x0005_0001;
    const ABSENT: u32 = 0x0005_0026;

    /// Runs the program as the kernel would.
    fn run(program: &[FilterInstruction], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = &program[at];
            at += 1;
            let holds = match instruction.code {
                BPF_LOAD => {
                    accumulator = match instruction.k {
                        NUMBER => number,
                        ARCH => arch,
                        FIRST_ARGUMENT => argument,
                        other => panic!("no field at {other}"),
                    };
                    continue;
                }
                BPF_JUMP => {
                    at += instruction.k as usize;
                    continue;
                }
                BPF_RETURN => return instruction.k,
                BPF_JUMP_EQUAL => accumulator == instruction.k,
                BPF_JUMP_AT_LEAST => accumulator >= instruction.k,
                BPF_JUMP_ANY_BIT => accumulator & instruction.k != 0,
                other => panic!("no instruction {other:#x}"),
            };
            at += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
    }

    fn none() -> CapabilitySet {
        CapabilitySet::default()
    }

    #[test]
    fn every_listed_call_is_let_through_in_both_instruction_sets() {
        let program = program(none());
        for call in ALWAYS {
            if call.x86_64 != NONE {
                assert_eq!(
                    run(&program, ARCH_X86_64, call.x86_64.into(), 0),
                    ALLOWED,
                    "{}",
                    call.name
                );
            }
            if call.i386 != NONE {
                assert_eq!(
                    run(&program, ARCH_I386, call.i386.into(), 0),
                    ALLOWED,
                    "{}",
                    call.name
                );
            }
        }
    }

    #[test]
    fn numbers_agree_with_the_c_library() {
        let listed = |name| ALWAYS.iter().find(|call| call.name == name).unwrap().x86_64;
        assert_eq!(i64::from(listed("openat2")), libc::SYS_openat2);
        assert_eq!(i64::from(listed("execve")), libc::SYS_execve);
        assert_eq!(i64::from(listed("futex_waitv")), libc::SYS_futex_waitv);
    }

    #[test]
    fn a_call_that_needs_a_capability_depends_on_it() {
        let without = program(none());
        for (capability, calls) in BY_CAPABILITY {
            let with = program([*capability].into_iter().collect());
            for call in *calls {
                if call.x86_64 == NONE {
                    continue;
                }
                let number = u32::from(call.x86_64);
                assert_eq!(run(&with, ARCH_X86_64, number, 0), ALLOWED, "{}", call.name);
                if call.name != "clone" {
                    assert_ne!(run(&without, ARCH_X86_64, number, 0), ALLOWED, "{}", call.name);
                }
            }
        }
    }

    #[test]
    fn clone_makes_threads_and_processes_but_no_namespaces() {
        let program = program(none());
        let clone = libc::SYS_clone as u32;
        assert_eq!(run(&program, ARCH_X86_64, clone, libc::SIGCHLD as u32), ALLOWED);
        for flag in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(run(&program, ARCH_X86_64, clone, flag as u32), DENIED);
        }
        assert_eq!(run(&program, ARCH_X86_64, libc::SYS_clone3 as u32, 0), ABSENT);
    }

    #[test]
    fn sockets_are_free_but_for_vsock() {
        let program = program(none());
        let socket = libc::SYS_socket as u32;
        assert_eq!(run(&program, ARCH_X86_64, socket, libc::AF_INET as u32), ALLOWED);
        assert_eq!(run(&program, ARCH_X86_64, socket, libc::AF_VSOCK as u32), DENIED);
        assert_eq!(run(&program, ARCH_I386, 359, libc::AF_VSOCK as u32), DENIED);
    }

    #[test]
    fn personality_may_be_asked_and_set_to_harmless_values() {
        let program = program(none());
        for value in PERSONALITIES {
            assert_eq!(
                run(&program, ARCH_X86_64, libc::SYS_personality as u32, value),
                ALLOWED
            );
        }
        let no_randomization = 0x004_0000;
        assert_eq!(
            run(
                &program,
                ARCH_X86_64,
                libc::SYS_personality as u32,
                no_randomization
            ),
            DENIED
        );
    }

    #[test]
    fn what_nobody_listed_is_refused() {
        let program = program(none());
        for number in [
            libc::SYS_kexec_load,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
        ] {
            assert_eq!(run(&program, ARCH_X86_64, number as u32, 0), DENIED);
        }
        assert_eq!(run(&program, ARCH_X86_64, 1000, 0), ABSENT);
        assert_eq!(run(&program, ARCH_X86_64, u32::MAX, 0), ABSENT);
        assert_eq!(
            run(&program, 0xc000_00b7, 0, 0),
            ABSENT,
            "another instruction set"
        );
    }
}
