//! Guests that go on from a VM snapshot.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What makes a restored guest different from all others.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Random bytes that nobody else gets: all random numbers of the guest depend on them from now on.
    pub seed: [u8; 32],
    /// The time of day: since the beginning of 1970.
    pub now: Duration,
}

impl fmt::Debug for Restored {
    /// The seed is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restored")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_not_shown() {
        let restored = Restored {
            seed: [77; 32],
            now: Duration::from_secs(5),
        };
        let shown = format!("{restored:?}");
        assert!(shown.contains("5s") && !shown.contains("77"), "{shown}");
    }
}
