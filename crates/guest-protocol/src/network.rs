//! The container's network interfaces, and the microVM's network devices behind them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The most network devices that a microVM has.
pub const MAX_NICS: u8 = 4;

/// A network interface of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Which of the microVM's network devices, in the order of its slots, from 0.
    pub nic: u8,
    /// Its name in the container: `eth0`.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The most bytes of a packet.
    pub mtu: u32,
    /// Its addresses, each with the length of its subnet's prefix. Without an IPv6 address it has no IPv6 at all.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default routes lead here from now on: one IPv4 and one IPv6 gateway at most.
    pub gateways: Vec<IpAddr>,
}

/// Where a default route of the container leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// The network device that it is reached over.
    pub nic: u8,
    /// Its address. The default route is that of the address's family.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, ContainerSpec, File, Request, encode, read_frame};

    fn interface() -> Interface {
        Interface {
            nic: MAX_NICS - 1,
            name: "eth0".into(),
            mac: [2, 0x42, 172, 17, 0, 2],
            mtu: 1500,
            addresses: vec![
                ("172.17.0.2".parse().unwrap(), 16),
                ("fd00::2".parse().unwrap(), 64),
            ],
            gateways: vec!["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        }
    }

    #[test]
    fn calls_about_the_network_read_back() {
        let container = ContainerSpec {
            interfaces: vec![interface(); usize::from(MAX_NICS)],
            ..ContainerSpec::default()
        };
        let gateways = interface().gateways.into_iter();
        let hosts = File {
            target: "/etc/hosts".into(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: b"172.17.0.2 box\n".to_vec(),
        };
        let calls = [
            Call::CreateContainer(Box::new(container)),
            Call::AddInterface(interface()),
            Call::RemoveInterface { nic: 3 },
            Call::SetGateways(gateways.map(|address| Gateway { nic: 3, address }).collect()),
            Call::WriteFiles(vec![hosts]),
        ];
        for call in calls {
            let request = Request { id: 1, call };
            let frame = encode(&request).unwrap();
            assert_eq!(read_frame(&mut frame.as_slice()).unwrap(), Some(request));
        }
    }
}
