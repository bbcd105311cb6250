//! `hull-vmm`: one process, one microVM.
//!
//! The spec (`vm_spec::VmSpec`) is JSON on standard input, the log goes to standard error. The process ends with the
//! microVM: status 0 once the guest ran, whatever ended it, and 1 when the microVM could not be built or run. How it
//! ended is in the exit report that the spec names.
//!
//! `hull-vmm hold` runs no guest. It keeps an empty virtual machine until its standard input ends; see [`hold`].

mod arch;
mod board;
mod bus;
mod control;
mod devices;
mod ending;
mod hv;
mod loader;
mod log;
mod memory;
mod resource;
mod snapshot;
mod spec;
mod vcpu;
mod virtio;

use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use vm_spec::{ExitReason, ExitReport, Resource, VmSpec};

use control::Controls;
use ending::Ending;
use hv::Hypervisor;
use hv::kvm::KvmHypervisor;
use log::log;
use resource::Access;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == "hold") {
        return match hold() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        };
    }
    match run() {
        Ok(report) if report.reason == ExitReason::VmmError => fail(&report.detail),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

/// Keeps an empty virtual machine with one vCPU that never runs, until standard input ends.
///
/// The first virtual machine of a host makes KVM turn virtualization on for every processor and patch the scheduler's
/// code (the static key of preempt notifiers, and those of local APICs), the last one to go makes it undo both. While
/// one is held, all others come and go without that: each start is some milliseconds shorter, and a host that is
/// itself emulated cannot be caught by the patching (QEMU's TCG may go on executing the breakpoint that stands in for
/// code being patched, and the host hangs).
fn hold() -> Result<()> {
    let hypervisor = KvmHypervisor::open()?;
    let vm = hypervisor.create_vm()?;
    let _vcpu = vm.create_vcpu(0)?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("standard input")?;
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    log!("{message}");
    ExitCode::FAILURE
}

/// Runs a microVM to its end. An error means that there is no exit report either.
///
/// The microVM is not taken apart: the kernel does that when the process ends, in one go instead of step by step.
fn run() -> Result<ExitReport> {
    let spec = spec::read(std::io::stdin(), host_memory_mib())?;
    log::set_id(&spec.id);
    if let Some(cgroup) = &spec.cgroup {
        join(cgroup).context("cannot join the control group")?;
    }
    let mut file = resource::open(&spec.exit_report, Access::Append).context("the exit report")?;
    let ending = Arc::new(Ending::new().context("cannot make an eventfd")?);
    end_on_panic(&ending);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| run_microvm(spec, &ending)));
    let report = ended
        .unwrap_or_else(|_| Err(anyhow!("the VMM panicked")))
        .unwrap_or_else(|error| {
            // A panic has said more than the error that it became.
            let first = ending.report().cloned();
            first.unwrap_or_else(|| ExitReport {
                reason: ExitReason::VmmError,
                detail: format!("{error:#}"),
            })
        });
    write_report(&mut file, &report);
    Ok(report)
}

/// Joins a control group, while this process has one thread and next to no memory.
fn join(cgroup: &Resource) -> Result<()> {
    resource::open(cgroup, Access::Append)?.write_all(b"0")?;
    Ok(())
}

fn run_microvm(spec: VmSpec, ending: &Arc<Ending>) -> Result<ExitReport> {
    let signals = control::hold_signals()?;
    let listener = resource::listen(&spec.control).context("the control socket")?;
    let hypervisor = KvmHypervisor::open()?;
    let mut microvm = ManuallyDrop::new(board::start(&hypervisor, spec, ending)?);
    let mut controls = ManuallyDrop::new(Controls::new(listener, signals)?);
    Ok(controls.serve(&mut microvm, ending)?)
}

fn write_report(file: &mut File, report: &ExitReport) {
    if let Err(error) = ending::write_report(file, report) {
        log!("cannot write the exit report: {error}");
    }
}

/// A panic on any thread is a bug of the VMM, and ends the microVM with a report of it.
fn end_on_panic(ending: &Arc<Ending>) {
    let ending = Arc::clone(ending);
    panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let detail = format!(
            "the VMM panicked on thread {}: {panic}",
            thread.name().unwrap_or("?")
        );
        ending.end(ExitReason::VmmError, detail);
    }));
}

/// The host's memory in MiB.
fn host_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit)) >> 20
}
