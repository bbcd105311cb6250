//! What is open to an endpoint whose policies do not let it go everywhere.

use std::net::IpAddr;

use ipnet::IpNet;
use tokio::time::Instant;

use super::pins::{Pins, Services};
use crate::egress::intersection;
use crate::{Egress, EgressPolicy, EgressRule};

/// The policies of an endpoint, all of which have to allow what it does, and what they allow for a time.
#[derive(Debug, Default)]
pub(super) struct Doors {
    policies: Vec<EgressPolicy>,
    pins: Pins,
}

/// What became of the addresses in an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Those that may be told.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether the host's rules have to change before.
    pub(super) changed: bool,
}

impl Doors {
    pub(super) fn new(policies: &[EgressPolicy]) -> Self {
        let restricting = policies.iter().filter(|policy| **policy != EgressPolicy::All);
        Self {
            policies: restricting.cloned().collect(),
            pins: Pins::default(),
        }
    }

    /// Whether everything is open.
    pub(super) fn are_open(&self) -> bool {
        self.policies.is_empty()
    }

    /// What may be reached at the addresses of a name, by each policy; nothing if one of them does not allow the name.
    pub(super) fn services(&self, name: &str) -> Option<Services> {
        let services = self.policies.iter().map(|policy| policy.services(name));
        let services: Services = services.collect();
        services
            .iter()
            .all(|services| !services.is_empty())
            .then_some(services)
    }

    /// Opens the addresses that an allowed name stands for, until then. Those that are `near` are told if the policies name them
    /// as addresses, and are not opened for that: whoever has the name could lead to the inside by it (DNS rebinding).
    pub(super) fn open(
        &mut self,
        services: &Services,
        addresses: &[IpAddr],
        until: Instant,
        near: impl Fn(IpAddr) -> bool,
    ) -> Told {
        let (inside, outside): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|address| near(**address));
        let mut changed = false;
        for address in &outside {
            changed |= self.pins.add(*address, services, until);
        }
        // Of an answer with more addresses than can be open, some are not.
        let open = outside
            .into_iter()
            .filter(|address| self.pins.holds(*address, services));
        let named = inside.into_iter().filter(|address| self.name_address(*address));
        Told {
            addresses: open.chain(named).collect(),
            changed,
        }
    }

    /// Whether all policies allow something at an address, whatever names stand for.
    fn name_address(&self, address: IpAddr) -> bool {
        let names = |policy: &EgressPolicy| {
            let mut rules = policy.rules().into_iter();
            rules.any(|rule| rule.destination.contains(&address))
        };
        self.policies.iter().all(names)
    }

    /// What the firewall lets through.
    pub(super) fn egress(&self) -> Egress {
        let sides = self.policies.iter().enumerate().map(|(number, policy)| {
            let mut rules = policy.rules();
            let pinned = self.pins.of_policy(number);
            rules.extend(pinned.map(|(address, service)| service.at(IpNet::from(address))));
            rules
        });
        let all = sides.reduce(|one: Vec<EgressRule>, other| intersection(&one, &other));
        all.map_or(Egress::All, Egress::Only)
    }

    /// When something closes next.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.pins.next_end()
    }

    /// Closes what has ended. Says whether there was any.
    pub(super) fn prune(&mut self, now: Instant) -> bool {
        self.pins.prune(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn doors(policies: &[&str]) -> Doors {
        let policies: Vec<_> = policies.iter().map(|text| text.parse().unwrap()).collect();
        Doors::new(&policies)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn open(doors: &mut Doors, name: &str, addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<_> = addresses.iter().map(|address| ip(address)).collect();
        let services = doors.services(name).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let opened = doors.open(&services, &addresses, until, |address| {
            address.to_string().starts_with("10.")
        });
        opened.addresses.iter().map(IpAddr::to_string).collect()
    }

    fn rules(policy: &str) -> Egress {
        Egress::Only(policy.parse::<EgressPolicy>().unwrap().rules())
    }

    #[test]
    fn who_has_no_policy_goes_everywhere() {
        assert_eq!(doors(&[]).egress(), Egress::All);
        assert_eq!(doors(&["all", "all"]).egress(), Egress::All);
        assert_eq!(doors(&["none", "all"]).egress(), rules("none"));
    }

    #[test]
    fn the_addresses_of_an_allowed_name_are_open_as_its_entries_say() {
        let mut doors = doors(&["10.0.0.0/8:53,a.b:443/tcp,a.b:80"]);
        assert_eq!(doors.egress(), rules("10.0.0.0/8:53"));
        assert_eq!(open(&mut doors, "a.b", &["192.0.2.1"]), ["192.0.2.1"]);
        assert_eq!(
            doors.egress(),
            rules("10.0.0.0/8:53,192.0.2.1:80,192.0.2.1:443/tcp")
        );
        assert!(doors.services("b.a").is_none());
        assert!(doors.prune(Instant::now() + Duration::from_secs(60)));
        assert_eq!(doors.egress(), rules("10.0.0.0/8:53"));
    }

    #[test]
    fn addresses_inside_are_told_only_if_they_are_named() {
        let mut doors = doors(&["10.1.0.0/16:53,a.b"]);
        let told = open(&mut doors, "a.b", &["10.0.0.1", "192.0.2.1", "10.1.0.1"]);
        assert_eq!(told, ["192.0.2.1", "10.1.0.1"]);
        assert_eq!(doors.egress(), rules("10.1.0.0/16:53,192.0.2.1"));
    }

    #[test]
    fn of_two_policies_both_have_to_allow() {
        let mut doors = doors(&["*.b:443,192.0.2.7", "a.b/tcp,192.0.2.0/24:80"]);
        assert!(doors.services("c.b").is_none());
        assert_eq!(doors.egress(), rules("192.0.2.7:80"));
        assert_eq!(open(&mut doors, "a.b", &["198.51.100.1"]), ["198.51.100.1"]);
        assert_eq!(doors.egress(), rules("192.0.2.7:80,198.51.100.1:443/tcp"));
        // Open by a name for one, and by its address for the other.
        open(&mut doors, "a.b", &["192.0.2.7"]);
        let Egress::Only(all) = doors.egress() else {
            unreachable!()
        };
        let Egress::Only(both) = rules("192.0.2.7:443/tcp") else {
            unreachable!()
        };
        assert!(all.contains(&both[0]), "{all:?}");
    }

    #[test]
    fn what_is_told_is_open_also_if_not_all_can_be() {
        let mut doors = doors(&["a.b"]);
        let many: Vec<String> = (0..600_u32)
            .map(|number| format!("192.0.{}.{}", number / 250, number % 250))
            .collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let told = open(&mut doors, "a.b", &many);
        assert_eq!(told.len(), 512);
        let Egress::Only(rules) = doors.egress() else {
            unreachable!()
        };
        assert!(
            rules
                .iter()
                .all(|rule| told.contains(&rule.destination.addr().to_string()))
        );
    }
}
