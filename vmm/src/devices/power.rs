//! A port that powers the microVM off, for guests that would tell power-off from reset: without ACPI a PC kernel has
//! no other way. It is a single register as ACPI's PM1a control, at the port where QEMU's guests find theirs.

use std::sync::Arc;

use vm_spec::ExitReason;

use crate::bus::BusDevice;
use crate::ending::Ending;

/// SLP_EN, the bit that carries a sleep type out (ACPI 6.5, section 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

/// The register. It remembers nothing.
pub struct PowerPort {
    ending: Arc<Ending>,
}

impl PowerPort {
    /// A port that ends the microVM.
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl BusDevice for PowerPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let value = match (offset, data) {
            (0, [low, high]) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        if value & SLEEP_ENABLE != 0 {
            self.ending.end(ExitReason::Shutdown, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_write_with_sleep_enable_powers_off() {
        let ending = Arc::new(Ending::new().unwrap());
        let mut port = PowerPort::new(Arc::clone(&ending));
        port.write(0, &[0x00]);
        port.write(1, &[0x20]);
        port.write(0, &[0xff, 0x1f]);
        assert_eq!(ending.report(), None);
        port.write(0, &[0x00, 0x20]);
        assert_eq!(ending.report().unwrap().reason, ExitReason::Shutdown);
    }
}
