//! The addresses of one network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

/// An address cannot be had, or a subnet not be made; in Docker's words where Docker has some.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubnetError {
    /// The subnet has no room for a gateway and a container.
    #[error("invalid subnet {subnet}: it has no addresses for a gateway and a container")]
    TooSmall {
        /// The subnet.
        subnet: IpNet,
    },
    /// Something that has to lie in the subnet does not.
    #[error("invalid {what} {address}: it is not in subnet {subnet}")]
    Outside {
        /// What it was to be.
        what: &'static str,
        /// What was asked for.
        address: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// The first or the last address of the subnet.
    #[error(
        "address {address} cannot be a container's: it stands for subnet {subnet} itself or for all in it"
    )]
    NoHost {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// Somebody has it.
    #[error("Address already in use: {address}")]
    InUse {
        /// The address.
        address: IpAddr,
    },
    /// All addresses are somebody's.
    #[error("no available addresses in {range}")]
    UsedUp {
        /// Where addresses are taken from.
        range: IpNet,
    },
}

/// A subnet as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetSpec {
    /// All addresses; bits behind the prefix mean nothing.
    pub subnet: IpNet,
    /// The host's address in it; the first one, unless it is said.
    pub gateway: Option<IpAddr>,
    /// The part of it that addresses are taken from, when nobody asks for one.
    pub range: Option<IpNet>,
    /// Addresses that are somebody else's.
    pub reserved: Vec<IpAddr>,
}

impl SubnetSpec {
    /// A whole subnet.
    pub fn of(subnet: IpNet) -> Self {
        Self {
            subnet,
            gateway: None,
            range: None,
            reserved: Vec::new(),
        }
    }
}

/// A subnet, and who has which address: the gateway, those reserved, and those taken.
///
/// Addresses are given out in their order, and one that was given back only when all behind it were: who still has it in mind is
/// not led to somebody else at once.
#[derive(Clone, Debug)]
pub struct Subnet {
    subnet: IpNet,
    gateway: IpAddr,
    range: IpNet,
    taken: BTreeSet<u128>,
    /// Where the search for a free one begins.
    next: u128,
}

impl Subnet {
    /// A subnet of which nobody has taken an address yet.
    pub fn new(spec: &SubnetSpec) -> Result<Self, SubnetError> {
        let subnet = spec.subnet.trunc();
        let outside = |what: &'static str, address: String| SubnetError::Outside {
            what,
            address,
            subnet,
        };
        let (first, last) = hosts(subnet).ok_or(SubnetError::TooSmall { subnet })?;
        let range = spec.range.unwrap_or(subnet).trunc();
        if !subnet.contains(&range) {
            return Err(outside("ip-range", range.to_string()));
        }
        let gateway = spec.gateway.unwrap_or_else(|| address(subnet, first));
        if !subnet.contains(&gateway) {
            return Err(outside("gateway", gateway.to_string()));
        }
        let mut made = Self {
            subnet,
            gateway,
            range,
            taken: BTreeSet::new(),
            next: first.max(number(range.network())),
        };
        if !(first..=last).contains(&number(gateway)) {
            return Err(SubnetError::NoHost {
                address: gateway,
                subnet,
            });
        }
        made.taken.insert(number(gateway));
        for reserved in &spec.reserved {
            if !subnet.contains(reserved) {
                return Err(outside("auxiliary address", reserved.to_string()));
            }
            made.taken.insert(number(*reserved));
        }
        Ok(made)
    }

    /// All addresses.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The host's address.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Takes a free address of the range.
    pub fn take(&mut self) -> Result<IpAddr, SubnetError> {
        let used_up = SubnetError::UsedUp { range: self.range };
        let Some((first, last)) = hosts(self.subnet) else {
            return Err(used_up);
        };
        let first = first.max(number(self.range.network()));
        let last = last.min(number(self.range.broadcast()));
        let free = |from: u128, to: u128| free(&self.taken, from, to);
        let found = free(self.next.max(first), last).or_else(|| free(first, last.min(self.next)));
        let found = found.ok_or(used_up)?;
        self.taken.insert(found);
        self.next = found + 1;
        Ok(address(self.subnet, found))
    }

    /// Takes the address that somebody asks for.
    pub fn take_this(&mut self, wanted: IpAddr) -> Result<(), SubnetError> {
        let subnet = self.subnet;
        if !subnet.contains(&wanted) {
            return Err(SubnetError::Outside {
                what: "address",
                address: wanted.to_string(),
                subnet,
            });
        }
        match hosts(subnet) {
            Some((first, last)) if (first..=last).contains(&number(wanted)) => {}
            _ => {
                return Err(SubnetError::NoHost {
                    address: wanted,
                    subnet,
                });
            }
        }
        match self.taken.insert(number(wanted)) {
            true => Ok(()),
            false => Err(SubnetError::InUse { address: wanted }),
        }
    }

    /// Gives an address back. The gateway's, and one that was not taken, stay as they are.
    pub fn give_back(&mut self, address: IpAddr) {
        if address != self.gateway && self.subnet.contains(&address) {
            self.taken.remove(&number(address));
        }
    }
}

/// The first number from `from` to `to` that is not in `taken`.
fn free(taken: &BTreeSet<u128>, from: u128, to: u128) -> Option<u128> {
    let mut candidate = from;
    if candidate > to {
        return None;
    }
    for number in taken.range(from..=to) {
        if *number > candidate {
            break;
        }
        candidate = number.checked_add(1)?;
    }
    (candidate <= to).then_some(candidate)
}

