//! Where containers get to, and who gets to them.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Instant;
use std::{io, thread};

use network::{Egress, EndpointRules, Protocol, Publication, Ruleset};

use crate::lab::*;
use crate::log::Log;

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// A network `hull0` with two containers.
fn pair() -> (Ruleset, Machine, Machine) {
    let ruleset = Ruleset {
        networks: vec![bridge("hull0", 17)],
        endpoints: vec![endpoint("hull0", 17, 2), endpoint("hull0", 17, 3)],
        ..Ruleset::default()
    };
    (ruleset, container("hull0", 17, 2), container("hull0", 17, 3))
}

fn serve_here(address: &str) {
    serve(TcpListener::bind(address).unwrap());
}

/// A server of datagrams that sends back what it gets.
fn echo_here(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        while let Ok((len, from)) = socket.recv_from(&mut [0; 16]) {
            let _ = socket.send_to(&[0; 16][..len], from);
        }
    });
}

#[test]
fn a_container_reaches_the_world_as_the_host() {
    if !host() {
        return;
    }
    let (mut ruleset, first, _second) = pair();
    let world = outside();
    world.serve("192.0.2.2:80");
    world.serve("[2001:db8::2]:80");
    serve_here("172.17.0.1:9000");
    serve_here("192.0.2.1:9000");
    apply(&ruleset);
    assert_eq!(first.calls("192.0.2.2:80").unwrap(), ip("192.0.2.1"));
    assert_eq!(first.calls("[2001:db8::2]:80").unwrap(), ip("2001:db8::1"));
    assert!(first.pings("192.0.2.2") && first.pings("2001:db8::2"));
    // The host's own services see who it is.
    assert_eq!(first.calls("172.17.0.1:9000").unwrap(), ip("172.17.0.2"));
    assert_eq!(first.calls("192.0.2.1:9000").unwrap(), ip("172.17.0.2"));
    assert!(first.pings("172.17.0.3") && first.pings("fd00:17::3") && first.pings("172.17.0.1"));
    // The world knows no way to containers.
    ruleset.networks[0].masquerade = false;
    apply(&ruleset);
    assert_ignored(first.calls("192.0.2.2:80"));
}

#[test]
fn the_world_reaches_no_container_by_its_address() {
    if !host() {
        return;
    }
    let (ruleset, first, _second) = pair();
    let world = outside();
    first.serve("172.17.0.2:80");
    world.run("ip route add 172.17.0.0/24 via 192.0.2.1; ip route add fd00:17::/64 via 2001:db8::1");
    assert!(
        world.calls("172.17.0.2:80").is_ok() && world.pings("fd00:17::2"),
        "without rules"
    );
    apply(&ruleset);
    assert_ignored(world.calls("172.17.0.2:80"));
    assert!(!world.pings("172.17.0.2") && !world.pings("fd00:17::2"));
}

#[test]
fn networks_do_not_reach_each_other() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    ruleset.networks.push(bridge("hullb1", 18));
    ruleset.endpoints.push(endpoint("hullb1", 18, 4));
    ruleset
        .publications
        .push(publication(8080, "172.18.0.4:80", "hullb1"));
    let other = container("hullb1", 18, 4);
    for address in ["172.18.0.4:80", "[fd00:18::4]:80"] {
        other.serve(address);
    }
    serve_here("0.0.0.0:9000");
    assert!(first.calls("172.18.0.4:80").is_ok(), "without rules");
    apply(&ruleset);
    assert!(first.pings("172.17.0.3") && second.pings("fd00:17::2"));
    assert_refused(|| first.calls("172.18.0.4:80"));
    assert_refused(|| first.calls("[fd00:18::4]:80"));
    assert!(!first.pings("172.18.0.4") && !first.pings("fd00:18::4"));
    // Not at the other network's gateway either, nor by a port that it has published.
    assert!(!first.pings("172.18.0.1") && !first.pings("fd00:18::1"));
    assert_refused(|| first.calls("172.18.0.1:9000"));
    assert_refused(|| first.calls("172.18.0.1:8080"));
    assert_refused(|| first.calls("172.17.0.1:8080"));
    assert!(other.calls("172.18.0.1:9000").is_ok());
}

