//! QEMU's microvms, with TAP devices on a bridge.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::Guests;
use crate::network::bridge::{Bridge, Interface};
use crate::network::control::Guest;
use crate::network::prepare::CPIO;
use crate::peers::{self, ROOT};

/// Two microVMs that serve, until it is dropped.
pub(in crate::network) struct Qemu {
    pub(in crate::network) guests: Guests,
    // In the order in which they have to go.
    _machines: [Machine; 2],
    _bridge: Bridge,
}

impl Qemu {
    /// Starts them, and waits until they serve.
    pub(in crate::network) fn start() -> Result<Qemu> {
        let bridge = Bridge::make("benchq", 2)?;
        let machines = [Machine::start(&bridge, 2)?, Machine::start(&bridge, 3)?];
        let [first, second] = &machines;
        Ok(Qemu {
            guests: [
                first.guest(&bridge).context("QEMU's first microVM")?,
                second.guest(&bridge).context("QEMU's second microVM")?,
            ],
            _machines: machines,
            _bridge: bridge,
        })
    }
}

/// A microVM, until it is dropped.
struct Machine {
    number: u8,
    process: Child,
    /// What its kernel and its init print.
    log: PathBuf,
    _tap: Interface,
}

impl Machine {
    fn start(bridge: &Bridge, number: u8) -> Result<Machine> {
        let name = format!("benchq{number}");
        let tap = bridge.add_tap(&name)?;
        let address = format!("{}/{}", bridge.address(number), Bridge::PREFIX_LEN);
        let log = Path::new(ROOT).join("tmp").join(format!("{name}.log"));
        let output = File::create(&log)?;
        let process = peers::qemu_with_network(CPIO, &name, number, &address)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Machine {
            number,
            process,
            log,
            _tap: tap,
        })
    }

    fn guest(&self, bridge: &Bridge) -> Result<Guest> {
        Guest::at(bridge.address(self.number)).with_context(|| {
            let log = fs::read(&self.log).unwrap_or_default();
            format!("it printed: {}", String::from_utf8_lossy(&log))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
