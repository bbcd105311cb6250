//! The host's loopback addresses are the helper VM's: whoever connects to `localhost:5000` in the VM means the registry that the
//! user has started on the host.
//!
//! A BPF program at connect(2) puts the gateway in the place of a loopback address, before the kernel chooses a route and a source
//! address; slirp makes a connection to the host's loopback of that. Unlike rules of the packet filter it works for `::1` as for
//! `127.0.0.1` (IPv6 routes nothing away from the loopback), costs nothing once the connection stands, and needs no program.
//! Unlike a proxy it leaves a refused connection refused. What a TLS client makes of the name it was given does not change.
//!
//! Only sockets of the VM itself are meant. Guests have none in it, and what bridges forward never calls connect(2).
//!
//! A socket that is bound to an interface (`SO_BINDTODEVICE`) means that one: so the agent reaches what listens in the VM, where a
//! connection would otherwise come back to the port of the host that it is made for.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::network::{HOST_V4, HOST_V6};

#[cfg(test)]
mod tests;

/// The root of the control groups: all processes of the VM are in or below it.
const ALL_PROCESSES: &str = "/sys/fs/cgroup";

/// Send connections to loopback addresses to the host, from now until the VM ends.
pub(super) fn send_to_host() -> io::Result<()> {
    send_to_host_from(Path::new(ALL_PROCESSES))
}

fn send_to_host_from(group: &Path) -> io::Result<()> {
    let processes = File::open(group)?;
    attach(processes.as_fd(), CONNECT_V4, &of_v4())?;
    attach(processes.as_fd(), CONNECT_V6, &of_v6())
}

/// `bpf_attach_type` of linux/bpf.h: `BPF_CGROUP_INET4_CONNECT` and `BPF_CGROUP_INET6_CONNECT`.
const CONNECT_V4: u32 = 10;
const CONNECT_V6: u32 = 11;

/// What such a program sees of the call: the beginning of `struct bpf_sock_addr` of linux/bpf.h. Addresses are in network order.
#[repr(C)]
struct SocketAddress {
    user_family: u32,
    user_ip4: u32,
    user_ip6: [u32; 4],
    user_port: u32,
    family: u32,
    kind: u32,
    protocol: u32,
    source_ip4: u32,
    source_ip6: [u32; 4],
    socket: u64,
}

const IP4: i16 = offset_of!(SocketAddress, user_ip4) as i16;
const IP6: i16 = offset_of!(SocketAddress, user_ip6) as i16;
const KIND: i16 = offset_of!(SocketAddress, kind) as i16;
const SOCKET: i16 = offset_of!(SocketAddress, socket) as i16;
/// Where the socket, a `struct bpf_sock` of linux/bpf.h, says which interface it is bound to; 0 for none.
const BOUND_INTERFACE: i16 = 0;
const WORD: i16 = size_of::<u32>() as i16;

/// One instruction, `struct bpf_insn` of linux/bpf.h; the numbers are those of the kernel's
/// Documentation/bpf/instruction-set.rst.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// The destination in the low half, the source in the high one.
    registers: u8,
    offset: i16,
    constant: i32,
}

/// The result; the call's address, given at the start; a scratch register.
const RESULT: u8 = 0;
const CALL: u8 = 1;
const SCRATCH: u8 = 2;

/// `scratch = *(u32 *)(call + offset)`
const fn load(offset: i16) -> Instruction {
    Instruction {
        code: 0x61,
        registers: CALL << 4 | SCRATCH,
        offset,
        constant: 0,
    }
}

/// `scratch = call->socket->bound_interface`
const fn load_bound_interface() -> [Instruction; 2] {
    let load_socket = Instruction {
        code: 0x79,
        registers: CALL << 4 | SCRATCH,
        offset: SOCKET,
        constant: 0,
    };
    let load_interface = Instruction {
        code: 0x61,
        registers: SCRATCH << 4 | SCRATCH,
        offset: BOUND_INTERFACE,
        constant: 0,
    };
    [load_socket, load_interface]
}

/// `*(u32 *)(call + offset) = constant`, by way of the scratch register
const fn store(offset: i16, constant: u32) -> [Instruction; 2] {
    let load = Instruction {
        code: 0xb4,
        registers: SCRATCH,
        offset: 0,
        constant: constant.cast_signed(),
    };
    let store = Instruction {
        code: 0x63,
        registers: SCRATCH << 4 | CALL,
        offset,
        constant: 0,
    };
    [load, store]
}

