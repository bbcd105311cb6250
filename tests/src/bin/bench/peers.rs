//! The peers: Debian's crun, runc, QEMU and virtiofsd, copied with their libraries, so that each runs from memory as hull does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::{Places, bundle, network, storage};

/// Where the peers are set up: a file system in memory.
pub(crate) const ROOT: &str = "/run/hull-bench";

/// The variables with the task of QEMU's init: what it measures of storage, or the address at which it serves.
const TASK: &str = "bench_task";
const ADDRESS: &str = "bench_address";

/// The initramfs with the init alone.
const INITRAMFS: &str = "/init.cpio";

/// Copies the programs with what they load into `folder`/root, and makes QEMU's initramfs of `init`.
pub(crate) fn prepare(folder: &Path, init: &Path) -> Result<()> {
    let script = r#"
        rm -rf "$1"; mkdir -p "$1/root" "$1/init"; cd "$1"
        take() { test -e "root$1" || cp -L --parents "$1" root; }
        for name in crun runc qemu-system-x86_64 virtiofsd mkfs.ext4 git; do
            program=$(PATH=$PATH:/sbin:/usr/sbin:/usr/lib/qemu:/usr/libexec command -v $name) || { echo "$name is missing: run 'make bench', which installs it" >&2; exit 1; }
            take "$program"; ln -s "$program" root/$name
            for library in $(ldd "$program" | grep -o '/[^ ]*'); do take "$library"; done
        done
        mkdir root/tools; cp -L "$(command -v git)" root/tools/
        for library in $(ldd "$(command -v git)" | grep -o '/[^ ]*'); do cp -L "$library" root/tools/; done
        ln -s ld-linux-x86-64.so.2 root/tools/loader
        for rom in qboot.rom bios-microvm.bin kvmvapic.bin linuxboot_dma.bin pvh.bin; do
            for file in $(find /usr/share/qemu /usr/share/seabios -name $rom); do take "$file"; done
        done
        cp /bin/busybox root/busybox; mkdir -p root/work; cp "$2" init/init
        (cd init && echo init | cpio -o -H newc --quiet) > root/init.cpio
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "peers"]).arg(folder).arg(init);
    run(&mut command).map(drop)
}

/// Undoes [`set_up`] when it is dropped.
pub(crate) struct Mounts(PathBuf);

impl Drop for Mounts {
    fn drop(&mut self) {
        let script =
            format!("grep -o ' {ROOT}[^ ]*' /proc/mounts | sort -r | xargs -n1 umount -l; rmdir {ROOT}");
        Command::new("sh").args(["-c", &script]).status().ok();
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Brings the peers into memory, with the mounts they need, and the image's layer to the disk.
pub(crate) fn set_up(places: &Places) -> Result<Mounts> {
    let mounts = Mounts(places.disk.clone());
    bundle::unpack_layer(&places.lib.join("busybox"), &places.disk)?;
    let script = r#"
        mkdir -p "$1"; mount -t tmpfs -o mode=755 peers "$1"; cp -a "$2/root/." "$1/"; cp "$3/vmlinux" "$1/vmlinux"
        cd "$1"; mkdir -p proc sys dev run tmp ".$5"
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs run run
        mount --bind "$4" ".$5"
    "#;
    let mut command = Command::new("sh");
    command
        .args(["-euc", script, "set-up", ROOT])
        .arg(&places.peers)
        .arg(&places.lib)
        .arg(&places.disk)
        .arg(bundle::DISK);
    run(&mut command)?;
    Ok(mounts)
}

/// The step into the peers' root that stands before each of them, and nothing behind it.
pub(crate) fn nothing() -> Command {
    peer("/busybox", &["true"])
}

/// QEMU's microvm with the kernel and size of hull's microVMs, up to the init and out again.
pub(crate) fn qemu_microvm() -> Command {
    qemu("microvm,acpi=off,rtc=off,x-option-roms=off", INITRAMFS, "", &[])
}

/// The same with a folder and a disk, and a task for the init, which says on its output what goes wrong. virtiofsd listens at
/// `socket`; memory is shared with it.
pub(crate) fn qemu_with_storage(socket: &str, disk: &str, task: &str) -> Command {
    let shared = [
        // virtio-fs has no legacy form.
        "-global",
        "virtio-mmio.force-legacy=false",
        "-object",
        "memory-backend-memfd,id=memory,size=512M,share=on",
        "-chardev",
        &format!("socket,id=folder,path={socket}"),
        "-device",
        "vhost-user-fs-device,chardev=folder,tag=work",
        "-drive",
        &format!("if=none,id=disk,format=raw,file={disk}"),
        "-device",
        "virtio-blk-device,drive=disk",
        "-serial",
        "stdio",
    ];
    let qemu = qemu(
        "microvm,acpi=off,rtc=off,x-option-roms=off,memory-backend=memory",
        INITRAMFS,
        // What is behind ` -- ` would be before what QEMU adds of its devices; a parameter that the kernel does not know is a
        // variable of the init's.
        &format!("console=ttyS0 loglevel=4 {TASK}={task}"),
        &shared,
    );
    // An emulated processor may lose a guest.
    bounded(900, &qemu)
}

/// The same with a network card on the TAP device `tap`, and without folder and disk: its init, of the initramfs `initramfs`, has
/// an address with the length of its prefix, and serves until the process ends. `number` tells it from the others of its bridge.
pub(crate) fn qemu_with_network(initramfs: &str, tap: &str, number: u8, address: &str) -> Command {
    let network = [
        // hull's has no legacy form either.
        "-global",
        "virtio-mmio.force-legacy=false",
        "-netdev",
        &format!("tap,id=network,ifname={tap},script=no,downscript=no,vhost=off"),
        "-device",
        &format!("virtio-net-device,netdev=network,mac=52:54:00:00:00:{number:02x}"),
        "-serial",
        "stdio",
    ];
    qemu(
        "microvm,acpi=off,rtc=off,x-option-roms=off",
        initramfs,
        &format!("console=ttyS0 loglevel=4 {ADDRESS}={address}"),
        &network,
    )
}

/// A command that is ended after so many seconds.
pub(crate) fn bounded(seconds: u32, command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.arg(seconds.to_string());
    bounded.arg(command.get_program()).args(command.get_args());
    bounded
}

fn qemu(machine: &str, initramfs: &str, parameters: &str, devices: &[&str]) -> Command {
    // It has no keyboard controller: a triple fault is its reset.
    let machine = ["-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", "1"];
    let nothing_else = [
        "-m",
        "512",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ];
    let kernel = [
        "-kernel",
        "/vmlinux",
        "-initrd",
        initramfs,
        "-append",
        &format!("quiet reboot=t panic=-1 random.trust_cpu=on {parameters}"),
    ];
    peer(
        "/qemu-system-x86_64",
        &[&machine[..], &nothing_else, &kernel, devices].concat(),
    )
}

/// A program in the peers' root.
pub(crate) fn peer(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command.arg(ROOT).arg(program).args(arguments);
    command
}

/// Runs a command to its end; a failure shows what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} cannot be executed"))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {printed}",
        output.status
    );
    Ok(output)
}

/// What this program does as the init of QEMU's microVM: its task, if it was given one; then it resets the machine.
pub(crate) fn be_init() -> Result<()> {
    if let Ok(task) = std::env::var(TASK) {
        storage::be_init(&task);
    }
    if let Ok(address) = std::env::var(ADDRESS) {
        network::be_init(&address);
    }
    rustix::system::reboot(rustix::system::RebootCommand::Restart).context("the machine cannot be reset")
}
