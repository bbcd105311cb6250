//! Ends of veth pairs stand for network devices, in a network namespace of each test's own. What comes of it is read by
//! ip(8).

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::*;
use crate::sys;

/// What the host gives to the first interface.
fn interface(nic: u8) -> Interface {
    Interface {
        nic,
        name: format!("eth{nic}"),
        mac: [2, 0x42, 10, nic, 0, 2],
        mtu: 1400,
        addresses: vec![
            (format!("10.{nic}.0.2").parse().unwrap(), 16),
            (format!("fd00:0:0:{nic}::2").parse().unwrap(), 64),
        ],
        gateways: Vec::new(),
    }
}

fn gateway(nic: u8, address: &str) -> Gateway {
    Gateway {
        nic,
        address: address.parse().unwrap(),
    }
}

/// One that default routes lead to.
fn leading(nic: u8) -> Interface {
    let gateways = [format!("10.{nic}.0.1"), format!("fd00:0:0:{nic}::1")];
    Interface {
        gateways: gateways.iter().map(|address| address.parse().unwrap()).collect(),
        ..interface(nic)
    }
}

/// The microVM's namespace, and its network.
struct Rig {
    network: Network,
}

impl Rig {
    /// With this many network devices, none with a cable, and a container that has none of them; `None` where no
    /// namespaces can be made.
    fn new(devices: usize) -> Option<Self> {
        let mut rig = Self::boot(devices)?;
        rig.network.begin(&[]).unwrap();
        Some(rig)
    }

    /// The same without a container.
    fn boot(devices: usize) -> Option<Self> {
        if let Err(error) = sys::new_network_namespace() {
            eprintln!("SKIPPED: no network namespace: {error}");
            return None;
        }
        let names: Vec<String> = (0..devices).map(|number| format!("dev{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            let peer = format!("peer{number}");
            ip(&["link", "add", name, "type", "veth", "peer", "name", &peer]);
        }
        let indices: Vec<u32> = names.iter().map(|name| index(name)).collect();
        let network = Network::of(&indices).unwrap();
        Some(Self { network })
    }

    /// The names in the reserve, but for the loopback's.
    fn reserved(&self) -> Vec<String> {
        let namespaces = self.network.nics[0].namespaces.clone();
        let enter = |namespace: &namespace::Namespace| {
            move_into_link_name_space(namespace.fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        };
        enter(&namespaces.reserve);
        let links = json(&["addr"]);
        enter(&namespaces.own);
        let links = links.as_array().unwrap();
        for link in links {
            assert!(!has_flag(link, "UP"), "{link}");
            assert_eq!(link["addr_info"].as_array().unwrap().len(), 0, "{link}");
        }
        links
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .filter(|name| name != "lo")
            .collect()
    }
}

fn ip(arguments: &[&str]) -> Vec<u8> {
    let done = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments:?}: {said}");
    done.stdout
}

fn json(arguments: &[&str]) -> Value {
    let output = ip(&[&["-json"], arguments].concat());
    serde_json::from_slice(&output).unwrap()
}

/// What ip(8) says of an interface and its addresses.
fn link(name: &str) -> Value {
    json(&["addr", "show", "dev", name])[0].clone()
}

fn index(name: &str) -> u32 {
    u32::try_from(link(name)["ifindex"].as_u64().unwrap()).unwrap()
}

fn names() -> Vec<String> {
    let links = json(&["link"]);
    let links = links.as_array().unwrap().iter();
    let mut names: Vec<String> = links
        .map(|link| link["ifname"].as_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"]
        .as_array()
        .unwrap()
        .iter()
        .any(|known| known == flag)
}

/// The addresses of an interface that hold beyond its link.
fn addresses(name: &str) -> Vec<String> {
    let link = link(name);
    let addresses = link["addr_info"].as_array().unwrap().iter();
    addresses
        .filter(|address| address["scope"] == "global")
        .map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]))
        .collect()
}

