//! What the system tests share: hull's built programs, an instance of hull of their own, and the place where its microVMs
//! run, which is this host or the helper VM.
//!
//! All tests of one run share one daemon (and one helper VM), as a user's containers do. Each uses names of its own.

mod hull;
mod outcome;
mod place;

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
