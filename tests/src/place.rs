//! Where the microVMs run.

use std::sync::OnceLock;

use anyhow::Result;

use crate::Hull;

/// Where the daemon and its microVMs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this host.
    Host,
    /// In the helper VM.
    Machine,
}

impl Place {
    /// What `hull` chose, as `hull doctor` tells it.
    pub(crate) fn of(hull: &Hull) -> Result<Place> {
        static PLACE: OnceLock<Place> = OnceLock::new();
        crate::hull::once(&PLACE, || {
            let doctor = hull.hull(["doctor"]);
            Ok(if doctor.stdout.contains("helper VM") {
                Place::Machine
            } else {
                Place::Host
            })
        })
    }
}
