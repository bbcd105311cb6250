//! QEMU and the file server: their arguments, and their lives.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::{ConfineSpec, LaunchSpec, SupervisorError, file, keep_previous};
use crate::agent::{HOST_TAG, LINK_PORT};
use crate::host::{Accelerator, Virtiofsd};
use crate::network;

/// The two processes that make a helper VM. Dropped, they are killed.
pub(super) struct Processes {
    pub(super) qemu: Child,
    pub(super) virtiofsd: Child,
}

impl Processes {
    /// Start both. Returns them and this side of the link into the VM.
    pub(super) fn spawn(spec: &LaunchSpec) -> Result<(Self, UnixStream), SupervisorError> {
        let console = spec.dirs.console_log();
        keep_previous(&console).map_err(file("set aside", &console))?;
        // The file server gets a socket that listens already, so QEMU need not wait for it.
        let path = spec.dirs.virtiofs_socket();
        let listener = UnixListener::bind(&path).map_err(file("listen on", &path))?;
        let virtiofsd = spawn(
            spec.user_namespace,
            virtiofsd_command(&spec.virtiofsd),
            listener.into(),
            &spec.dirs.virtiofsd_log(),
        )?;
        let (ours, theirs) = UnixStream::pair().map_err(file("make a socket for", &spec.qemu))?;
        let theirs = theirs.into_std().map_err(file("make a socket for", &spec.qemu))?;
        let qemu = spawn(false, qemu_command(spec), theirs.into(), &spec.dirs.qemu_log())?;
        Ok((Processes { qemu, virtiofsd }, ours))
    }

    /// Kill both and wait until they are gone.
    pub(super) async fn kill(&mut self) {
        for child in [&mut self.qemu, &mut self.virtiofsd] {
            // It fails only when the process is gone already.
            let _ = child.kill().await;
        }
    }
}

/// Start a program through [`ConfineSpec`], with `socket` as its standard input.
fn spawn(
    user_namespace: bool,
    command: Vec<OsString>,
    socket: OwnedFd,
    log_path: &Path,
) -> Result<Child, SupervisorError> {
    keep_previous(log_path).map_err(file("set aside", log_path))?;
    let log = File::create(log_path).map_err(file("write", log_path))?;
    let also_log = log.try_clone().map_err(file("write", log_path))?;
    let own = Path::new("/proc/self/exe");
    let spec = ConfineSpec {
        parent: std::process::id(),
        user_namespace,
        command,
    };
    Command::new(own)
        .args(spec.arguments())
        .stdin(Stdio::from(socket))
        .stdout(log)
        .stderr(also_log)
        .kill_on_drop(true)
        .spawn()
        .map_err(file("run", own))
}

/// Both implementations serve `/` as it is, with ownership and extended attributes, and ask again whether
/// a file changed after a second (`cache=auto`).
fn virtiofsd_command(virtiofsd: &Virtiofsd) -> Vec<OsString> {
    let (program, arguments): (_, &[&str]) = match virtiofsd {
        Virtiofsd::Qemu(program) => (
            program,
            &[
                "--fd=0",
                "--rlimit-nofile=0",
                "-o",
                "source=/,cache=auto,xattr,sandbox=chroot,log_level=warn",
            ],
        ),
        Virtiofsd::Rust(program) => (
            program,
            &[
                "--fd=0",
                "--rlimit-nofile=0",
                "--shared-dir=/",
                "--cache=auto",
                "--xattr",
                "--sandbox=chroot",
            ],
        ),
    };
    std::iter::once(program.into())
        .chain(arguments.iter().map(OsString::from))
        .collect()
}

