//! The keyboard controller, of which only the reset line is there: `reboot=k` pulls it.

use std::convert::Infallible;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_spec::ExitReason;
use vm_superio::{I8042Device, Trigger};

use crate::bus::BusDevice;
use crate::ending::Ending;

/// The controller at its five ports.
pub struct I8042 {
    controller: I8042Device<ResetLine>,
}

/// The saved state: the controller remembers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I8042State {}

struct ResetLine(Arc<Ending>);

impl Trigger for ResetLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.end(ExitReason::Reset, "");
        Ok(())
    }
}

impl I8042 {
    /// A controller whose reset line ends the microVM.
    pub fn new(ending: Arc<Ending>) -> Self {
        Self {
            controller: I8042Device::new(ResetLine(ending)),
        }
    }

    /// What is to be kept.
    pub fn save(&self) -> I8042State {
        I8042State {}
    }

    /// The controller that `state` was taken from.
    pub fn restore(ending: Arc<Ending>, _state: &I8042State) -> Self {
        Self::new(ending)
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(self.controller.read(offset as u8));
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for byte in data {
            // The line cannot fail.
            let _ = self.controller.write(offset as u8, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_command_at_the_command_port_resets() {
        let ending = Arc::new(Ending::new().unwrap());
        let mut controller = I8042::new(Arc::clone(&ending));
        controller.write(0, &[0xfe]);
        controller.write(4, &[0xaa]);
        assert_eq!(ending.report(), None);
        controller.write(4, &[0xfe]);
        assert_eq!(ending.report().unwrap().reason, ExitReason::Reset);
    }

    #[test]
    fn the_state_survives_a_round_trip() {
        let ending = Arc::new(Ending::new().unwrap());
        let saved = I8042::new(Arc::clone(&ending)).save();
        let json = serde_json::to_string(&saved).unwrap();
        let mut restored = I8042::restore(Arc::clone(&ending), &serde_json::from_str(&json).unwrap());
        restored.write(4, &[0xfe]);
        assert_eq!(ending.report().unwrap().reason, ExitReason::Reset);
    }
}
