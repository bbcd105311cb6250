//! Images: pulling them against skopeo and umoci, the memory that takes, listing many, pushing what is there.
//!
//! All of it runs on this host: for images the daemon needs no KVM.

mod many;
mod memory;
mod pull;
mod push;
mod site;

use anyhow::Result;
use system_tests::Hull;

use site::{Site, fill, registry};

/// Measures rounds in turn, at least so many.
const ROUNDS: usize = 7;
/// The Debian image in the registry.
const DEBIAN: &str = "debian:bookworm";

/// Prints all tables.
pub(crate) fn measure(hull: &Hull) -> Result<()> {
    let site = Site::new(hull)?;
    let registry = registry(&site)?;
    fill(&registry, &site.debian()?, DEBIAN)?;
    pull::measure(&site, &registry)?;
    push::measure(&site, &registry)?;
    memory::measure(&site, &registry)?;
    many::measure(&site)
}