fn qemu_command(spec: &LaunchSpec) -> Vec<OsString> {
    // Errors and worse go to the serial console, which is slow. The end of a virtual machine waits for RCU grace periods, one
    // after the other, of some ticks each: few CPUs can afford to be interrupted for them instead. Emulated ones are spared
    // it.
    let (accel, cpu, kernel_arguments) = match spec.accelerator {
        Accelerator::Kvm => (
            "kvm",
            "host",
            "console=ttyS0 loglevel=4 panic=-1 rcupdate.rcu_expedited=1",
        ),
        // The emulated processor speculates nothing, so mitigations only cost; it shows SVM by itself. It executes `rep
        // movsb` a byte at a time: a kernel that believes in fast string instructions (ERMS) takes three times as long
        // to clear a page. QEMU 10 shows FSRM, which Linux takes to imply ERMS: with only the one its memmove never ends.
        //
        // Its first processor must not run microVMs: whenever any of the others restores its floating point state (at each
        // switch to another thread), QEMU writes back what it has read of the first one's `hflags2` (`cpu_clear_ignne`, up to
        // QEMU 10 at least), without a lock. What that one did in between is undone: it takes interrupts between #VMEXIT and
        // STGI, or keeps nested paging switched on. So Linux keeps it for interrupts alone.
        Accelerator::Tcg => (
            "tcg,thread=multi",
            "max,-erms,-fsrm",
            "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable isolcpus=0",
        ),
    };
    let cpus = spec.config.cpus + u32::from(matches!(spec.accelerator, Accelerator::Tcg));
    let memory = spec.config.memory_mib;
    let mut command: Vec<OsString> = vec![spec.qemu.clone().into()];
    let mut add = |arguments: &[&str]| command.extend(arguments.iter().map(OsString::from));
    add(&[
        "-name",
        "hull-machine",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]);
    add(&["-machine", "pc,memory-backend=memory,usb=off,vmport=off"]);
    add(&[
        "-accel",
        accel,
        "-cpu",
        cpu,
        "-smp",
        &cpus.to_string(),
        "-m",
        &format!("{memory}M"),
    ]);
    // The file server reads and writes the VM's memory, hence a file that can be shared.
    add(&[
        "-object",
        &format!("memory-backend-memfd,id=memory,size={memory}M,share=on"),
    ]);
    add(&[
        "-device",
        "virtio-serial-pci,max_ports=2",
        "-chardev",
        "socket,id=link,fd=0",
    ]);
    add(&[
        "-device",
        &format!("virtserialport,chardev=link,nr=1,name={LINK_PORT}"),
    ]);
    add(&["-append", kernel_arguments]);
    let dirs = &spec.dirs;
    command.extend([
        "-kernel".into(),
        dirs.kernel().into(),
        "-initrd".into(),
        dirs.initrd().into(),
        "-serial".into(),
        joined("file:", &dirs.console_log()),
        "-chardev".into(),
        joined("socket,id=files,path=", &doubled_commas(&dirs.virtiofs_socket())),
        "-drive".into(),
        joined(
            "id=data,if=none,format=raw,cache=writeback,discard=unmap,file=",
            &doubled_commas(&dirs.disk()),
        ),
    ]);
    command.extend(
        [
            "-device",
            &format!("vhost-user-fs-pci,chardev=files,tag={HOST_TAG}"),
            "-device",
            "virtio-blk-pci,drive=data",
            "-netdev",
            &network::netdev("net"),
            // Nothing is booted from it: without its boot program the firmware is done sooner.
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
        .map(OsString::from),
    );
    command
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut value = OsString::from(option);
    value.push(path);
    value
}

/// A path as part of one of QEMU's option lists, where a comma is written twice.
fn doubled_commas(path: &Path) -> PathBuf {
    let doubled = path
        .as_os_str()
        .as_bytes()
        .split(|&b| b == b',')
        .collect::<Vec<_>>()
        .join(&b",,"[..]);
    OsString::from_vec(doubled).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_qemus_option() {
        assert_eq!(doubled_commas(Path::new("/a,b/c")), Path::new("/a,,b/c"));
        assert_eq!(doubled_commas(Path::new("/plain")), Path::new("/plain"));
    }
}
