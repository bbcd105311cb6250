//! The helper VM's network card, and whom it asks for names.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::HOST_ROOT;
use crate::network::{DNS_V4, GUEST_V4, GUEST_V6, HOST_V4, HOST_V6, PREFIX_LENGTH_V4, PREFIX_LENGTH_V6};

const LOOPBACK: &str = "lo";
/// The VM's only card; without udev it has the kernel's name.
const CARD: &str = "eth0";
/// Slirp advertises itself as a router; the kernel would make a second address and a second route of it.
const ACCEPT_ADVERTISEMENTS: &str = "/proc/sys/net/ipv6/conf/eth0/accept_ra";
const RESOLVER: &str = "/etc/resolv.conf";

/// The VM has no network.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetworkError {
    /// The kernel's interface for it cannot be used.
    #[error("cannot speak to the kernel about the helper VM's network (rtnetlink): {0}")]
    Netlink(io::Error),
    /// An interface is not there.
    #[error("the helper VM has no network interface {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The kernel refuses.
    #[error("cannot {action} the helper VM's network interface {name}: {source}")]
    Interface {
        /// What was tried.
        action: &'static str,
        /// On which interface.
        name: &'static str,
        /// Why it failed.
        source: rtnetlink::Error,
    },
    /// The kernel's setting cannot be changed.
    #[error("cannot write {ACCEPT_ADVERTISEMENTS} in the helper VM: {0}")]
    Advertisements(io::Error),
    /// The resolver's configuration cannot be written.
    #[error("cannot write {RESOLVER} in the helper VM: {0}")]
    Resolver(io::Error),
}

/// Give the card its addresses and routes.
pub(super) async fn configure() -> Result<(), NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Netlink)?;
    let speaking = tokio::spawn(connection);
    let configured = configure_with(&handle).await;
    speaking.abort();
    configured
}

async fn configure_with(handle: &Handle) -> Result<(), NetworkError> {
    let loopback = Interface::find(handle, LOOPBACK).await?;
    loopback.bring_up().await?;
    let card = Interface::find(handle, CARD).await?;
    fs::write(ACCEPT_ADVERTISEMENTS, "0").map_err(NetworkError::Advertisements)?;
    card.add_address(GUEST_V4.into(), PREFIX_LENGTH_V4).await?;
    card.add_address(GUEST_V6.into(), PREFIX_LENGTH_V6).await?;
    card.bring_up().await?;
    card.add_default_routes().await
}

struct Interface<'a> {
    handle: &'a Handle,
    name: &'static str,
    index: u32,
}

impl<'a> Interface<'a> {
    async fn find(handle: &'a Handle, name: &'static str) -> Result<Self, NetworkError> {
        let mut found = std::pin::pin!(handle.link().get().match_name(name.to_owned()).execute());
        match found.try_next().await {
            Ok(Some(link)) => Ok(Interface {
                handle,
                name,
                index: link.header.index,
            }),
            _ => Err(NetworkError::Missing { name }),
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(rtnetlink::Error) -> NetworkError + use<> {
        let name = self.name;
        move |source| NetworkError::Interface { action, name, source }
    }

    async fn bring_up(&self) -> Result<(), NetworkError> {
        let up = LinkUnspec::new_with_index(self.index).up().build();
        let change = self.handle.link().change(up);
        change.execute().await.map_err(self.failed("bring up"))
    }

    async fn add_address(&self, address: IpAddr, prefix_length: u8) -> Result<(), NetworkError> {
        let mut request = self.handle.address().add(self.index, address, prefix_length);
        // Nobody else is on this network. Asking around for the address (RFC 4862, section 5.4) would leave it unusable for a second.
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        request.execute().await.map_err(self.failed("give an address to"))
    }

    async fn add_default_routes(&self) -> Result<(), NetworkError> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().gateway(HOST_V4);
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(HOST_V6);
        let index = self.index;
        for route in [
            v4.output_interface(index).build(),
            v6.output_interface(index).build(),
        ] {
            let added = self.handle.route().add(route).execute().await;
            added.map_err(self.failed("add the default route of"))?;
        }
        Ok(())
    }
}

/// Have names resolved as on the host. Its files must be mounted.
pub(super) fn write_resolver() -> Result<(), NetworkError> {
    // A host without this file has no search domains.
    let of_host = fs::read_to_string(Path::new(HOST_ROOT).join("etc/resolv.conf")).unwrap_or_default();
    fs::write(RESOLVER, resolver(&of_host)).map_err(NetworkError::Resolver)
}

/// The VM's resolv.conf(5), given the host's: slirp knows the host's name servers, and follows when they change; the domains to
/// search and the options are the host's.
fn resolver(of_host: &str) -> String {
    let mut text = format!("nameserver {DNS_V4}\n");
    for line in of_host.lines() {
        if matches!(
            line.split_whitespace().next(),
            Some("search" | "domain" | "options")
        ) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_searches_where_the_host_does_and_asks_slirp() {
        let of_host =
            "# by hand\nnameserver 127.0.0.53\nsearch lan example.org\n\toptions edns0\nsortlist 1.2.3.4";
        assert_eq!(
            resolver(of_host),
            "nameserver 198.18.0.3\nsearch lan example.org\n\toptions edns0\n"
        );
        assert_eq!(resolver(""), "nameserver 198.18.0.3\n");
    }
}
