//! Addresses that nobody has any more, for as long as the kernel may remember connections of theirs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::conntrack;

/// They stay until the kernel is known to have forgotten, so that what fails once is tried again by whoever asks next.
#[derive(Debug, Default)]
pub(super) struct Left {
    known: Mutex<Known>,
    /// Held while connections are forgotten: whoever finds nothing left to forget may rely on it.
    forgetting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// When each was left.
    addresses: HashMap<IpAddr, u64>,
    /// How often something was left.
    time: u64,
}

impl Left {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps in mind that nobody has these addresses any more.
    pub(super) fn leave(&self, addresses: &[IpAddr]) {
        let mut known = self.known();
        known.time += 1;
        let time = known.time;
        known
            .addresses
            .extend(addresses.iter().map(|address| (*address, time)));
    }

    /// The first of these that is such an address.
    pub(super) fn find(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let known = self.known();
        let mut left = addresses
            .iter()
            .filter(|address| known.addresses.contains_key(address));
        left.next().copied()
    }

    /// Has the kernel forget the connections of all of them.
    pub(super) async fn forget(&self) -> io::Result<()> {
        self.forget_by(async |addresses| conntrack::forget(&addresses).await)
            .await
    }

    async fn forget_by(
        &self,
        forget: impl AsyncFnOnce(HashSet<IpAddr>) -> io::Result<usize>,
    ) -> io::Result<()> {
        let _forgetting = self.forgetting.lock().await;
        let left = self.known().addresses.clone();
        if left.is_empty() {
            return Ok(());
        }
        forget(left.keys().copied().collect()).await?;
        // What was left once more meanwhile has had connections again.
        let forgotten = |address: &IpAddr, time: &u64| left.get(address) == Some(time);
        self.known()
            .addresses
            .retain(|address, time| !forgotten(address, time));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_the_kernel_did_not_forget_is_tried_again() {
        let left = Left::default();
        let (one, two) = (addresses(&["10.0.0.2"]), addresses(&["fd00::2"]));
        left.leave(&one);
        left.forget_by(async |_| Err(io::ErrorKind::TimedOut.into()))
            .await
            .unwrap_err();
        assert_eq!(left.find(&one), Some(one[0]));
        left.leave(&two);
        let both = HashSet::from([one[0], two[0]]);
        left.forget_by(async |asked| {
            assert_eq!(asked, both);
            Ok(0)
        })
        .await
        .unwrap();
        assert_eq!(left.find(&[one[0], two[0]]), None);
        left.forget_by(async |_| panic!("there is nothing left"))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_left_again_meanwhile_is_forgotten_again() {
        let left = Left::default();
        let both = addresses(&["10.0.0.2", "10.0.0.3"]);
        left.leave(&both);
        left.forget_by(async |_| {
            // Until it is over, both are as they were.
            assert_eq!(left.find(&both), Some(both[0]));
            left.leave(&both[1..]);
            Ok(1)
        })
        .await
        .unwrap();
        assert_eq!(left.find(&both), Some(both[1]));
    }
}
