//! Going on from a VM snapshot.

use std::sync::Arc;

use super::parts::{Built, LegacyState, Plan, lock};
use super::{BoardError, SnapshotFiles};
use crate::arch::VcpuSetup;
use crate::ending::Ending;
use crate::hv::Hypervisor;
use crate::memory::GuestMemory;
use crate::snapshot::Snapshot;

/// Builds a microVM whose vCPUs and devices go on from where they were when `files` were written.
pub(super) fn restore(
    hypervisor: &dyn Hypervisor,
    plan: Plan,
    files: &SnapshotFiles,
    ending: &Arc<Ending>,
) -> Result<(Built, GuestMemory), BoardError> {
    let snapshot = Snapshot::read(&files.state)?;
    let count = plan.vcpus;
    snapshot.check_shape(plan.ram, count, plan.device_count())?;
    plan.layout.fill_ram(&files.memory, &snapshot.parts)?;
    let frame = plan.finish()?;
    let memory = frame.memory.clone();
    let legacy = LegacyState {
        controller: snapshot.controller,
        serial: snapshot.serial,
    };
    let mut built = frame.build(hypervisor, legacy, ending)?;
    for (transport, state) in built.transports.iter().zip(snapshot.devices) {
        lock(transport).restore(state)?;
    }
    let supported = hypervisor.supported_cpuid()?;
    for ((id, vcpu), state) in (0..).zip(&mut built.vcpus).zip(&snapshot.vcpus) {
        vcpu.restore(&VcpuSetup::new(&supported, id, count, None), state)?;
    }
    // The I/O APIC hands what is pending to local APICs, so these come first, and interrupts of devices after both.
    built.vm.restore(&snapshot.vm)?;
    built
        .transports
        .iter()
        .for_each(|transport| lock(transport).resume());
    Ok((built, memory))
}
