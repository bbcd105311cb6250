//! Interfaces of the host, over rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;
use tokio::task::JoinHandle;

/// The longest name of an interface, in bytes (`IFNAMSIZ` with its terminator is 16).
const MAX_NAME: usize = 15;

/// The host would not do something with its interfaces.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Not even a socket could be had.
    #[error("cannot speak to the kernel about interfaces (rtnetlink): {0}")]
    Open(#[from] std::io::Error),
    /// A name that no interface can have.
    #[error(
        "'{name}' cannot be the name of an interface: it has to have 1 to {MAX_NAME} bytes, and neither '/' nor blanks"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// An interface is not there.
    #[error("there is no interface {name}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot {action} interface {name}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On what.
        name: String,
        /// Why it failed.
        source: rtnetlink::Error,
    },
}

fn refused(action: &'static str, name: &str) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let name = name.to_owned();
    move |source| LinkError::Refused { action, name, source }
}

/// The bridge of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name on the host.
    pub name: String,
    /// The host's addresses on it, each with the prefix of its subnet.
    pub addresses: Vec<IpNet>,
    /// The MTU of the network.
    pub mtu: u32,
}

/// The hardware address of who has this address, as Docker makes it: locally administered (IEEE 802, section 8.4), with the last four
/// bytes of the address.
pub fn mac_of(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    [0x02, 0x42, a, b, c, d]
}