#[test]
fn containers_of_a_network_may_be_kept_apart() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    second.serve("172.17.0.3:80");
    ruleset.networks[0].inter_container = false;
    apply(&ruleset);
    assert!(first.pings("172.17.0.1") && first.pings("fd00:17::1"));
    assert!(!first.pings("172.17.0.3") && !first.pings("fd00:17::3"));
    // By way of the host.
    first.run("ip route add 172.17.0.3/32 via 172.17.0.1");
    assert_refused(|| first.calls("172.17.0.3:80"));
    first.run("ip route del 172.17.0.3/32");
    ruleset.networks[0].inter_container = true;
    apply(&ruleset);
    assert!(first.calls("172.17.0.3:80").is_ok());
}

#[test]
fn nothing_leaves_an_internal_network() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    let world = outside();
    world.serve("192.0.2.2:80");
    second.serve("172.17.0.3:80");
    serve_here("0.0.0.0:9000");
    serve_here("172.17.0.1:53");
    echo_here("172.17.0.1:53");
    echo_here("192.0.2.1:53");
    ruleset
        .publications
        .push(publication(8080, "172.17.0.3:80", "hull0"));
    apply(&ruleset);
    assert!(world.calls("192.0.2.1:8080").is_ok() && first.calls("192.0.2.2:80").is_ok());
    ruleset.networks[0].internal = true;
    apply(&ruleset);
    assert!(first.calls("172.17.0.3:80").is_ok());
    assert!(first.pings("172.17.0.1") && first.pings("fd00:17::1"));
    assert!(first.calls("172.17.0.1:53").is_ok() && first.sends("172.17.0.1:53").is_ok());
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert_refused(|| first.calls("172.17.0.1:9000"));
    assert_refused(|| first.calls("192.0.2.1:9000"));
    assert_refused(|| first.sends("192.0.2.1:53"));
    assert!(!first.pings("192.0.2.1") && !first.pings("2001:db8::2"));
    assert!(world.calls("192.0.2.1:8080").is_err());
    // The host itself still reaches its containers.
    assert!(calls("172.17.0.3:80").is_ok());
}

#[test]
fn a_published_port_is_reached_from_everywhere_it_may_be() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    let world = outside();
    first.serve("172.17.0.2:80");
    first.serve("[fd00:17::2]:80");
    ruleset.publications = vec![
        publication(8080, "172.17.0.2:80", "hull0"),
        publication(8080, "[fd00:17::2]:80", "hull0"),
        Publication {
            host: Some(ip("192.0.2.1")),
            ..publication(8081, "172.17.0.2:80", "hull0")
        },
    ];
    apply(&ruleset);
    for (port, host, client, gateway) in [
        (8080, "192.0.2.1", "192.0.2.2", "172.17.0.1"),
        (8081, "192.0.2.1", "192.0.2.2", "172.17.0.1"),
        (8080, "[2001:db8::1]", "2001:db8::2", "fd00:17::1"),
    ] {
        let address = format!("{host}:{port}");
        assert_eq!(world.calls(&address).unwrap(), ip(client), "the world, {address}");
        assert!(calls(&address).is_ok(), "the host, {address}");
        assert_eq!(
            second.calls(&address).unwrap(),
            ip(gateway),
            "the neighbour, {address}"
        );
        assert_eq!(
            first.calls(&address).unwrap(),
            ip(gateway),
            "the container itself, {address}"
        );
    }
    assert!(second.calls("172.17.0.1:8080").is_ok());
    assert!(second.calls("172.17.0.1:8081").is_err(), "published elsewhere");
    assert!(world.calls("192.0.2.1:80").is_err(), "a port of the container");
    ruleset.publications.clear();
    apply(&ruleset);
    assert!(world.calls("192.0.2.1:8080").is_err());
}

#[test]
fn published_ports_are_reached_where_bridges_ask_the_rules_of_ip() {
    if !host() {
        return;
    }
    if std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").is_err() {
        eprintln!("SKIPPED: no br_netfilter");
        return;
    }
    let (mut ruleset, first, second) = pair();
    let world = outside();
    first.serve("172.17.0.2:80");
    ruleset.publications = vec![publication(8080, "172.17.0.2:80", "hull0")];
    apply(&ruleset);
    assert!(first.pings("172.17.0.3") && second.calls("172.17.0.2:80").is_ok());
    assert_eq!(world.calls("192.0.2.1:8080").unwrap(), ip("192.0.2.2"));
    assert_eq!(second.calls("192.0.2.1:8080").unwrap(), ip("172.17.0.1"));
    ruleset.networks[0].inter_container = false;
    apply(&ruleset);
    assert!(second.calls("172.17.0.2:80").is_err() && !first.pings("172.17.0.3"));
}

