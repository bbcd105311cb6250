//! Numbers of system calls.

use std::str::FromStr;

use syscalls::{x86, x86_64};

/// The instruction sets that a microVM's kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstructionSet {
    /// 64-bit programs.
    X86_64,
    /// 32-bit programs.
    I386,
}

/// What 32-bit programs may make in place of system calls of their own: the number that is their first argument.
/// `linux/net.h`, from 1 on.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
/// `linux/ipc.h`.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The number of a system call; `None` where the instruction set has none of this name.
pub(super) fn number(set: InstructionSet, name: &str) -> Option<u32> {
    let number = match set {
        InstructionSet::X86_64 => x86_64::Sysno::from_str(name).ok()?.id(),
        InstructionSet::I386 => x86::Sysno::from_str(name).ok()?.id(),
    };
    u32::try_from(number).ok()
}

/// The system call that leads to this one, too, and its first argument then.
pub(super) fn multiplexed(set: InstructionSet, name: &str) -> Option<(&'static str, u64)> {
    if set != InstructionSet::I386 {
        return None;
    }
    let socket = SOCKET_CALLS.iter().position(|known| *known == name);
    if let Some(index) = socket {
        return Some(("socketcall", index as u64 + 1));
    }
    let ipc = IPC_CALLS.iter().find(|(known, _)| *known == name);
    ipc.map(|(_, number)| ("ipc", *number))
}
