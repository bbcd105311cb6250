//! The keyboard controller, with nothing attached to it. A PC kernel resets the machine through it (`reboot=k`), and
//! a kernel that has a driver for it expects the controller itself to answer, or waits for seconds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_spec::ExitReason;

use crate::bus::BusDevice;
use crate::ending::Ending;

/// Offsets of the ports from 0x60.
const DATA: u64 = 0;
const COMMAND: u64 = 4;

/// Status: a byte waits at the data port; the self-test passed; the keyboard is not locked.
const OUTPUT_FULL: u8 = 1 << 0;
const SYSTEM: u8 = 1 << 2;
const UNLOCKED: u8 = 1 << 4;

/// The configuration byte after reset: self-test passed, keyboard and mouse disabled.
const CONFIGURATION: u8 = 1 << 2 | 1 << 4 | 1 << 5;

/// Commands, and what they answer.
const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const SELF_TEST: u8 = 0xaa;
const SELF_TEST_PASSED: u8 = 0x55;
const RESET: u8 = 0xfe;

/// The controller at its five ports.
pub struct I8042 {
    registers: I8042State,
    ending: Arc<Ending>,
}

/// The saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct I8042State {
    configuration: u8,
    /// What the next read of the data port gives.
    output: Option<u8>,
    /// Whether the next byte at the data port is the configuration.
    awaits_configuration: bool,
}

impl Default for I8042State {
    fn default() -> Self {
        Self {
            configuration: CONFIGURATION,
            output: None,
            awaits_configuration: false,
        }
    }
}

impl I8042 {
    /// A controller whose reset line ends the microVM, in the state of an earlier one or a new one's.
    pub fn new(ending: Arc<Ending>, registers: I8042State) -> Self {
        Self { registers, ending }
    }

    /// The registers.
    pub fn save(&self) -> I8042State {
        self.registers.clone()
    }

    fn command(&mut self, command: u8) {
        self.registers.awaits_configuration = command == WRITE_CONFIGURATION;
        match command {
            READ_CONFIGURATION => self.registers.output = Some(self.registers.configuration),
            SELF_TEST => self.registers.output = Some(SELF_TEST_PASSED),
            RESET => self.ending.end(ExitReason::Reset, ""),
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        // Everything else is for a keyboard, and there is none.
        if std::mem::take(&mut self.registers.awaits_configuration) {
            self.registers.configuration = value;
        }
    }

    fn status(&self) -> u8 {
        SYSTEM | UNLOCKED | self.registers.output.map_or(0, |_| OUTPUT_FULL)
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for byte in data {
            *byte = match offset {
                DATA => self.registers.output.take().unwrap_or(0),
                COMMAND => self.status(),
                _ => 0,
            };
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for byte in data {
            match offset {
                DATA => self.data(*byte),
                COMMAND => self.command(*byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> (I8042, Arc<Ending>) {
        let ending = Arc::new(Ending::new().unwrap());
        (I8042::new(Arc::clone(&ending), I8042State::default()), ending)
    }

    fn read(controller: &mut I8042, offset: u64) -> u8 {
        let mut byte = [0];
        controller.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn only_the_reset_command_at_the_command_port_resets() {
        let (mut controller, ending) = controller();
        controller.write(DATA, &[RESET]);
        controller.write(COMMAND, &[SELF_TEST]);
        controller.write(2, &[RESET]);
        assert_eq!(ending.report(), None);
        controller.write(COMMAND, &[RESET]);
        assert_eq!(ending.report().unwrap().reason, ExitReason::Reset);
    }

    #[test]
    fn the_configuration_reads_back_and_the_status_says_when() {
        let (mut controller, _) = controller();
        assert_eq!(read(&mut controller, COMMAND) & OUTPUT_FULL, 0);
        controller.write(COMMAND, &[WRITE_CONFIGURATION]);
        controller.write(DATA, &[0x47]);
        controller.write(DATA, &[0xff]);
        controller.write(COMMAND, &[READ_CONFIGURATION]);
        assert_eq!(read(&mut controller, COMMAND) & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(read(&mut controller, DATA), 0x47);
        assert_eq!(read(&mut controller, COMMAND) & OUTPUT_FULL, 0);
    }

    #[test]
    fn the_state_survives_a_round_trip() {
        let (mut controller, ending) = controller();
        controller.write(COMMAND, &[SELF_TEST]);
        controller.write(COMMAND, &[WRITE_CONFIGURATION]);
        let json = serde_json::to_string(&controller.save()).unwrap();
        let mut restored = I8042::new(ending, serde_json::from_str(&json).unwrap());
        assert_eq!(read(&mut restored, DATA), SELF_TEST_PASSED);
        restored.write(DATA, &[0x12]);
        restored.write(COMMAND, &[READ_CONFIGURATION]);
        assert_eq!(read(&mut restored, DATA), 0x12);
    }
}