/// Where the default routes lead: gateway and interface.
fn defaults() -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let routes = json(&[family, "route", "show", "default"]);
        for route in routes.as_array().unwrap() {
            found.push(format!(
                "{} {}",
                route["gateway"].as_str().unwrap(),
                route["dev"].as_str().unwrap()
            ));
        }
    }
    found
}

fn setting(interface: &str, name: &str) -> String {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn devices_wait_out_of_sight_until_they_are_connected() {
    let Some(mut rig) = Rig::new(2) else { return };
    assert_eq!(names(), ["lo", "peer0", "peer1"]);
    assert_eq!(rig.reserved(), ["hull-nic0", "hull-nic1"]);
    rig.network.add(&leading(1)).unwrap();
    assert_eq!(rig.reserved(), ["hull-nic0"]);
    let link = link("eth1");
    assert_eq!(link["address"], "02:42:0a:01:00:02");
    assert_eq!(link["mtu"], 1400);
    assert!(has_flag(&link, "UP"), "{link}");
    assert_eq!(link["addr_info"][0]["broadcast"], "10.1.255.255");
    assert_eq!(addresses("eth1"), ["10.1.0.2/16", "fd00:0:0:1::2/64"]);
    assert_eq!(defaults(), ["10.1.0.1 eth1", "fd00:0:0:1::1 eth1"]);
}

#[test]
fn the_first_device_is_at_hand_until_there_is_a_container() {
    let Some(mut rig) = Rig::boot(2) else { return };
    assert_eq!(names(), ["dev0", "lo", "peer0", "peer1"]);
    assert_eq!(rig.reserved(), ["hull-nic1"]);
    rig.network.begin(&[leading(0)]).unwrap();
    assert_eq!(names(), ["eth0", "lo", "peer0", "peer1"]);
    assert_eq!(addresses("eth0"), ["10.0.0.2/16", "fd00::2/64"]);
    // A container that has another one does not see it.
    let Some(mut rig) = Rig::boot(2) else { return };
    rig.network.begin(&[leading(1)]).unwrap();
    assert_eq!(names(), ["eth1", "lo", "peer0", "peer1"]);
    assert_eq!(rig.reserved(), ["hull-nic0"]);
}

#[test]
fn an_interface_takes_packets_once_its_cable_is_plugged() {
    let Some(mut rig) = Rig::new(1) else { return };
    rig.network.add(&leading(0)).unwrap();
    assert!(has_flag(&link("eth0"), "NO-CARRIER"));
    ip(&["link", "set", "peer0", "up"]);
    let link = link("eth0");
    assert!(has_flag(&link, "LOWER_UP"), "{link}");
    let mut known = link["addr_info"].as_array().unwrap().iter();
    let ipv6 = known.find(|address| address["local"] == "fd00::2");
    // It is not probed for a neighbour that has it.
    assert_eq!(ipv6.unwrap()["tentative"], Value::Null, "{link}");
    assert_eq!(defaults(), ["10.0.0.1 eth0", "fd00::1 eth0"]);
}

#[test]
fn only_an_interface_with_an_ipv6_address_has_ipv6() {
    let Some(mut rig) = Rig::new(2) else { return };
    ip(&["link", "set", "peer0", "up"]);
    let mut ipv4 = interface(0);
    ipv4.addresses.truncate(1);
    rig.network.add(&ipv4).unwrap();
    rig.network.add(&interface(1)).unwrap();
    assert_eq!(setting("eth0", "disable_ipv6"), "1");
    let link = link("eth0");
    assert_eq!(link["addr_info"].as_array().unwrap().len(), 1, "{link}");
    for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0")] {
        assert_eq!(setting("eth1", name), value, "{name}");
    }
    // A device that had none may have it as another interface.
    rig.network.remove(0).unwrap();
    rig.network.add(&interface(0)).unwrap();
    assert_eq!(addresses("eth0"), ["10.0.0.2/16", "fd00::2/64"]);
}

