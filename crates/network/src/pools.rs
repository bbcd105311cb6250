//! Which subnets there are for networks that ask for none.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use crate::subnet::{address, number};

/// A subnet cannot be had, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolsError {
    /// Another network, or the host, has some of it.
    #[error("Pool overlaps with other one on this address space: {wanted} and {other}")]
    Overlap {
        /// What was asked for.
        wanted: IpNet,
        /// What is there.
        other: IpNet,
    },
    /// There is none left.
    #[error(
        "could not find an available, non-overlapping {family} address pool among the defaults to assign to the network"
    )]
    UsedUp {
        /// IPv4 or IPv6.
        family: &'static str,
    },
}

/// Where subnets are cut from.
#[derive(Clone, Debug)]
pub struct Pools {
    v4: Vec<(Ipv4Net, u8)>,
    v6: Vec<(Ipv6Net, u8)>,
}

impl Default for Pools {
    /// Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in parts of 4096 addresses; for IPv6, fdd0::/16 in parts of 2^64.
    fn default() -> Self {
        let seventeen = |second| (Ipv4Net::new_assert(Ipv4Addr::new(172, second, 0, 0), 16), 16);
        let mut v4: Vec<_> = (17..32).map(seventeen).collect();
        v4.push((Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16), 20));
        let local = Ipv6Net::new_assert(Ipv6Addr::new(0xfdd0, 0, 0, 0, 0, 0, 0, 0), 16);
        Self {
            v4,
            v6: vec![(local, 64)],
        }
    }
}

impl Pools {
    /// The first IPv4 subnet that meets none of `used`.
    pub fn free_v4(&self, used: &[IpNet]) -> Result<IpNet, PoolsError> {
        let mut pools = self.v4.iter();
        let free = pools.find_map(|(pool, prefix)| first_free((*pool).into(), *prefix, used));
        free.ok_or(PoolsError::UsedUp { family: "IPv4" })
    }

    /// The same for IPv6.
    pub fn free_v6(&self, used: &[IpNet]) -> Result<IpNet, PoolsError> {
        let mut pools = self.v6.iter();
        let free = pools.find_map(|(pool, prefix)| first_free((*pool).into(), *prefix, used));
        free.ok_or(PoolsError::UsedUp { family: "IPv6" })
    }

    /// Refuses a subnet that meets one of `used`.
    pub fn check(wanted: IpNet, used: &[IpNet]) -> Result<(), PoolsError> {
        match used.iter().find(|other| overlap(wanted, **other)) {
            Some(other) => Err(PoolsError::Overlap {
                wanted,
                other: *other,
            }),
            None => Ok(()),
        }
    }
}

/// The first part of `pool` with this prefix that meets none of `used`. Each step leaves one of those behind.
fn first_free(pool: IpNet, prefix: u8, used: &[IpNet]) -> Option<IpNet> {
    let mut begin = pool.network();
    loop {
        let part = IpNet::new(begin, prefix).ok()?.trunc();
        if !pool.contains(&part) {
            return None;
        }
        let Some(other) = used.iter().find(|other| overlap(part, **other)) else {
            return Some(part);
        };
        let end = part.broadcast().max(other.broadcast());
        begin = address(pool, number(end).checked_add(1)?);
        if begin <= part.network() {
            // Behind the last address of all.
            return None;
        }
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_subnet_that_meets_no_other_is_chosen() {
        let pools = Pools::default();
        assert_eq!(pools.free_v4(&[]).unwrap().to_string(), "172.17.0.0/16");
        // One within it, one around it, and one beside it.
        let used = nets(&["172.17.3.0/24", "172.18.0.0/15", "10.0.0.0/8", "fdd0::/64"]);
        assert_eq!(pools.free_v4(&used).unwrap().to_string(), "172.20.0.0/16");
        assert_eq!(pools.free_v6(&used).unwrap().to_string(), "fdd0:0:0:1::/64");
        let used = nets(&["172.16.0.0/12", "192.168.0.0/20"]);
        assert_eq!(pools.free_v4(&used).unwrap().to_string(), "192.168.16.0/20");
    }

    #[test]
    fn no_subnet_is_left_when_all_are_used() {
        let pools = Pools::default();
        assert!(pools.free_v4(&nets(&["0.0.0.0/0"])).is_err());
        let error = pools.free_v6(&nets(&["::/0"])).unwrap_err().to_string();
        assert!(error.contains("non-overlapping IPv6 address pool"), "{error}");
    }

    #[test]
    fn a_wanted_subnet_must_not_meet_another() {
        let used = nets(&["10.5.0.0/16", "fd00::/8"]);
        let check = |wanted: &str| Pools::check(wanted.parse().unwrap(), &used);
        assert_eq!(check("10.6.0.0/16"), Ok(()));
        for meets in ["10.5.9.0/24", "10.0.0.0/8", "10.5.0.0/16", "fd12::/64"] {
            assert!(check(meets).is_err(), "{meets}");
        }
    }
}
