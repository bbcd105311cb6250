//! Becoming a guest of its own, after others have gone on from the same VM snapshot.

use std::os::fd::AsFd;

use guest_protocol::Restored;
use rustix::fs::{Mode, OFlags, open};

use crate::os_error::{During, OsError};
use crate::{clock, sys};

const RANDOM: &str = "/dev/urandom";

/// Takes over random numbers and the time of day that nobody else has. A guest that could share its random numbers with
/// another must not go on: if they cannot be changed it ends, as everything does with PID 1.
pub(crate) fn make_own(restored: &Restored) {
    if let Err(error) = reseed(&restored.seed).and_then(|()| clock::set(restored.now)) {
        eprintln!("guest-agent: a restored guest cannot be made one of its own: {error}");
        std::process::exit(1);
    }
}

/// What the kernel's generator gives from here on depends on the seed (random(4)): mixing it in changes the pool, and
/// reseeding takes new keys from that at once.
fn reseed(seed: &[u8; 32]) -> Result<(), OsError> {
    let random = open(RANDOM, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).during("open", RANDOM)?;
    sys::add_entropy(random.as_fd(), seed).during("add entropy to", RANDOM)?;
    sys::reseed_random(random.as_fd()).during("reseed", RANDOM)
}