#[test]
fn a_removed_interface_leaves_nothing_behind_and_serves_again() {
    let Some(mut rig) = Rig::new(1) else { return };
    let device = rig.network.nics[0].index;
    rig.network.add(&leading(0)).unwrap();
    // However the container calls it.
    ip(&["link", "set", "eth0", "down"]);
    ip(&["link", "set", "eth0", "name", "mine"]);
    rig.network.remove(0).unwrap();
    assert_eq!(rig.reserved(), ["hull-nic0"]);
    assert_eq!(names(), ["lo", "peer0"]);
    assert!(defaults().is_empty());
    let mut other = interface(0);
    (other.name, other.mac) = ("lan".into(), [2, 9, 9, 9, 9, 9]);
    other.addresses.truncate(1);
    rig.network.add(&other).unwrap();
    assert_eq!(addresses("lan"), ["10.0.0.2/16"]);
    assert_eq!(link("lan")["address"], "02:09:09:09:09:09");
    assert_eq!(index("lan"), device);
    let error = rig.network.add(&interface(0)).unwrap_err().to_string();
    assert_eq!(
        error,
        "network device 0 is interface lan already: remove that first"
    );
}

#[test]
fn an_interface_that_cannot_be_set_up_goes_back() {
    let Some(mut rig) = Rig::new(2) else { return };
    rig.network.add(&leading(0)).unwrap();
    let (addresses, name, mtu) = (interface(1).addresses, "eth0".to_owned(), 10);
    let wrong = [
        // Some kernels refuse to move it, and some to name it then.
        (
            Interface { name, ..interface(1) },
            ["interface eth0: ", "File exists"],
        ),
        (
            Interface { mtu, ..interface(1) },
            ["MTU of interface eth1: ", "Invalid argument"],
        ),
        (
            Interface {
                addresses: vec![addresses[0], (addresses[0].0, 33)],
                ..interface(1)
            },
            [
                "cannot give interface eth1 the address 10.1.0.2/33: ",
                "Invalid argument",
            ],
        ),
        (
            Interface {
                gateways: vec!["fd00:0:0:1::1".parse().unwrap(), "192.0.2.1".parse().unwrap()],
                ..interface(1)
            },
            [
                "cannot set the default route over 192.0.2.1 on interface eth1: ",
                "Network is unreachable",
            ],
        ),
    ];
    for (interface, expected) in wrong {
        let error = rig.network.add(&interface).unwrap_err().to_string();
        assert!(error.contains(&expected.concat()), "{error}");
        assert_eq!(rig.reserved(), ["hull-nic1"]);
        assert_eq!(defaults(), ["10.0.0.1 eth0", "fd00::1 eth0"]);
    }
    rig.network.add(&interface(1)).unwrap();
}

#[test]
fn of_several_interfaces_all_or_none_are_added() {
    let Some(mut rig) = Rig::new(3) else { return };
    let error = rig
        .network
        .add_all(&[leading(0), interface(1), interface(1)])
        .unwrap_err();
    assert!(matches!(error, NetworkError::InUse { nic: 1, .. }), "{error}");
    assert_eq!(rig.reserved(), ["hull-nic0", "hull-nic1", "hull-nic2"]);
    rig.network.add_all(&[leading(2), interface(0)]).unwrap();
    assert_eq!(names(), ["eth0", "eth2", "lo", "peer0", "peer1", "peer2"]);
}

#[test]
fn default_routes_lead_where_the_host_said_last() {
    let Some(mut rig) = Rig::new(3) else { return };
    rig.network.add(&leading(0)).unwrap();
    rig.network.add(&interface(1)).unwrap();
    let mut ipv4 = leading(2);
    ipv4.gateways.truncate(1);
    rig.network.add(&ipv4).unwrap();
    assert_eq!(defaults(), ["10.2.0.1 eth2", "fd00::1 eth0"]);
    rig.network.remove(2).unwrap();
    assert_eq!(defaults(), ["fd00::1 eth0"]);
    rig.network.set_gateways(&[gateway(1, "10.1.0.1")]).unwrap();
    assert_eq!(defaults(), ["10.1.0.1 eth1"]);
    rig.network
        .set_gateways(&[gateway(0, "fd00::7"), gateway(1, "10.1.0.9")])
        .unwrap();
    assert_eq!(defaults(), ["10.1.0.9 eth1", "fd00::7 eth0"]);
    // The container was there first.
    ip(&["route", "del", "default"]);
    rig.network.set_gateways(&[]).unwrap();
    assert!(defaults().is_empty());
}

