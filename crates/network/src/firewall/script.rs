//! A ruleset as a script for nft: one script is one transaction.

use super::ruleset::Ruleset;
use super::{binding, routing, text};

/// What makes hull's tables say a ruleset that has been checked, and nothing else: all in it is an address, a number or a plain name
/// of an interface. The same ruleset has the same script, whatever the order of its parts.
pub(super) fn script(ruleset: &Ruleset) -> String {
    let mut script = String::new();
    binding::write(&mut script, ruleset);
    routing::write(&mut script, ruleset);
    script
}

/// What removes hull's tables.
pub(super) fn removal() -> String {
    let mut script = String::new();
    text::without_table(&mut script, binding::TABLE);
    text::without_table(&mut script, routing::TABLE);
    script
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::super::ruleset::{Egress, EgressRule, EndpointRules, NetworkRules, Publication};
    use super::*;
    use crate::Protocol;

    fn network(bridge: &str, number: u8) -> NetworkRules {
        NetworkRules {
            bridge: bridge.into(),
            subnets: vec![
                format!("172.{number}.0.0/16").parse().unwrap(),
                format!("fd00:{number}::/64").parse().unwrap(),
            ],
            gateways: vec![
                format!("172.{number}.0.1").parse().unwrap(),
                format!("fd00:{number}::1").parse().unwrap(),
            ],
            internal: false,
            inter_container: true,
            masquerade: true,
        }
    }

    fn endpoint(number: u8) -> EndpointRules {
        EndpointRules {
            tap: format!("hullt{number}"),
            bridge: "hull0".into(),
            mac: [2, 0, 0, 0, 0, number],
            addresses: vec![
                format!("172.17.0.{number}").parse().unwrap(),
                format!("fd00:17::{number}").parse().unwrap(),
            ],
            egress: Egress::All,
        }
    }

    fn publication(host_port: u16, target: &str) -> Publication {
        Publication {
            protocol: Protocol::Tcp,
            host: None,
            host_port,
            target: target.parse().unwrap(),
            bridge: "hull0".into(),
        }
    }

    /// A ruleset with one of everything.
    pub(in super::super) fn example() -> Ruleset {
        let rule = |destination: &str, protocol, ports| EgressRule {
            destination: destination.parse().unwrap(),
            protocol,
            ports,
        };
        let allowed = vec![
            rule("192.0.2.7/24", Some(Protocol::Tcp), Some(443..=443)),
            rule("0.0.0.0/0", None, Some(123..=124)),
            rule("2001:db8::/32", Some(Protocol::Udp), None),
            rule("::/0", None, None),
        ];
        let here = Publication {
            host: Some("192.0.2.1".parse().unwrap()),
            protocol: Protocol::Udp,
            ..publication(53, "172.17.0.3:5353")
        };
        Ruleset {
            networks: vec![
                network("hull0", 17),
                NetworkRules {
                    internal: true,
                    inter_container: false,
                    ..network("hullb1", 18)
                },
            ],
            endpoints: vec![
                endpoint(2),
                EndpointRules {
                    egress: Egress::Only(allowed),
                    ..endpoint(3)
                },
                EndpointRules {
                    bridge: "hullb1".into(),
                    addresses: vec!["172.18.0.9".parse().unwrap()],
                    ..endpoint(4)
                },
            ],
            publications: vec![
                publication(8080, "172.17.0.2:80"),
                publication(8080, "[fd00:17::2]:80"),
                here,
            ],
            forbidden: vec!["10.0.2.2/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            silent: false,
        }
    }

    /// What stands between the braces of a set, map or chain.
    fn part<'a>(script: &'a str, head: &str) -> Vec<&'a str> {
        let (_, rest) = script
            .split_once(&format!("  {head} {{\n"))
            .unwrap_or_else(|| panic!("no {head}"));
        let (part, _) = rest.split_once("\n  }\n").unwrap();
        part.lines()
            .map(|line| line.trim().trim_end_matches(','))
            .collect()
    }

    fn elements<'a>(script: &'a str, head: &str) -> Vec<&'a str> {
        let part = part(script, head);
        let elements = part.iter().skip_while(|line| !line.starts_with("elements"));
        elements.skip(1).copied().filter(|line| *line != "}").collect()
    }

    #[test]
    fn interfaces_are_bound_to_their_addresses() {
        let script = script(&example());
        assert_eq!(
            elements(&script, "set macs"),
            [
                "\"hullt2\" . 02:00:00:00:00:02",
                "\"hullt3\" . 02:00:00:00:00:03",
                "\"hullt4\" . 02:00:00:00:00:04"
            ]
        );
        assert!(elements(&script, "set senders").contains(&"\"hullt2\" . 02:00:00:00:00:02 . 172.17.0.2"));
        let own = ["\"hullt4\" . fe80::ff:fe00:4"];
        assert!(elements(&script, "set sources6").ends_with(&own));
        let own = ["\"hullt4\" . 0xfe80000000000000000000fffe000004"];
        assert!(elements(&script, "set targets6").ends_with(&own));
        assert_eq!(elements(&script, "set isolated"), ["\"hullt4\""]);
    }

    #[test]
    fn published_ports_lead_to_their_targets() {
        let script = script(&example());
        assert_eq!(elements(&script, "map ports4"), ["tcp . 8080 : 172.17.0.2 . 80"]);
        assert_eq!(elements(&script, "map ports6"), ["tcp . 8080 : fd00:17::2 . 80"]);
        assert_eq!(
            elements(&script, "map ports_at4"),
            ["udp . 192.0.2.1 . 53 : 172.17.0.3 . 5353"]
        );
        assert_eq!(
            elements(&script, "set published4"),
            [
                "\"hull0\" . tcp . 172.17.0.2 . 80",
                "\"hull0\" . udp . 172.17.0.3 . 5353"
            ]
        );
    }

    #[test]
    fn what_nobody_serves_is_not_translated() {
        let mut ruleset = example();
        ruleset.networks[0].internal = true;
        let script_of_internal = script(&ruleset);
        assert!(elements(&script_of_internal, "map ports4").is_empty());
        assert!(elements(&script_of_internal, "set published4").is_empty());
        assert!(elements(&script_of_internal, "set masqueraded4").is_empty());
        let mut ruleset = example();
        ruleset.publications[2].host = Some("127.0.0.1".parse().unwrap());
        assert!(elements(&script(&ruleset), "map ports_at4").is_empty());
    }

    #[test]
    fn who_does_not_reach_everything_has_a_chain() {
        let script = script(&example());
        assert_eq!(
            elements(&script, "map egress4"),
            ["\"hull0\" . 172.17.0.3 : goto egress_hullt3"]
        );
        assert_eq!(elements(&script, "map egress6").len(), 2);
        assert_eq!(
            part(&script, "chain egress_hullt3"),
            [
                "ip daddr 192.0.2.0/24 meta l4proto tcp th dport 443 accept",
                "ip6 daddr 2001:db8::/32 meta l4proto udp accept",
                "meta nfproto ipv4 meta l4proto { tcp, udp } th dport 123-124 accept",
                "meta nfproto ipv6 accept",
                "limit rate 100/second burst 100 packets log prefix \"hullt3 \" group 100 snaplen 128",
                "goto refuse"
            ]
        );
        assert!(!script.contains("egress_hullt2"), "one that reaches everything");
        let silent = Ruleset {
            silent: true,
            ..example()
        };
        let script = super::script(&silent);
        let [.., last_rule, refusal] = part(&script, "chain egress_hullt3")[..] else {
            unreachable!()
        };
        assert_eq!((last_rule, refusal), ("meta nfproto ipv6 accept", "goto refuse"));
    }

    #[test]
    fn ranges_do_not_overlap() {
        assert_eq!(elements(&script(&example()), "set forbidden4"), ["10.0.0.0/8"]);
    }

    #[test]
    fn the_order_of_the_parts_makes_no_difference() {
        let ruleset = example();
        let mut turned = ruleset.clone();
        turned.networks.reverse();
        turned.endpoints.reverse();
        turned.publications.reverse();
        turned.forbidden.reverse();
        assert_eq!(script(&turned), script(&ruleset));
    }

    #[test]
    fn nothing_is_there_twice() {
        let mut ruleset = example();
        ruleset.forbidden.extend(ruleset.forbidden.clone());
        let Egress::Only(allowed) = &mut ruleset.endpoints[1].egress else {
            unreachable!()
        };
        allowed.extend(allowed.clone());
        assert_eq!(script(&ruleset), script(&example()));
        let text = script(&ruleset);
        let heads: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("  ") && line.ends_with(" {") && !line.starts_with("   "))
            .collect();
        let (bridge, _) = text.split_once("table inet hull {").unwrap();
        let unique: HashSet<_> = heads.iter().collect();
        // Both tables have a set of what is isolated.
        assert_eq!(unique.len(), heads.len() - 1);
        assert!(bridge.contains("set isolated"));
    }

    #[test]
    fn only_hulls_tables_are_named() {
        for script in [script(&example()), removal()] {
            for line in script.lines().filter(|line| line.contains("table ")) {
                assert!(
                    line.contains("table inet hull") || line.contains("table bridge hull"),
                    "{line}"
                );
            }
            assert!(!script.contains("flush"));
        }
    }
}
