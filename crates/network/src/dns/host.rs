//! The name servers that the host itself asks.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use resolv_conf::{Config, ScopedIp};

use super::DNS_PORT;

/// As many as the C library asks (`MAXNS`).
const MAX_SERVERS: usize = 3;

/// The name servers in the text of a `resolv.conf(5)`, in their order; the local one if there are none, as for the C library.
///
/// Lines that make no sense count for nothing. Loopback addresses are good here: it is the host that asks them.
pub fn host_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let (config, _) = Config::parse_with_errors(resolv_conf.as_bytes());
    let servers = config.get_nameservers_or_local().into_iter();
    servers.filter_map(server).take(MAX_SERVERS).collect()
}

/// Nothing if it is said to be behind an interface that is not there.
fn server(address: ScopedIp) -> Option<SocketAddr> {
    match address {
        ScopedIp::V6(address, Some(scope)) => {
            let index = scope
                .parse()
                .ok()
                .or_else(|| if_nametoindex(scope.as_str()).ok())?;
            Some(SocketAddrV6::new(address, DNS_PORT, 0, index).into())
        }
        ScopedIp::V6(address, None) => Some((IpAddr::from(address), DNS_PORT).into()),
        ScopedIp::V4(address) => Some((IpAddr::from(address), DNS_PORT).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        host_servers(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_stand_in_their_order_loopback_ones_too() {
        let text = "# by hand\nsearch example.com\nnameserver 127.0.0.53\nnameserver 2001:db8::1\noptions edns0 ndots:2\n";
        assert_eq!(servers(text), ["127.0.0.53:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn what_makes_no_sense_counts_for_nothing() {
        let text = "nameserver\nnameserver here\n\u{0}\nnameserver fe80::1%nothing0\nnameserver 192.0.2.1\n";
        assert_eq!(servers(text), ["192.0.2.1:53"]);
    }

    #[test]
    fn a_link_local_server_has_its_interface() {
        assert_eq!(servers("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(servers("nameserver fe80::1%7"), ["[fe80::1%7]:53"]);
    }

    #[test]
    fn three_servers_are_asked_and_the_local_one_if_there_is_none() {
        let text = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(servers(text).len(), 3);
        assert_eq!(servers("")[0], "127.0.0.1:53");
    }
}
