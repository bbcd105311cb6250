//! How an interface takes part in IPv6.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};

use crate::os_error::{During, OsError};

/// Only the host says what the interface's addresses and routes are.
const GIVEN: &[(&str, &str)] = &[("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0")];
/// It has no address, not even one that is valid on its link alone.
const NONE: &[(&str, &str)] = &[("disable_ipv6", "1")];

/// Sets up an interface of the microVM's network namespace before it is brought up. Where the kernel has no IPv6 there is
/// nothing to do.
pub(super) fn set_up(interface: &str, wanted: bool) -> Result<(), OsError> {
    for (setting, value) in if wanted { GIVEN } else { NONE } {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/{setting}");
        match open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                let written = write(&file, value.as_bytes());
                written.during("write", format!("{value} to {path}"))?;
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).during("open", path),
        }
    }
    Ok(())
}