/// The first and the last address that a host can have: in IPv4 neither that of the network nor the broadcast address, in IPv6 not
/// that of all routers (RFC 4291, section 2.6.1). `None` where there are fewer than two.
fn hosts(subnet: IpNet) -> Option<(u128, u128)> {
    let (network, broadcast) = (number(subnet.network()), number(subnet.broadcast()));
    let first = network.checked_add(1)?;
    let last = match subnet {
        IpNet::V4(_) => broadcast.checked_sub(1)?,
        IpNet::V6(_) => broadcast,
    };
    (first < last).then_some((first, last))
}

/// An address as a number, to count with.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address with this number, of the family of `subnet`.
pub(crate) fn address(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        // Numbers of an IPv4 subnet are IPv4 addresses.
        IpNet::V4(_) => IpAddr::V4((number as u32).into()),
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn subnet(text: &str) -> Subnet {
        Subnet::new(&SubnetSpec::of(net(text))).unwrap()
    }

    #[test]
    fn addresses_are_given_out_in_order_behind_the_gateway() {
        let mut small = subnet("172.17.0.9/29");
        assert_eq!(small.subnet(), net("172.17.0.8/29"));
        assert_eq!(small.gateway(), ip("172.17.0.9"));
        let taken: Vec<_> = (0..5).map(|_| small.take().unwrap().to_string()).collect();
        assert_eq!(
            taken,
            [
                "172.17.0.10",
                "172.17.0.11",
                "172.17.0.12",
                "172.17.0.13",
                "172.17.0.14"
            ]
        );
        assert_eq!(
            small.take(),
            Err(SubnetError::UsedUp {
                range: net("172.17.0.8/29")
            })
        );
        small.give_back(ip("172.17.0.12"));
        small.give_back(ip("172.17.0.9"));
        assert_eq!(small.take(), Ok(ip("172.17.0.12")));
        assert!(small.take().is_err(), "the gateway is not given away");
    }

    #[test]
    fn an_address_given_back_is_the_last_to_be_given_out_again() {
        let mut subnet = subnet("10.0.0.0/24");
        let first = subnet.take().unwrap();
        subnet.give_back(first);
        assert_eq!(subnet.take(), Ok(ip("10.0.0.3")));
    }

    #[test]
    fn ipv6_has_no_broadcast_address() {
        let mut subnet = subnet("fd00::/126");
        assert_eq!(subnet.gateway(), ip("fd00::1"));
        assert_eq!(
            (subnet.take(), subnet.take()),
            (Ok(ip("fd00::2")), Ok(ip("fd00::3")))
        );
        assert!(subnet.take().is_err());
        let mut huge = self::subnet("::/0");
        assert_eq!(huge.take(), Ok(ip("::2")));
    }

    #[test]
    fn a_range_bounds_what_is_given_out_and_not_what_may_be_asked_for() {
        let spec = SubnetSpec {
            gateway: Some(ip("10.1.255.254")),
            range: Some(net("10.1.7.0/30")),
            reserved: vec![ip("10.1.7.1")],
            ..SubnetSpec::of(net("10.1.0.0/16"))
        };
        let mut subnet = Subnet::new(&spec).unwrap();
        let taken: Vec<_> = (0..3).map(|_| subnet.take().unwrap().to_string()).collect();
        assert_eq!(taken, ["10.1.7.0", "10.1.7.2", "10.1.7.3"]);
        assert!(subnet.take().is_err());
        assert_eq!(subnet.take_this(ip("10.1.0.5")), Ok(()));
    }

    #[test]
    fn an_address_that_cannot_be_had_is_refused_with_the_reason() {
        let mut subnet = subnet("192.168.5.0/24");
        let mut refusal = |address: &str| subnet.take_this(ip(address)).unwrap_err().to_string();
        assert!(refusal("192.168.6.1").contains("is not in subnet 192.168.5.0/24"));
        assert!(refusal("fd00::1").contains("is not in subnet"));
        assert!(refusal("192.168.5.0").contains("cannot be a container's"));
        assert!(refusal("192.168.5.255").contains("cannot be a container's"));
        assert_eq!(refusal("192.168.5.1"), "Address already in use: 192.168.5.1");
        assert_eq!(subnet.take_this(ip("192.168.5.9")), Ok(()));
        assert!(subnet.take_this(ip("192.168.5.9")).is_err());
    }

    #[test]
    fn subnets_that_cannot_be_are_refused() {
        let refusal = |spec: &SubnetSpec| Subnet::new(spec).unwrap_err();
        for small in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128", "255.255.255.255/32"] {
            assert!(
                matches!(refusal(&SubnetSpec::of(net(small))), SubnetError::TooSmall { .. }),
                "{small}"
            );
        }
        let base = SubnetSpec::of(net("10.0.0.0/24"));
        let gateway = |gateway: &str| SubnetSpec {
            gateway: Some(ip(gateway)),
            ..base.clone()
        };
        assert!(
            refusal(&gateway("10.0.1.1"))
                .to_string()
                .starts_with("invalid gateway 10.0.1.1")
        );
        assert!(matches!(
            refusal(&gateway("10.0.0.255")),
            SubnetError::NoHost { .. }
        ));
        let range = SubnetSpec {
            range: Some(net("10.0.0.0/16")),
            ..base.clone()
        };
        assert!(refusal(&range).to_string().starts_with("invalid ip-range"));
        let reserved = SubnetSpec {
            reserved: vec![ip("10.0.2.1")],
            ..base
        };
        assert!(
            refusal(&reserved)
                .to_string()
                .starts_with("invalid auxiliary address")
        );
    }
}
