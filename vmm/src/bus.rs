//! Device memory and I/O ports: which device answers at an address.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

/// A device behind addresses. One access happens at a time.
///
/// Offsets are from the begin of the device's range. The bus has checked that an access begins inside it, nothing
/// more: its length and alignment are the guest's.
pub trait BusDevice: Send {
    /// The guest reads; all of `data` is to be set.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// Two devices at one place.
#[derive(Debug, Error)]
#[error("addresses {begin:#x} to {end:#x} are taken or empty")]
pub struct BusError {
    /// First address.
    pub begin: u64,
    /// The address after the last.
    pub end: u64,
}

type Shared = Arc<Mutex<dyn BusDevice>>;

/// An address space of devices. Where no device is, reads give ones and writes are lost, as on a PC.
#[derive(Default)]
pub struct Bus {
    /// End and device by begin.
    ranges: BTreeMap<u64, (u64, Shared)>,
}

impl Bus {
    /// Puts `device` at `len` addresses from `begin`.
    pub fn insert(&mut self, begin: u64, len: u64, device: Shared) -> Result<(), BusError> {
        let end = begin.saturating_add(len);
        let before = self.ranges.range(..end).next_back();
        if end == begin || before.is_some_and(|(_, (before_end, _))| *before_end > begin) {
            return Err(BusError { begin, end });
        }
        self.ranges.insert(begin, (end, device));
        Ok(())
    }

    /// The guest reads at `address`.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((offset, device)) => lock(device).read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes at `address`.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address) {
            lock(device).write(offset, data);
        }
    }

    fn find(&self, address: u64) -> Option<(u64, &Shared)> {
        let (begin, (end, device)) = self.ranges.range(..=address).next_back()?;
        (address < *end).then(|| (address - begin, device))
    }
}

/// Locks a device. A thread that panicked with the lock held has ended the process already, or is a failed test.
fn lock(device: &Shared) -> MutexGuard<'_, dyn BusDevice + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory([u8; 16]);

    impl BusDevice for Memory {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(self.0[offset as usize]);
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0[offset as usize] = data[0];
        }
    }

    fn memory() -> Shared {
        Arc::new(Mutex::new(Memory::default()))
    }

    #[test]
    fn an_access_reaches_the_device_at_its_offset() {
        let mut bus = Bus::default();
        bus.insert(0x100, 16, memory()).unwrap();
        bus.insert(0x110, 16, memory()).unwrap();
        bus.write(0x11f, &[7]);
        let mut data = [0; 2];
        bus.read(0x11f, &mut data);
        assert_eq!(data, [7, 7]);
        bus.read(0x10f, &mut data);
        assert_eq!(data, [0, 0]);
    }

    #[test]
    fn where_nothing_is_reads_give_ones() {
        let mut bus = Bus::default();
        bus.insert(0x100, 16, memory()).unwrap();
        for address in [0, 0xff, 0x110, u64::MAX] {
            let mut data = [0; 4];
            bus.read(address, &mut data);
            bus.write(address, &data);
            assert_eq!(data, [0xff; 4], "{address:#x}");
        }
    }

    #[test]
    fn overlapping_and_empty_ranges_are_refused() {
        let mut bus = Bus::default();
        bus.insert(0x100, 16, memory()).unwrap();
        for (begin, len) in [(0x100, 16), (0xf8, 9), (0x10f, 1), (0, 0x1000), (0x200, 0)] {
            assert!(bus.insert(begin, len, memory()).is_err(), "{begin:#x}");
        }
        bus.insert(0xf8, 8, memory()).unwrap();
    }
}
