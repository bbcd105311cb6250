//! System calls that no safe crate offers. All `unsafe` of the agent is here.
#![expect(unsafe_code, reason = "the one module that makes raw system calls")]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use guest_protocol::filter::FilterInstruction;
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::process::Pid;

/// The address of a vsock port, vsock(7).
pub(crate) struct VsockAddress {
    pub(crate) cid: u32,
    pub(crate) port: u32,
}

impl VsockAddress {
    /// Any context id of this machine.
    pub(crate) const ANY: u32 = libc::VMADDR_CID_ANY;
    /// The context id of the host.
    pub(crate) const HOST: u32 = libc::VMADDR_CID_HOST;
}

// SAFETY: `f` gets a pointer to a whole `sockaddr_vm` that lives until it returns, and its size.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        // SAFETY: all zeroes is a valid `sockaddr_vm`.
        let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
        address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
        address.svm_cid = self.cid;
        address.svm_port = self.port;
        f(
            ptr::from_ref(&address).cast(),
            size_of_val(&address) as SocketAddrLen,
        )
    }
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`, which does not fit in a C int.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Which side of a [`fork_into`] this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The process that forked.
    Parent {
        /// The new process.
        pid: Pid,
        /// Names it for as long as it is open, whatever becomes of the pid.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces (`CLONE_NEW*` flags) and, if one is given, a cgroup, clone3(2). The caller has a single thread, so that the
/// child finds no lock taken.
pub(crate) fn fork_into(namespaces: c_int, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork, Errno> {
    let mut pidfd: c_int = -1;
    // SAFETY: all zeroes is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and a stack this is fork(2): the child runs on a copy of this memory. The pointers in
    // `args` are valid for the call.
    match syscall(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) })? {
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: the kernel has stored a new descriptor there, and nobody else knows of it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?;
            Ok(Fork::Parent { pid, pidfd })
        }
    }
}

/// Forks; `None` is the child. The caller has a single thread.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: with a single thread the child may do all that its parent may.
    let pid = syscall(c_long::from(unsafe { libc::fork() }))?;
    Ok(Pid::from_raw(pid as i32))
}

/// Makes the cgroup of this process the root of all it sees of them, unshare(2).
pub(crate) fn new_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// Puts this thread into a network namespace of its own, unshare(2).
pub(crate) fn new_network_namespace() -> Result<(), Errno> {
    // SAFETY: no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// Changes attributes (`MOUNT_ATTR_*`) of a mount, mount_setattr(2).
pub(crate) fn set_mount_attributes(mount: impl AsFd, set: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    change_mount(mount, libc::AT_EMPTY_PATH, &attributes)
}

/// Makes the owners of a mount's files those that the user namespace maps theirs to, mount_setattr(2).
pub(crate) fn map_mount_owners(mount: impl AsFd, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    change_mount(mount, libc::AT_EMPTY_PATH, &attributes)
}

fn change_mount(mount: impl AsFd, flags: c_int, attributes: &libc::mount_attr) -> Result<(), Errno> {
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the pointers are to an empty string and a whole `mount_attr`, and the size is its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    syscall(result).map(drop)
}

/// Installs a filter for this process and all it becomes, seccomp(2).
pub(crate) fn install_seccomp_filter(program: &[FilterInstruction]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `filter` points to `len` instructions of the kernel's layout; the kernel checks and copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        )
    };
    syscall(result).map(drop)
}

/// One instruction of a BPF program, `struct bpf_insn` of `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u8,
    /// The destination in the low half, the source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) constant: i32,
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used here.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH` that is used here.
#[repr(C)]
struct ProgramAttach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Lets a program decide which devices processes of a cgroup may open, bpf(2).
pub(crate) fn attach_device_filter(cgroup: BorrowedFd<'_>, program: &[BpfInstruction]) -> Result<(), Errno> {
    const BPF_PROG_LOAD: c_int = 5;
    const BPF_PROG_ATTACH: c_int = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    let load = ProgramLoad {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: the kernel reads one `ProgramLoad`, and through it the program and a string, all of them alive.
    let loaded =
        syscall(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of_val(&load)) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as c_int) };
    let attach = ProgramAttach {
        target: cgroup.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: the kernel reads one `ProgramAttach`.
    let attached = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of_val(&attach),
        )
    };
    syscall(attached).map(drop)
}

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` of `linux/random.h`.
const ADD_ENTROPY: libc::Ioctl = libc::_IOW::<[c_int; 2]>(b'R' as u32, 0x03);
const RESEED_RANDOM: libc::Ioctl = libc::_IO(b'R' as u32, 0x07);