#[test]
fn what_is_forbidden_is_refused_at_once() {
    if !host() {
        return;
    }
    let (mut ruleset, first, _second) = pair();
    let world = outside();
    world.serve("192.0.2.2:80");
    world.run("ip addr add 192.0.2.3/24 dev eth0");
    serve_here("192.0.2.1:9000");
    ruleset.forbidden = vec!["192.0.2.2/32", "192.0.2.1/32", "2001:db8::/32"]
        .into_iter()
        .map(|net| net.parse().unwrap())
        .collect();
    apply(&ruleset);
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert_refused(|| first.sends("192.0.2.2:80"));
    assert_refused(|| first.calls("192.0.2.1:9000"));
    assert_refused(|| first.calls("[2001:db8::2]:80"));
    assert!(first.pings("192.0.2.3"));
    assert!(calls("192.0.2.2:80").is_ok(), "the host is no container");
}

#[test]
fn a_container_reaches_only_what_it_may() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    let world = outside();
    for address in [
        "192.0.2.2:80",
        "192.0.2.2:81",
        "[2001:db8::2]:80",
        "[2001:db8::2]:81",
    ] {
        world.serve(address);
    }
    second.serve("172.17.0.3:80");
    serve_here("0.0.0.0:9000");
    serve_here("172.17.0.1:53");
    echo_here("172.17.0.1:53");
    let mut restrict = |rules: Vec<_>| {
        ruleset.endpoints[0] = EndpointRules {
            egress: Egress::Only(rules),
            ..endpoint("hull0", 17, 2)
        };
        apply(&ruleset);
    };
    restrict(vec![
        allow("192.0.2.0/24", Some(Protocol::Tcp), Some(80)),
        allow("2001:db8::2/128", None, Some(80)),
    ]);
    assert!(first.calls("192.0.2.2:80").is_ok() && first.calls("[2001:db8::2]:80").is_ok());
    assert_refused(|| first.calls("192.0.2.2:81"));
    assert_refused(|| first.calls("[2001:db8::2]:81"));
    assert_refused(|| first.sends("192.0.2.2:80"));
    assert!(!first.pings("192.0.2.2") && !first.pings("2001:db8::2"));
    restrict(vec![]);
    for address in [
        "192.0.2.2:80",
        "[2001:db8::2]:80",
        "192.0.2.1:9000",
        "172.17.0.1:9000",
    ] {
        assert_refused(|| -> io::Result<IpAddr> { first.calls(address) });
    }
    assert!(first.calls("172.17.0.3:80").is_ok() && first.pings("fd00:17::3"));
    assert!(first.calls("172.17.0.1:53").is_ok() && first.sends("172.17.0.1:53").is_ok());
    assert!(first.pings("172.17.0.1") && first.pings("fd00:17::1"));
    assert!(
        second.calls("192.0.2.2:81").is_ok(),
        "the neighbour reaches everything"
    );
    restrict(vec![allow("0.0.0.0/0", None, None), allow("::/0", None, None)]);
    assert!(first.pings("192.0.2.2") && first.pings("2001:db8::2") && first.calls("192.0.2.2:81").is_ok());
}

#[test]
fn what_is_refused_is_logged_and_no_flood() {
    if !host() {
        return;
    }
    let (mut ruleset, first, second) = pair();
    let _world = outside();
    for endpoint in &mut ruleset.endpoints {
        endpoint.egress = Egress::Only(vec![]);
    }
    let log = Log::open();
    apply(&ruleset);
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert_refused(|| first.calls("[2001:db8::2]:80"));
    assert_refused(|| first.calls("172.17.0.1:9000"));
    assert_eq!(log.count("hullt2 "), 3);
    let begun = Instant::now();
    for _ in 0..500 {
        assert!(second.calls("192.0.2.2:80").is_err());
    }
    let time = begun.elapsed();
    let logged = log.count("hullt3 ");
    let most = 100 + 100 * (time.as_secs() as usize + 1);
    assert!((100..=most).contains(&logged), "{logged} in {time:?}");
}
