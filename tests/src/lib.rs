//! What tests share: hull's built programs, an instance of hull of their own, and the place where its microVMs run, which is
//! this host or the helper VM; a daemon for what needs no microVM, and a real registry.
//!
//! All tests of one run that need microVMs share one daemon (and one helper VM), as a user's containers do. Each uses names of
//! its own.

mod authority;
mod capabilities;
mod daemon;
mod docker_registry;
pub mod golden;
pub mod hogs;
mod hull;
mod outcome;
mod place;

pub use authority::Authority;
pub use capabilities::CAPABILITIES;
pub use daemon::{Daemon, DaemonSpec};
pub use docker_registry::{DockerRegistry, PASSWORD, RegistrySpec, USER};
pub(crate) use hull::prefix;
pub use hull::{Cleanup, Hull};
pub use outcome::Outcome;
pub use place::Place;

/// The tests' instance of hull; where no microVM can run, the test is counted as skipped and ends.
#[macro_export]
macro_rules! hull {
    () => {
        match $crate::Hull::for_test(module_path!())? {
            Some(hull) => hull,
            None => return Ok(()),
        }
    };
}
