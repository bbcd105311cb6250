//! The pairs of queues, and what is at the host's end of each.

use std::sync::atomic::{AtomicU16, Ordering};

use super::tap::{Tap, TapError};

/// One queue of the TAP device for each pair, or none for all of them.
pub(super) struct Pairs {
    taps: Vec<Tap>,
    /// How many pairs there are.
    count: u16,
    /// How many of them the driver works with, the first ones.
    active: AtomicU16,
}

impl Pairs {
    /// Pairs of which the driver works with the first `active` ones. A new driver works with one, until it says otherwise (virtio
    /// 1.3, section 5.1.6.5.5).
    pub(super) fn new(taps: Vec<Tap>, count: u16, active: u16) -> Self {
        Self {
            taps,
            count,
            active: AtomicU16::new(active),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// How many the driver works with.
    pub(super) fn active(&self) -> u16 {
        self.active.load(Ordering::Relaxed)
    }

    /// The host's end of a pair.
    pub(super) fn tap(&self, pair: usize) -> Option<&Tap> {
        self.taps.get(pair)
    }

    /// All ends.
    pub(super) fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The driver works with the first `active` pairs. False, if there are not as many.
    pub(super) fn set_active(&self, active: u16) -> Result<bool, TapError> {
        if !(1..=self.count).contains(&active) {
            return Ok(false);
        }
        // A device that was made with one queue has nothing to choose from.
        if self.count > 1 {
            for (tap, pair) in self.taps.iter().zip(0..) {
                tap.attach(pair < active)?;
            }
        }
        self.active.store(active, Ordering::Relaxed);
        Ok(true)
    }
}