/// `scratch &= constant`
const fn mask(constant: u32) -> Instruction {
    Instruction {
        code: 0x54,
        registers: SCRATCH,
        offset: 0,
        constant: constant.cast_signed(),
    }
}

/// Skip so many instructions unless the scratch register has this value.
const fn unless(constant: u32, skip: i16) -> Instruction {
    Instruction {
        code: 0x56,
        registers: SCRATCH,
        offset: skip,
        constant: constant.cast_signed(),
    }
}

/// `return 1`: the call goes on.
const fn go_on() -> [Instruction; 2] {
    let set = Instruction {
        code: 0xb7,
        registers: RESULT,
        offset: 0,
        constant: 1,
    };
    let exit = Instruction {
        code: 0x95,
        registers: 0,
        offset: 0,
        constant: 0,
    };
    [set, exit]
}

/// The word as the kernel sees four bytes that lie in network order.
const fn network(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// Stream sockets alone: a datagram to the VM's own loopback is none for the host.
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();
/// 127.0.0.0/8, RFC 1122, section 3.2.1.3.
const LOOPBACK_MASK: u32 = network([0xff, 0, 0, 0]);
const LOOPBACK_NET: u32 = network([127, 0, 0, 0]);

fn of_v4() -> Vec<Instruction> {
    let rewrite = store(IP4, network(HOST_V4.octets()));
    let [load_socket, load_interface] = load_bound_interface();
    let guard = [
        load(KIND),
        unless(STREAM, 8),
        load_socket,
        load_interface,
        unless(0, 5),
        load(IP4),
        mask(LOOPBACK_MASK),
        unless(LOOPBACK_NET, 2),
    ];
    [&guard[..], &rewrite, &go_on()].concat()
}

fn of_v6() -> Vec<Instruction> {
    let at = |word: i16| IP6 + word * WORD;
    let words = |address: Ipv6Addr| {
        let o = address.octets();
        [0, 4, 8, 12].map(|i| network([o[i], o[i + 1], o[i + 2], o[i + 3]]))
    };
    let host = words(HOST_V6);
    let loopback = words(Ipv6Addr::LOCALHOST);
    let mapped = words(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    let end = go_on();

    // ::1
    let rewrite: Vec<_> = (0..4).flat_map(|i| store(at(i), host[i as usize])).collect();
    let last = [load(at(3)), unless(loopback[3], rewrite.len() as i16 + 2)];
    // An IPv4 address in the clothes of an IPv6 one, RFC 4291, section 2.5.5.2
    let rewrite_mapped = store(at(3), network(HOST_V4.octets()));
    let is_mapped = [
        load(at(2)),
        unless(mapped[2], 5),
        load(at(3)),
        mask(LOOPBACK_MASK),
        unless(LOOPBACK_NET, 2),
    ];
    let after_third = [&last[..], &rewrite, &end].concat();
    let third = [load(at(2)), unless(0, after_third.len() as i16)];
    let body = [&third[..], &after_third, &is_mapped, &rewrite_mapped].concat();
    let [load_socket, load_interface] = load_bound_interface();
    let guard = [
        load(KIND),
        unless(STREAM, body.len() as i16 + 7),
        load_socket,
        load_interface,
        unless(0, body.len() as i16 + 4),
        load(at(0)),
        unless(0, body.len() as i16 + 2),
        load(at(1)),
        unless(0, body.len() as i16),
    ];
    [&guard[..], &body, &end].concat()
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that reaches to what is used here.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH` that is used here.
#[repr(C)]
struct ProgramAttach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Have a program see the calls of a control group's processes, bpf(2). The kernel keeps it as long as the group.
fn attach(processes: BorrowedFd<'_>, attach_type: u32, program: &[Instruction]) -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
    let load = ProgramLoad {
        program_type: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        attach_type,
        ..ProgramLoad::default()
    };
    // SAFETY: the kernel reads one `ProgramLoad`, and through it the program and a string, all of them alive; it writes no log,
    // because it was given no room for one.
    let loaded = result(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<ProgramLoad>(),
        )
    })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as libc::c_int) };
    let attach = ProgramAttach {
        target: processes.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        attach_type,
        flags: 0,
    };
    // SAFETY: the kernel reads one `ProgramAttach`.
    let attached = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of::<ProgramAttach>(),
        )
    };
    result(attached).map(drop)
}

fn result(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned)
}
