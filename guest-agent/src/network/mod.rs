//! The container's network interfaces. The microVM's network devices wait in a namespace of their own, the reserve, so
//! that the container sees only those that the host has made interfaces of it. The first one waits in the microVM's
//! namespace until there is a container, which nearly always has it.

mod ipv6;
mod namespace;
mod netlink;
mod nic;
mod requests;
mod slots;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;

use guest_protocol::{Gateway, Interface};

use crate::os_error::OsError;
use namespace::Namespaces;
use nic::Nic;

/// Why the container's network is not as the host wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("there is no network device {nic}: this microVM has {count}")]
    Missing { nic: u8, count: usize },
    #[error("network device {nic} is interface {name} already: remove that first")]
    InUse { nic: usize, name: String },
    #[error("network device {nic} is no interface of the container")]
    NotConnected { nic: usize },
    #[error("{0:?} cannot be the name of an interface")]
    Name(String),
    #[error("{0} and {1} cannot both be gateways: there is one default route of an address family")]
    Gateways(IpAddr, IpAddr),
}

/// All network devices, and where the container's default routes lead.
pub(crate) struct Network {
    /// In the order of their slots.
    nics: Vec<Nic>,
    /// The container's interfaces.
    interfaces: Vec<Interface>,
    /// Those that the host has set, one of a family at most.
    gateways: Vec<Gateway>,
}

impl Network {
    /// Takes the network devices of the microVM into the reserve, but for the first; needs `/proc` and `/sys`.
    pub(crate) fn boot() -> Result<Self, OsError> {
        Self::of(&slots::find(Path::new(slots::INTERFACES))?)
    }

    /// Of the interfaces with these indices.
    fn of(indices: &[u32]) -> Result<Self, OsError> {
        let mut nics = Vec::with_capacity(indices.len());
        if !indices.is_empty() {
            let namespaces = Rc::new(Namespaces::make()?);
            for (number, index) in indices.iter().enumerate() {
                nics.push(Nic::at_hand(number, *index, namespaces.clone()));
            }
            nics[1..].iter_mut().try_for_each(Nic::hide)?;
        }
        Ok(Self {
            nics,
            interfaces: Vec::new(),
            gateways: Vec::new(),
        })
    }

    /// Gives a new container all of these interfaces, and no other, or none. Those that the one before had just so stay as they are.
    pub(crate) fn begin(&mut self, interfaces: &[Interface]) -> Result<(), NetworkError> {
        let others: Vec<u8> = self
            .interfaces
            .iter()
            .filter(|known| !interfaces.contains(known))
            .map(|known| known.nic)
            .collect();
        others.into_iter().try_for_each(|nic| self.remove(nic))?;
        let mut new = interfaces.to_vec();
        new.retain(|interface| !self.interfaces.contains(interface));
        self.add_all(&new)?;
        Ok(self.nics.iter_mut().try_for_each(Nic::hide)?)
    }

    fn add_all(&mut self, interfaces: &[Interface]) -> Result<(), NetworkError> {
        for (count, interface) in interfaces.iter().enumerate() {
            if let Err(error) = self.add(interface) {
                for interface in &interfaces[..count] {
                    self.give_up(interface.nic);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The names of the container's interfaces.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.nics.iter().filter_map(|nic| nic.interface().ok())
    }

    /// Gives the container another interface. If that fails all is as before.
    pub(crate) fn add(&mut self, interface: &Interface) -> Result<(), NetworkError> {
        let nic = interface.nic;
        let gateways: Vec<Gateway> = interface
            .gateways
            .iter()
            .map(|address| Gateway {
                nic,
                address: *address,
            })
            .collect();
        check_families(&gateways)?;
        self.nic(nic)?.connect(interface)?;
        let before = self.gateways.clone();
        let led = gateways.into_iter().try_for_each(|gateway| self.lead_to(gateway));
        if led.is_err() {
            self.give_up(nic);
            for gateway in before {
                // It did lead there: only the container itself can be in the way.
                let _ = self.lead_to(gateway);
            }
        } else {
            self.interfaces.push(interface.clone());
        }
        led
    }

    /// Takes an interface away from the container, and the default routes that lead over it.
    pub(crate) fn remove(&mut self, nic: u8) -> Result<(), NetworkError> {
        self.nic(nic)?.disconnect()?;
        self.gateways.retain(|gateway| gateway.nic != nic);
        self.interfaces.retain(|interface| interface.nic != nic);
        Ok(())
    }

    /// Makes these all the default routes that the host has set.
    pub(crate) fn set_gateways(&mut self, gateways: &[Gateway]) -> Result<(), NetworkError> {
        check_families(gateways)?;
        for gateway in gateways {
            self.nic(gateway.nic)?.interface()?;
        }
        for gateway in gateways {
            self.lead_to(*gateway)?;
        }
        while let Some(other) = self.gateways.iter().position(|known| !gateways.contains(known)) {
            let other = self.gateways.remove(other);
            self.nic(other.nic)?.lead_away_from(other.address)?;
        }
        Ok(())
    }

    fn lead_to(&mut self, gateway: Gateway) -> Result<(), NetworkError> {
        self.nic(gateway.nic)?.lead_to(gateway.address)?;
        self.gateways.retain(|other| !same_family(other, &gateway));
        self.gateways.push(gateway);
        Ok(())
    }

    /// Removes an interface after a failure that is told already.
    fn give_up(&mut self, nic: u8) {
        if let Err(error) = self.remove(nic) {
            eprintln!("guest-agent: {error}");
        }
    }

    fn nic(&mut self, nic: u8) -> Result<&mut Nic, NetworkError> {
        let count = self.nics.len();
        self.nics
            .get_mut(usize::from(nic))
            .ok_or(NetworkError::Missing { nic, count })
    }
}

fn check_families(gateways: &[Gateway]) -> Result<(), NetworkError> {
    for (count, gateway) in gateways.iter().enumerate() {
        if let Some(other) = gateways[..count].iter().find(|other| same_family(other, gateway)) {
            return Err(NetworkError::Gateways(other.address, gateway.address));
        }
    }
    Ok(())
}

fn same_family(one: &Gateway, other: &Gateway) -> bool {
    one.address.is_ipv4() == other.address.is_ipv4()
}
