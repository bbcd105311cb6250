//! Addresses that are open for a time, because an allowed name stood for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::egress::Service;

/// How many rules the pins of an endpoint may be: an address is one for each service that is open at it. A name may stand for any
/// number of addresses, and a container ask for any number of names; each rule costs the host memory and time.
pub(super) const MAX_RULES: usize = 512;

/// What is open at an address, by each of an endpoint's policies.
pub(super) type Services = Vec<Vec<Service>>;

/// The pins of an endpoint. Names that stand for one address and open the same at it share a pin.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pins: BTreeMap<(IpAddr, Services), Pin>,
    /// How often something was pinned.
    count: u64,
}

#[derive(Debug)]
struct Pin {
    /// When it ends.
    until: Instant,
    /// When it was asked for last, as a number that grows.
    asked: u64,
}

impl Pins {
    /// Pins an address, or leaves it pinned for longer. Says whether it was not pinned before.
    pub(super) fn add(&mut self, address: IpAddr, services: &Services, until: Instant) -> bool {
        self.count += 1;
        let asked = self.count;
        let mut is_new = false;
        let pin = self.pins.entry((address, services.clone())).or_insert_with(|| {
            is_new = true;
            Pin { until, asked }
        });
        pin.until = pin.until.max(until);
        pin.asked = asked;
        while self.rules() > MAX_RULES && self.remove_oldest() {}
        is_new
    }

    /// Whether an address is pinned with these services.
    pub(super) fn holds(&self, address: IpAddr, services: &Services) -> bool {
        self.pins.contains_key(&(address, services.clone()))
    }

    /// Removes what has ended. Says whether there was any.
    pub(super) fn prune(&mut self, now: Instant) -> bool {
        let before = self.pins.len();
        self.pins.retain(|_, pin| pin.until > now);
        self.pins.len() < before
    }

    /// When the first of them ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.pins.values().map(|pin| pin.until).min()
    }

    /// Addresses, with what is open at them by the policy with this number.
    pub(super) fn of_policy(&self, policy: usize) -> impl Iterator<Item = (IpAddr, Service)> {
        self.pins.keys().flat_map(move |(address, services)| {
            let services = services.get(policy).into_iter().flatten();
            services.map(|service| (*address, *service))
        })
    }

    fn rules(&self) -> usize {
        let keys = self.pins.keys();
        keys.map(|(_, services)| services.iter().map(Vec::len).sum::<usize>().max(1))
            .sum()
    }

    /// Says whether there was one that is not the last.
    fn remove_oldest(&mut self) -> bool {
        let oldest = self.pins.iter().min_by_key(|(_, pin)| pin.asked);
        match oldest.map(|(key, _)| key.clone()) {
            Some(key) if self.pins.len() > 1 => self.pins.remove(&key).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(number: usize) -> IpAddr {
        let [.., a, b] = number.to_be_bytes();
        [192, 0, a, b].into()
    }

    fn services(count: u16) -> Services {
        let service = |port| Service {
            protocol: None,
            ports: Some((port, port)),
        };
        vec![(0..count).map(service).collect()]
    }

    #[test]
    fn a_pin_ends_when_the_last_answer_does() {
        let (mut pins, begin) = (Pins::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(pins.add(address(1), &services(1), at(60)));
        assert!(!pins.add(address(1), &services(1), at(90)));
        assert!(!pins.add(address(1), &services(1), at(70)));
        assert!(pins.add(address(2), &services(1), at(80)));
        assert_eq!(pins.next_end(), Some(at(80)));
        assert!(!pins.prune(at(79)));
        assert!(pins.prune(at(80)));
        assert!(pins.holds(address(1), &services(1)) && !pins.holds(address(2), &services(1)));
        assert!(pins.prune(at(90)));
        assert_eq!(pins.next_end(), None);
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let (mut pins, until) = (Pins::default(), Instant::now());
        for number in 0..MAX_RULES {
            pins.add(address(number), &services(1), until);
        }
        // It is asked for again, so it is not the oldest any more.
        pins.add(address(0), &services(1), until);
        pins.add(address(MAX_RULES), &services(1), until);
        assert!(pins.holds(address(0), &services(1)) && !pins.holds(address(1), &services(1)));
        assert_eq!(pins.of_policy(0).count(), MAX_RULES);
        pins.add(address(7), &services(100), until);
        assert_eq!(pins.of_policy(0).count(), MAX_RULES);
        assert!(pins.holds(address(7), &services(100)) && !pins.holds(address(50), &services(1)));
    }

    #[test]
    fn one_that_opens_more_than_all_may_is_alone() {
        let (mut pins, until) = (Pins::default(), Instant::now());
        pins.add(address(1), &services(1), until);
        pins.add(address(2), &services(600), until);
        assert!(pins.holds(address(2), &services(600)) && !pins.holds(address(1), &services(1)));
    }
}