impl Bridge {
    /// Its hardware address, made of its first address. Without one of its own a bridge has the lowest of its ports', which changes
    /// with them, and containers would send to one that is gone.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let first = self.addresses.first().map(IpNet::addr);
        mac_of(first.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

/// The interfaces of the network namespace that this was opened in.
pub struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Links {
    /// Speaks to the kernel from now on; within a tokio runtime.
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Makes a bridge, or makes one that is there as it is to be; says whether it was not there. What fails leaves none behind that
    /// was not there.
    pub async fn make_bridge(&self, bridge: &Bridge) -> Result<bool, LinkError> {
        check_name(&bridge.name)?;
        if let Some(there) = self.find(&bridge.name).await? {
            return self.set_up(bridge, there.header.index).await.map(|()| false);
        }
        let made = LinkBridge::new(&bridge.name).mtu(bridge.mtu).build();
        let added = self.handle.link().add(made).execute().await;
        added.map_err(refused("make the bridge", &bridge.name))?;
        let index = self.index(&bridge.name).await?;
        let set_up = self.set_up(bridge, index).await;
        if set_up.is_err() {
            // The first error says more.
            let _ = self.remove(&bridge.name).await;
        }
        set_up.map(|()| true)
    }

    async fn set_up(&self, bridge: &Bridge, index: u32) -> Result<(), LinkError> {
        let up = LinkUnspec::new_with_index(index)
            .address(bridge.mac().to_vec())
            .mtu(bridge.mtu)
            .up()
            .build();
        let set = self.handle.link().set(up).execute().await;
        set.map_err(refused("bring up", &bridge.name))?;
        for address in &bridge.addresses {
            let mut request = self
                .handle
                .address()
                .add(index, address.addr(), address.prefix_len())
                .replace();
            if address.addr().is_ipv6() {
                // Nobody else on this link can have it, and the first container must not wait until that is proven.
                let message = request.message_mut();
                message.header.flags |= AddressHeaderFlags::Nodad;
                let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                message.attributes.push(flags);
            }
            let added = request.execute().await;
            added.map_err(refused("give an address to", &bridge.name))?;
        }
        Ok(())
    }

    /// Joins a container's interface to a bridge, which takes frames from it only if they come from `mac`, and sends it those for
    /// `mac` and for groups.
    pub async fn join(&self, port: &str, bridge: &Bridge, mac: [u8; 6]) -> Result<(), LinkError> {
        let (port_index, bridge_index) = (self.index(port).await?, self.index(&bridge.name).await?);
        let joined = LinkUnspec::new_with_index(port_index)
            .controller(bridge_index)
            .mtu(bridge.mtu)
            .up()
            .build();
        let set = self.handle.link().set(joined).execute().await;
        set.map_err(refused("join to its bridge", port))?;
        let rules = LinkBridgePort::new(port_index)
            .learning(false)
            .locked(true)
            .flood(false)
            .build();
        let set = self.handle.link().set_port(rules).execute().await;
        set.map_err(refused("bind to its address", port))?;
        let entry = self
            .handle
            .neighbours()
            .add_bridge(port_index, &mac)
            .state(NeighbourState::Noarp)
            .flags(NeighbourFlags::Controller)
            .replace();
        let added = entry.execute().await;
        added.map_err(refused("bind to its address", port))
    }

    /// Removes an interface; one that is not there needs no removal.
    pub async fn remove(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else {
            return Ok(());
        };
        let removed = self.handle.link().del(link.header.index).execute().await;
        removed.map_err(refused("remove", name))
    }

    /// The names of the interfaces that begin with `prefix`.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, LinkError> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(refused("list", "*"))?;
        let names = links.iter().filter_map(name_of);
        Ok(names
            .filter(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .collect())
    }

    /// The subnets that the host has routes to, but for its default routes: what a new network must not meet.
    pub async fn subnets(&self) -> Result<Vec<IpNet>, LinkError> {
        let mut subnets = Vec::new();
        let wanted: [RouteMessage; 2] = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for family in wanted {
            let routes: Vec<_> = self
                .handle
                .route()
                .get(family)
                .execute()
                .try_collect()
                .await
                .map_err(refused("list the routes of", "*"))?;
            subnets.extend(routes.iter().filter_map(destination));
        }
        Ok(subnets)
    }

    /// The host's own addresses, of all interfaces.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, LinkError> {
        let addresses = self.handle.address().get().execute();
        let addresses: Vec<_> = addresses
            .try_collect()
            .await
            .map_err(refused("list the addresses of", "*"))?;
        let own = addresses.into_iter().flat_map(|message| message.attributes);
        let own = own.filter_map(|attribute| match attribute {
            // At a point-to-point interface, the other one is the peer's.
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(address),
            _ => None,
        });
        Ok(own.collect())
    }

    async fn index(&self, name: &str) -> Result<u32, LinkError> {
        let link = self.find(name).await?.ok_or_else(|| LinkError::Missing {
            name: name.to_owned(),
        })?;
        Ok(link.header.index)
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, LinkError> {
        check_name(name)?;
        match self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await
        {
            Ok(link) => Ok(link),
            Err(rtnetlink::Error::NetlinkError(error)) if is_missing(&error) => Ok(None),
            Err(source) => Err(refused("find", name)(source)),
        }
    }
}

fn is_missing(error: &rtnetlink::packet_core::ErrorMessage) -> bool {
    // ENODEV
    error.raw_code() == -19
}

fn check_name(name: &str) -> Result<(), LinkError> {
    let valid = (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
    match valid {
        true => Ok(()),
        false => Err(LinkError::Name {
            name: name.to_owned(),
        }),
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Where a unicast route leads, unless it leads everywhere.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let family = route.header.address_family;
    if !matches!(family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let prefix = route.header.destination_prefix_length;
    IpNet::new(address, prefix).ok().filter(|_| prefix > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::Future;

    use super::*;

    /// Runs a test in a network namespace of its own, where it may make one.
    fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Links) -> F) {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: no network namespace: {error}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .unwrap()
            .block_on(async { test(Links::open().unwrap()).await });
    }

    fn bridge() -> Bridge {
        Bridge {
            name: "hull0".into(),
            addresses: vec!["172.17.0.1/16".parse().unwrap(), "fd00::1/64".parse().unwrap()],
            mtu: 1400,
        }
    }

    fn setting(path: &str) -> String {
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    #[test]
    fn a_bridge_is_made_made_again_and_removed() {
        in_namespace(|links| async move {
            for _ in 0..2 {
                links.make_bridge(&bridge()).await.unwrap();
                assert_eq!(links.names("hull").await.unwrap(), ["hull0"]);
            }
            let subnets = links.subnets().await.unwrap();
            assert!(subnets.contains(&"172.17.0.0/16".parse().unwrap()), "{subnets:?}");
            assert!(subnets.contains(&"fd00::/64".parse().unwrap()), "{subnets:?}");
            for _ in 0..2 {
                links.remove("hull0").await.unwrap();
                assert!(links.names("hull").await.unwrap().is_empty());
            }
        });
    }

    #[test]
    fn a_port_is_bound_to_its_address() {
        in_namespace(|links| async move {
            links.make_bridge(&bridge()).await.unwrap();
            // Any Ethernet interface will do; the bridge makes no difference between a TAP device and this one.
            let pair = rtnetlink::LinkVeth::new("port0", "other0").build();
            links.handle.link().add(pair).execute().await.unwrap();
            links.join("port0", &bridge(), [2, 0, 0, 0, 0, 9]).await.unwrap();
            links.join("port0", &bridge(), [2, 0, 0, 0, 0, 9]).await.unwrap();
            let entries = links.handle.neighbours().get();
            let mut request = entries;
            request.message_mut().header.family = AddressFamily::Bridge;
            let entries: Vec<_> = request.execute().try_collect().await.unwrap();
            let text = format!("{entries:?}");
            assert!(text.contains("[2, 0, 0, 0, 0, 9]"), "{text}");
        });
    }

    #[test]
    fn what_is_not_there_or_cannot_be_is_said() {
        in_namespace(|links| async move {
            let error = links
                .join("port0", &bridge(), [2; 6])
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(error, "there is no interface port0");
            for name in ["", "a/b", "a b", "..", "0123456789abcdef"] {
                let bridge = Bridge {
                    name: name.into(),
                    ..bridge()
                };
                let error = links.make_bridge(&bridge).await.unwrap_err();
                assert!(matches!(error, LinkError::Name { .. }), "{name}: {error}");
            }
            // An address that nobody can have: nothing is left behind.
            let wrong = Bridge {
                addresses: vec!["ff02::1/64".parse().unwrap()],
                ..bridge()
            };
            let error = links.make_bridge(&wrong).await.unwrap_err().to_string();
            assert!(
                error.starts_with("cannot give an address to interface hull0"),
                "{error}"
            );
            assert!(links.names("hull").await.unwrap().is_empty());
        });
    }

    #[test]
    fn a_bridge_has_the_mtu_of_its_network() {
        in_namespace(|links| async move {
            links.make_bridge(&bridge()).await.unwrap();
            assert_eq!(setting("/proc/sys/net/ipv6/conf/hull0/mtu"), "1400");
        });
    }
}
