//! The serial console: a 16550 whose output goes to a file.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vm_superio::serial::NoEvents;
use vm_superio::{SerialState as Registers, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;

/// A serial port could not be made or restored.
#[derive(Debug, Error)]
#[error("cannot restore the serial port: {0}")]
pub struct SerialError(String);

/// The first serial port.
pub struct Serial<W: Write + Send> {
    port: vm_superio::Serial<Line, NoEvents, Lossy<W>>,
}

struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A console that cannot be written to loses output; the guest goes on.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

impl<W: Write + Send> Serial<W> {
    /// A port that interrupts through `irq` and writes to `console`.
    pub fn new(irq: EventFd, console: W) -> Self {
        Self {
            port: vm_superio::Serial::new(Line(irq), Lossy(console)),
        }
    }

    /// The registers.
    pub fn save(&self) -> SerialState {
        SerialState::from(self.port.state())
    }

    /// The port that `state` was taken from.
    pub fn restore(irq: EventFd, console: W, state: SerialState) -> Result<Self, SerialError> {
        let registers = Registers::from(state);
        vm_superio::Serial::from_state(&registers, Line(irq), NoEvents, Lossy(console))
            .map(|port| Self { port })
            .map_err(|error| SerialError(format!("{error:?}")))
    }
}

impl<W: Write + Send> BusDevice for Serial<W> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for byte in data {
            *byte = self.port.read(offset as u8);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for byte in data {
            // What fails here is an interrupt that the guest has not taken yet.
            let _ = self.port.write(offset as u8, *byte);
        }
    }
}

/// The saved registers of a [`Serial`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SerialState {
    /// Divisor latch, low and high byte.
    pub divisor: [u8; 2],
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Interrupt identification register.
    pub interrupt_identification: u8,
    /// Line control register.
    pub line_control: u8,
    /// Line status register.
    pub line_status: u8,
    /// Modem control register.
    pub modem_control: u8,
    /// Modem status register.
    pub modem_status: u8,
    /// Scratch register.
    pub scratch: u8,
    /// Received bytes the guest has not read.
    pub received: Vec<u8>,
}

impl From<Registers> for SerialState {
    fn from(registers: Registers) -> Self {
        Self {
            divisor: [registers.baud_divisor_low, registers.baud_divisor_high],
            interrupt_enable: registers.interrupt_enable,
            interrupt_identification: registers.interrupt_identification,
            line_control: registers.line_control,
            line_status: registers.line_status,
            modem_control: registers.modem_control,
            modem_status: registers.modem_status,
            scratch: registers.scratch,
            received: registers.in_buffer,
        }
    }
}

impl From<SerialState> for Registers {
    fn from(state: SerialState) -> Self {
        let [baud_divisor_low, baud_divisor_high] = state.divisor;
        Self {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Register offsets.
    const DATA: u64 = 0;
    const LINE_CONTROL: u64 = 3;
    const SCRATCH: u64 = 7;

    struct Sent(mpsc::Sender<u8>);

    impl Write for Sent {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            for byte in data {
                self.0.send(*byte).map_err(io::Error::other)?;
            }
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn serial() -> (Serial<Sent>, mpsc::Receiver<u8>) {
        let (sender, receiver) = mpsc::channel();
        (Serial::new(EventFd::new(0).unwrap(), Sent(sender)), receiver)
    }

    #[test]
    fn bytes_arrive_in_order_and_a_lost_console_does_not_stop_the_guest() {
        let (mut serial, received) = serial();
        serial.write(DATA, b"hull");
        assert_eq!(received.try_iter().collect::<Vec<_>>(), b"hull");
        drop(received);
        serial.write(DATA, b"more");
    }

    #[test]
    fn registers_survive_a_round_trip() {
        let (mut serial, _received) = serial();
        serial.write(SCRATCH, &[0x5a]);
        serial.write(LINE_CONTROL, &[0x13]);
        let saved = serial.save();
        let json = serde_json::to_string(&saved).unwrap();
        let console = Sent(mpsc::channel().0);
        let state: SerialState = serde_json::from_str(&json).unwrap();
        let mut restored = Serial::restore(EventFd::new(0).unwrap(), console, state).unwrap();
        assert_eq!(restored.save(), saved);
        let mut scratch = [0];
        restored.read(SCRATCH, &mut scratch);
        assert_eq!(scratch, [0x5a]);
    }

    #[test]
    fn a_state_with_more_input_than_the_fifo_holds_is_refused() {
        let (serial, _received) = serial();
        let state = SerialState {
            received: vec![0; 1 << 20],
            ..serial.save()
        };
        assert!(Serial::restore(EventFd::new(0).unwrap(), io::sink(), state).is_err());
    }
}
