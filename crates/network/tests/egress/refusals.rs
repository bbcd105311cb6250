//! What is told of what containers were refused.

use network::Refused;

use crate::host::{Host, ask};
use crate::lab::outside;
use crate::outside::NameServer;

#[test]
fn refused_packets_and_names_are_told() {
    let Some(host) = Host::begin() else { return };
    let _world = outside();
    let _server = NameServer::begin("192.0.2.2 a.test\n", 5);
    let first = host.container(2, &["a.test:80"]);
    let second = host.container(3, &["none"]);
    assert!(first.calls("192.0.2.2:443").is_err());
    let told = host.hear("tcp 192.0.2.2:443").pop().unwrap();
    assert_eq!((told.container.as_str(), told.left_out), ("container2", 0));
    let packet = Refused::Packet {
        protocol: "tcp".into(),
        destination: "192.0.2.2".parse().unwrap(),
        port: Some(443),
    };
    assert_eq!(told.refused, packet);
    assert!(second.calls("[2001:db8::2]:443").is_err());
    let told = host.hear("tcp [2001:db8::2]:443").pop().unwrap();
    assert_eq!(told.container, "container3");
    assert!(second.sends("192.0.2.2:53").is_err());
    host.hear("udp 192.0.2.2:53");
    assert!(!second.pings("192.0.2.2"));
    host.hear("icmp 192.0.2.2");
    ask(&first, "b.test A");
    let told = host.hear("b.test").pop().unwrap();
    assert_eq!(told.refused, Refused::Name("b.test".into()));
    ask(&first, "-x 192.0.2.2");
    host.hear("2.2.0.192.in-addr.arpa");
    // What passes is not told.
    host.forget();
    ask(&first, "a.test A");
    let _ = first.calls("192.0.2.2:80");
    assert!(first.calls("192.0.2.2:81").is_err());
    assert_eq!(host.hear("tcp 192.0.2.2:81").len(), 1);
}

#[test]
fn what_a_container_was_refused_last_is_told_though_it_ends_at_once() {
    let Some(host) = Host::begin() else { return };
    let _world = outside();
    let only = host.container(2, &["none"]);
    assert!(only.calls("192.0.2.2:443").is_err());
    host.dismiss(2);
    let told = host.hear("tcp 192.0.2.2:443").pop().unwrap();
    assert_eq!(told.container, "container2");
}

#[test]
fn who_tries_all_doors_is_counted() {
    let Some(host) = Host::begin() else { return };
    let _world = outside();
    let first = host.container(2, &["none"]);
    for port in 1000..1060 {
        assert!(first.calls(&format!("192.0.2.2:{port}")).is_err());
    }
    let heard = host.hear("tcp 192.0.2.2:1059");
    let left_out: u64 = heard.iter().map(|refusal| refusal.left_out).sum();
    assert_eq!(heard.len() as u64 + left_out, 60, "{heard:?}");
    assert!(heard.len() <= 20, "{heard:?}");
}
