//! The guest's time of day.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::os_error::{During, OsError};

/// A guest's clock may differ by this much from what its host says it is. What the host said was on its way meanwhile, and a
/// clock that is set back disturbs whoever counts on it.
const MAX_DIFFERENCE: Duration = Duration::from_secs(1);

/// Sets it, since the beginning of 1970.
pub(crate) fn set(now: Duration) -> Result<(), OsError> {
    let now = Timespec {
        tv_sec: now.as_secs() as i64,
        tv_nsec: now.subsec_nanos().into(),
    };
    clock_settime(ClockId::Realtime, now).during("set", "the clock")
}

/// Takes the host's time over where the guest's is another one: the host's was set, or stood still, or one of them goes wrong.
pub(crate) fn follow(host: Duration) -> Result<(), OsError> {
    let own = Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default();
    match own.abs_diff(host) > MAX_DIFFERENCE {
        true => set(host),
        false => Ok(()),
    }
}