/// Mixes a seed into the pool of the kernel's random number generator (`RNDADDENTROPY`, random(4)), as that many bits of
/// entropy; `random` is `/dev/urandom`, open for writing.
pub(crate) fn add_entropy(random: BorrowedFd<'_>, seed: &[u8; 32]) -> Result<(), Errno> {
    /// `struct rand_pool_info` of `linux/random.h`.
    #[repr(C)]
    struct PoolInfo {
        entropy_count: c_int,
        buf_size: c_int,
        buf: [u8; 32],
    }
    let info = PoolInfo {
        entropy_count: 8 * 32,
        buf_size: 32,
        buf: *seed,
    };
    // SAFETY: the kernel reads one `PoolInfo`, which holds as many bytes as it says.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), ADD_ENTROPY, &raw const info) };
    syscall(result.into()).map(drop)
}

/// Makes the kernel's random number generator take new keys from its pool at once (`RNDRESEEDCRNG`, random(4)).
pub(crate) fn reseed_random(random: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: this call takes no argument.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RESEED_RANDOM) };
    syscall(result.into()).map(drop)
}

/// Brings a network interface up (`SIOCSIFFLAGS`, netdevice(7)); `socket` is any IPv4 socket.
pub(crate) fn bring_up(socket: BorrowedFd<'_>, interface: &CStr) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(interface.to_bytes())
    {
        *to = *from as c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the kernel reads one `ifreq` from the pointer.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    syscall(c_long::from(result)).map(drop)
}

/// Replaces this process by a program, execve(2); returns only when that failed.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let list = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: both lists end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Undoes what the Rust runtime did to the signals: a container's process gets SIGPIPE as everybody does.
pub(crate) fn restore_signals() {
    // SAFETY: SIG_DFL is a valid disposition, and no handler of this process relies on another.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Marks every descriptor from `first` on to be closed by the next exec, or closes it at once.
pub(crate) fn close_from(first: u32, on_exec: bool) -> Result<(), Errno> {
    let flags = if on_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: callers end or replace the process without touching a descriptor that this closes.
    syscall(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

/// Closes every descriptor but the standard streams and these.
pub(crate) fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if first < number {
            // SAFETY: callers end the process without touching a descriptor that this closes.
            syscall(unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) })?;
        }
        first = first.max(number + 1);
    }
    close_from(first, false)
}

/// Does nothing until another process ends this one.
pub(crate) fn wait_to_be_killed() -> ! {
    loop {
        // SAFETY: touches no memory of this process.
        unsafe { libc::pause() };
    }
}

/// Ends this process at once, without running anything that the process it was forked from had planned for its end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// All signals, held back from being delivered.
pub(crate) struct HeldSignals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl HeldSignals {
    pub(crate) fn hold() -> Self {
        // SAFETY: all zeroes is a valid `sigset_t`, and the pointers are valid for the calls.
        unsafe {
            let mut held = Self {
                set: std::mem::zeroed(),
                before: std::mem::zeroed(),
            };
            libc::sigfillset(&raw mut held.set);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const held.set, &raw mut held.before);
            held
        }
    }

    /// Waits for the next one; its number.
    pub(crate) fn next(&self) -> i32 {
        // SAFETY: the set is valid, and a null pointer asks for no details.
        unsafe { libc::sigwaitinfo(&raw const self.set, ptr::null_mut()) }
    }

    /// Lets them through again.
    pub(crate) fn release(self) {
        // SAFETY: `before` is the mask that was in force.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// Sends a signal by number, kill(2): the safe crates refuse the real-time ones.
pub(crate) fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    syscall(c_long::from(unsafe {
        libc::kill(pid.as_raw_nonzero().get(), signal)
    }))
    .map(drop)
}

/// Sends a signal by number to the process a pidfd names, pidfd_send_signal(2).
pub(crate) fn signal_process(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_details = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer asks for the details that kill(2) would give.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_details,
            0,
        )
    };
    syscall(result).map(drop)
}

fn syscall(result: c_long) -> Result<c_long, Errno> {
    if result == -1 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
