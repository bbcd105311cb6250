//! Going on from a VM snapshot.

use std::sync::Arc;
use std::thread;

use super::parts::{LegacyState, Plan, lock};
use super::{BoardError, Ready, SnapshotFiles, beside, join};
use crate::arch::VcpuSetup;
use crate::ending::Ending;
use crate::hv::Hypervisor;
use crate::snapshot::{Snapshot, read_ram, share_out, whole_huge_pages};

/// Threads that copy memory. The virtual machine is made meanwhile, which is waiting more than work.
const COPIERS: u64 = 2;

/// Builds a microVM whose vCPUs and devices go on from where they were when `files` were written. `copy` says how it gets
/// the memory that guests write to.
pub(super) fn restore(
    hypervisor: &dyn Hypervisor,
    plan: Plan,
    files: &SnapshotFiles,
    copy: bool,
    ending: &Arc<Ending>,
) -> Result<Ready, BoardError> {
    let snapshot = Snapshot::read(&files.state)?;
    let count = plan.vcpus;
    snapshot.check_shape(plan.ram, count, plan.device_count())?;
    let mut copied = snapshot.used;
    if !copy {
        let mapped = whole_huge_pages(&std::mem::take(&mut copied), plan.ram);
        plan.layout.map_ram(&files.memory, &mapped)?;
    }
    plan.layout.map_ram(&files.memory, &snapshot.text)?;
    let frame = plan.finish()?;
    let memory = frame.memory.clone();
    let legacy = LegacyState {
        controller: snapshot.controller,
        serial: snapshot.serial,
    };
    let built = thread::scope(|scope| {
        let (memory, file) = (&memory, &files.memory);
        let filling = share_out(&copied, COPIERS)
            .into_iter()
            .map(|parts| beside(scope, move || Ok(read_ram(memory, file, parts)?)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut built = frame.build(hypervisor, legacy, ending)?;
        for (transport, state) in built.transports.iter().zip(snapshot.devices) {
            lock(transport).restore(state)?;
        }
        let supported = hypervisor.supported_cpuid()?;
        // The state of a vCPU may reach memory, so that is to be there.
        filling.into_iter().try_for_each(join)?;
        for ((id, vcpu), state) in (0..).zip(&mut built.vcpus).zip(&snapshot.vcpus) {
            vcpu.restore(&VcpuSetup::new(&supported, id, count, None), state)?;
        }
        Ok::<_, BoardError>(built)
    })?;
    // The I/O APIC hands what is pending to local APICs, so these come first, and interrupts of devices after both.
    built.vm.restore(&snapshot.vm)?;
    built
        .transports
        .iter()
        .for_each(|transport| lock(transport).resume());
    Ok(Ready {
        built,
        memory,
        text: snapshot.text,
    })
}
