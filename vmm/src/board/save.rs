//! Taking a VM snapshot.

use super::parts::{LegacyState, lock};
use super::{BoardError, Microvm};
use crate::arch::state::order_msrs;
use crate::snapshot::{Snapshot, write_ram};

impl Microvm {
    /// Holds the microVM and writes a VM snapshot to the files of its spec. It stays paused.
    pub fn save(&mut self) -> Result<(), BoardError> {
        self.pause();
        let files = self.save.as_ref().ok_or(BoardError::NoPlace)?;
        let mut vcpus = self.vcpus.save()?;
        order_msrs(&mut vcpus);
        let LegacyState { controller, serial } = self.legacy.save();
        let devices = self.transports.iter().map(|transport| lock(transport).save());
        let snapshot = Snapshot {
            ram: self.ram,
            vm: self.vm.save()?,
            devices: devices.collect::<Result<_, _>>()?,
            // What vCPUs do last may reach memory, so it comes after them.
            used: write_ram(&self.memory, self.ram, &self.text, &files.memory)?,
            text: self.text.clone(),
            vcpus,
            controller,
            serial,
        };
        // Last, so that a state is there only with all that it speaks of.
        Ok(snapshot.write(&files.state)?)
    }
}
