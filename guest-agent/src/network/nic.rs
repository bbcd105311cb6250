//! One network device of the microVM: in the reserve, at hand, or an interface of the container.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

use guest_protocol::Interface;
use rustix::io::Errno;

use super::namespace::Namespaces;
use super::{NetworkError, ipv6, requests};
use crate::os_error::{During, OsError};

/// The longest name of an interface, in bytes (`IFNAMSIZ` with its terminator is 16).
const MAX_NAME: usize = 15;
/// What interfaces are called in the reserve, with their numbers behind it. They come out of it under this name, so it is
/// one that nobody else gives.
const RESERVED: &str = "hull-nic";

/// A network device.
pub(super) struct Nic {
    /// Which one, from 0.
    number: usize,
    /// Its interface's index, in either namespace.
    pub(super) index: u32,
    pub(super) namespaces: Rc<Namespaces>,
    place: Place,
}

/// Where a network device is.
enum Place {
    Reserve,
    /// In the microVM's namespace from the beginning: a move takes longer than all else that makes an interface of it.
    AtHand,
    /// In the container, under this name.
    Connected(String),
}

impl Nic {
    /// The interface with this index, which stays in the microVM's namespace until there is a container.
    pub(super) fn at_hand(number: usize, index: u32, namespaces: Rc<Namespaces>) -> Self {
        Self {
            number,
            index,
            namespaces,
            place: Place::AtHand,
        }
    }

    /// Takes it out of the microVM's namespace, unless it is an interface of the container.
    pub(super) fn hide(&mut self) -> Result<(), OsError> {
        if matches!(self.place, Place::AtHand) {
            let hidden = self.put_back();
            hidden.during("reserve", format!("network device {}", self.number))?;
        }
        Ok(())
    }

    /// Makes it an interface of the container. If that fails it is in the reserve again.
    pub(super) fn connect(&mut self, interface: &Interface) -> Result<(), NetworkError> {
        let name = &interface.name;
        check_name(name)?;
        match &self.place {
            Place::Connected(name) => {
                return Err(NetworkError::InUse {
                    nic: self.number,
                    name: name.clone(),
                });
            }
            Place::Reserve => self.take_out(name)?,
            Place::AtHand => {}
        }
        if let Err(error) = self.set_up(interface) {
            if let Err(error) = self.put_back() {
                eprintln!(
                    "guest-agent: cannot put network device {} back: {error}",
                    self.number
                );
            }
            return Err(error.into());
        }
        self.place = Place::Connected(name.clone());
        Ok(())
    }

    /// Moves it out of the reserve.
    fn take_out(&self, name: &str) -> Result<(), OsError> {
        let Namespaces { own, reserve } = &*self.namespaces;
        let moved = reserve.netlink.ask(requests::send(self.index, own.fd.as_fd()));
        let number = self.number;
        moved.during(
            "move",
            format!("network device {number} into the container as interface {name}"),
        )
    }

    fn set_up(&self, interface: &Interface) -> Result<(), OsError> {
        let Interface { name, mac, mtu, .. } = interface;
        let netlink = &self.namespaces.own.netlink;
        netlink
            .ask(requests::identify(self.index, name, *mac, *mtu))
            .during(
                "set the name, hardware address and MTU of",
                format!("interface {name}"),
            )?;
        let has_ipv6 = interface.addresses.iter().any(|(address, _)| address.is_ipv6());
        ipv6::set_up(name, has_ipv6)?;
        netlink
            .ask(requests::bring_up(self.index))
            .during("bring up", format!("interface {name}"))?;
        for (address, prefix) in &interface.addresses {
            netlink
                .ask(requests::add_address(self.index, *address, *prefix))
                .during("give", format!("interface {name} the address {address}/{prefix}"))?;
        }
        Ok(())
    }

    /// Takes it away from the container. Its addresses and routes go with the move.
    pub(super) fn disconnect(&mut self) -> Result<(), NetworkError> {
        let what = format!("interface {} out of the container", self.interface()?);
        Ok(self.put_back().during("take", what)?)
    }

    /// Makes the default route of the gateway's family lead there, and not where it led before.
    pub(super) fn lead_to(&self, gateway: IpAddr) -> Result<(), NetworkError> {
        let name = self.interface()?;
        let request = requests::set_default_route(self.index, gateway);
        let subject = format!("the default route over {gateway} on interface {name}");
        Ok(self.namespaces.own.netlink.ask(request).during("set", subject)?)
    }

    /// Removes a default route. The container may have removed it itself.
    pub(super) fn lead_away_from(&self, gateway: IpAddr) -> Result<(), NetworkError> {
        let name = self.interface()?;
        let request = requests::remove_default_route(self.index, gateway);
        let subject = format!("the default route over {gateway} on interface {name}");
        match self.namespaces.own.netlink.ask(request) {
            Err(Errno::SRCH) => Ok(()),
            removed => Ok(removed.during("remove", subject)?),
        }
    }

    /// Its interface's name in the container.
    pub(super) fn interface(&self) -> Result<&str, NetworkError> {
        match &self.place {
            Place::Connected(name) => Ok(name),
            Place::Reserve | Place::AtHand => Err(NetworkError::NotConnected { nic: self.number }),
        }
    }

    /// Moves it to the reserve, whatever its interface is called by now.
    fn put_back(&mut self) -> Result<(), Errno> {
        let Namespaces { own, reserve } = &*self.namespaces;
        let name = format!("{RESERVED}{}", self.number);
        let request = requests::send_as(self.index, reserve.fd.as_fd(), &name);
        own.netlink.ask(request)?;
        self.place = Place::Reserve;
        Ok(())
    }
}

/// What the kernel would refuse too, or take for a pattern (`eth%d`) or for the name of other settings.
fn check_name(name: &str) -> Result<(), NetworkError> {
    let is_odd = |c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace();
    let valid = (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | ".." | "all" | "default")
        && !name.contains(is_odd);
    if valid {
        Ok(())
    } else {
        Err(NetworkError::Name(name.to_owned()))
    }
}
