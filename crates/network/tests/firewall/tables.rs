//! The tables themselves: made, replaced, removed, and only hull's.

use std::time::Instant;

use network::{Egress, Firewall, FirewallError, Ruleset};

use crate::lab::*;

fn tables() -> String {
    run("nft list tables")
}

#[test]
fn tables_are_made_replaced_and_removed() {
    if !host() {
        return;
    }
    run(
        "nft add table inet other; nft 'add chain inet other c { type filter hook forward priority 5; }'; nft add rule inet other c counter",
    );
    let others = run("nft list ruleset");
    let firewall = Firewall::new();
    wait(firewall.remove()).unwrap();
    apply(&Ruleset::default());
    assert_eq!(tables(), "table inet other\ntable bridge hull\ntable inet hull\n");
    let ruleset = Ruleset {
        networks: vec![bridge("hull0", 17)],
        endpoints: vec![endpoint("hull0", 17, 2)],
        ..Ruleset::default()
    };
    apply(&ruleset);
    let once = run("nft list ruleset");
    assert!(once.contains("\"hullt2\" . 172.17.0.2"), "{once}");
    apply(&ruleset);
    assert_eq!(run("nft list ruleset"), once);
    apply(&Ruleset::default());
    assert!(!run("nft list ruleset").contains("hullt2"));
    wait(firewall.remove()).unwrap();
    wait(firewall.remove()).unwrap();
    assert_eq!(run("nft list ruleset"), others);
}

#[test]
fn rules_that_make_no_sense_leave_those_before() {
    if !host() {
        return;
    }
    let mut ruleset = Ruleset {
        networks: vec![bridge("hull0", 17)],
        endpoints: vec![endpoint("hull0", 17, 2)],
        ..Ruleset::default()
    };
    apply(&ruleset);
    let before = run("nft list ruleset");
    ruleset.endpoints.push(endpoint("hull9", 17, 3));
    let error = wait(Firewall::new().apply(&ruleset)).unwrap_err();
    assert!(matches!(error, FirewallError::Ruleset(_)), "{error}");
    assert_eq!(run("nft list ruleset"), before);
}

#[test]
fn a_hundred_endpoints_are_applied_at_once() {
    if !host() {
        return;
    }
    let networks = vec![bridge("hull0", 17)];
    let endpoints = (2..102).map(|number| endpoint("hull0", 17, number));
    let publications =
        (2..102).map(|number| publication(8000 + number, &format!("172.17.0.{number}:80"), "hull0"));
    let mut ruleset = Ruleset {
        networks,
        endpoints: endpoints.collect(),
        publications: publications.collect(),
        forbidden: vec![],
        silent: false,
    };
    for endpoint in ruleset.endpoints.iter_mut().take(10) {
        endpoint.egress = Egress::Only(vec![allow("192.0.2.0/24", None, Some(443))]);
    }
    let begun = Instant::now();
    for _ in 0..10 {
        apply(&ruleset);
    }
    let each = begun.elapsed() / 10;
    println!("100 endpoints, 100 published ports: {each:?}");
    assert!(each.as_millis() < 1000, "{each:?}");
}

#[test]
fn a_host_that_forwards_still_listens_to_its_routers() {
    if !host() {
        return;
    }
    // It forwards already; as it was before:
    run("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv4.ip_forward=0");
    run("ip link add uplink type veth peer name deaf; sysctl -qw net.ipv6.conf.deaf.accept_ra=0");
    let settings = || {
        run(
            "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.uplink.accept_ra net.ipv6.conf.deaf.accept_ra",
        )
    };
    let settings = || settings().split_whitespace().collect::<String>();
    wait(network::enable_forwarding(false)).unwrap();
    assert_eq!(settings(), "1010");
    wait(network::enable_forwarding(true)).unwrap();
    assert_eq!(settings(), "1120");
}
