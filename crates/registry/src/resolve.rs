//! Names to addresses, without the C library: a static binary cannot load what `nsswitch.conf` may name.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::TokioResolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name without an address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct NameError {
    pub(crate) host: String,
    pub(crate) reason: String,
}

/// Asks `/etc/hosts` and the name servers of `/etc/resolv.conf`. Both are read for every connection, so that
/// a machine that moves to another network needs no restart; connections are few and kept.
pub(crate) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_string();
        Box::pin(async move {
            if host == "localhost" {
                let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                return Ok(addresses(loopback.into_iter()));
            }
            let found = lookup(&host).await;
            found.map_err(|error| {
                let reason = innermost(error.as_ref());
                Box::new(NameError { host, reason }) as Box<dyn Error + Send + Sync>
            })
        })
    }
}

async fn lookup(host: &str) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
    let resolver = TokioResolver::builder_tokio()?.build()?;
    let found: Vec<_> = resolver.lookup_ip(host).await?.iter().collect();
    Ok(addresses(found.into_iter()))
}

/// The port of the URL is filled in by the connector.
fn addresses(found: impl Iterator<Item = std::net::IpAddr> + Send + 'static) -> Addrs {
    Box::new(found.map(|address| SocketAddr::new(address, 0)))
}

/// The deepest cause: what went wrong, without the layers that passed it on.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