#[test]
fn default_routes_that_cannot_be_are_refused() {
    let Some(mut rig) = Rig::new(2) else { return };
    rig.network.add(&leading(0)).unwrap();
    let two = [gateway(0, "10.0.0.1"), gateway(0, "10.0.0.9")];
    let error = rig.network.set_gateways(&two).unwrap_err();
    assert!(matches!(error, NetworkError::Gateways(..)), "{error}");
    let error = rig
        .network
        .set_gateways(&[gateway(0, "10.0.0.9"), gateway(1, "fd00:0:0:1::1")]);
    assert!(
        matches!(error, Err(NetworkError::NotConnected { nic: 1 })),
        "{error:?}"
    );
    let mut twice = interface(1);
    twice.gateways = two.map(|gateway| gateway.address).into();
    assert!(rig.network.add(&twice).is_err());
    assert_eq!(rig.reserved(), ["hull-nic1"]);
    assert_eq!(defaults(), ["10.0.0.1 eth0", "fd00::1 eth0"]);
}

#[test]
fn names_and_devices_that_there_cannot_be_are_refused() {
    let Some(mut rig) = Rig::new(1) else { return };
    for name in [
        "",
        ".",
        "..",
        "all",
        "default",
        "a/b",
        "a b",
        "eth%d",
        "a\0b",
        "0123456789abcdef",
    ] {
        let named = Interface {
            name: name.into(),
            ..interface(0)
        };
        let error = rig.network.add(&named).unwrap_err();
        assert!(matches!(error, NetworkError::Name(_)), "{name}: {error}");
    }
    assert_eq!(rig.reserved(), ["hull-nic0"]);
    let error = rig.network.remove(0).unwrap_err().to_string();
    assert_eq!(error, "network device 0 is no interface of the container");
    let error = rig.network.add(&interface(1)).unwrap_err().to_string();
    assert_eq!(error, "there is no network device 1: this microVM has 1");
}

#[test]
fn what_the_container_has_made_itself_is_not_taken_for_a_device() {
    let Some(mut rig) = Rig::new(1) else { return };
    let taken = rig.network.nics[0].index.to_string();
    ip(&["link", "add", "theirs", "index", &taken, "type", "bridge"]);
    let error = rig.network.add(&interface(0)).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot move network device 0 into the container as interface eth0: "),
        "{error}"
    );
    assert_eq!(names(), ["lo", "peer0", "theirs"]);
    assert_eq!(rig.reserved(), ["hull-nic0"]);
    ip(&["link", "del", "theirs"]);
    // Neither is a name of the reserve in the way of what goes there.
    rig.network.add(&interface(0)).unwrap();
    ip(&["link", "add", "hull-nic0", "type", "bridge"]);
    rig.network.remove(0).unwrap();
    assert_eq!(rig.reserved(), ["hull-nic0"]);
    assert_eq!(names(), ["hull-nic0", "lo", "peer0"]);
    assert!(rig.network.add(&interface(0)).is_err());
    assert_eq!(names(), ["hull-nic0", "lo", "peer0"]);
}

#[test]
fn without_network_devices_there_is_no_reserve() {
    if let Err(error) = sys::new_network_namespace() {
        eprintln!("SKIPPED: no network namespace: {error}");
        return;
    }
    let mut network = Network::of(&[]).unwrap();
    let error = network.add(&interface(0)).unwrap_err().to_string();
    assert_eq!(error, "there is no network device 0: this microVM has 0");
    network.set_gateways(&[]).unwrap();
    network.add_all(&[]).unwrap();
}
