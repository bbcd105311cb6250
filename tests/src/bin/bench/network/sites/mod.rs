//! Where the pairs of guests are.

mod hull;
mod native;
mod qemu;

pub(super) use hull::Hull;
pub(super) use native::Native;
pub(super) use qemu::Qemu;

use super::control::Guest;

/// Two guests on one bridge.
pub(super) type Guests = [Guest; 2];
