//! Interfaces of the host for the peers' guests, made with Debian's ip in their root.

use std::net::Ipv4Addr;
use std::process::Output;

use anyhow::Result;

use crate::peers::{peer, run};

/// `ip COMMAND`, the words of which have no blanks in them.
pub(super) fn ip(command: &str) -> Result<Output> {
    run(&mut peer("/ip", &command.split(' ').collect::<Vec<_>>()))
}

/// An interface, until it is dropped.
pub(super) struct Interface(String);

impl Interface {
    /// Makes one with `ip COMMAND`, in the place of what was left of a run that was killed.
    fn make(name: &str, command: &str) -> Result<Interface> {
        // There is none as a rule.
        let _ = ip(&format!("link delete {name}"));
        ip(command)?;
        Ok(Interface(name.to_owned()))
    }

    fn up(&self) -> Result<()> {
        ip(&format!("link set {} up", self.0)).map(drop)
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        // One end of a veth pair goes with the other.
        let _ = ip(&format!("link delete {}", self.0));
    }
}

/// A bridge with a subnet of its own, until it is dropped.
pub(super) struct Bridge {
    name: String,
    subnet: u8,
    interface: Interface,
}

impl Bridge {
    /// The length of the prefix of its subnet.
    pub(super) const PREFIX_LEN: u8 = 24;

    /// The bridge with the subnet 198.19.`subnet`.0/24 (of those for benchmarks, RFC 2544), on which the host is the first.
    pub(super) fn make(name: &str, subnet: u8) -> Result<Bridge> {
        let bridge = Bridge {
            name: name.to_owned(),
            subnet,
            interface: Interface::make(name, &format!("link add {name} type bridge"))?,
        };
        let address = bridge.address(1);
        ip(&format!("address add {address}/{} dev {name}", Self::PREFIX_LEN))?;
        bridge.interface.up()?;
        Ok(bridge)
    }

    /// An address of its subnet.
    pub(super) fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.subnet, number)
    }

    /// A TAP device that is a port of it.
    pub(super) fn add_tap(&self, name: &str) -> Result<Interface> {
        self.join(Interface::make(
            name,
            &format!("tuntap add dev {name} mode tap vnet_hdr"),
        )?)
    }

    /// One end of a veth pair as a port of it; the other is `eth0` of a network namespace that ip knows.
    pub(super) fn add_veth(&self, name: &str, namespace: &str) -> Result<Interface> {
        self.join(Interface::make(
            name,
            &format!("link add {name} type veth peer name eth0 netns {namespace}"),
        )?)
    }

    fn join(&self, port: Interface) -> Result<Interface> {
        ip(&format!("link set {} master {}", port.0, self.name))?;
        port.up()?;
        Ok(port)
    }
}
