//! What a container is told about names outside that has a policy.

use crate::host::{Host, ask};
use crate::lab::assert_refused;
use crate::lab::outside;
use crate::outside::NameServer;

#[test]
fn only_names_of_the_policy_are_known() {
    let Some(host) = Host::begin() else { return };
    let hosts = "192.0.2.2 a.test x.a.test y.x.a.test b.test\n192.0.2.3 real.elsewhere\n";
    let _server = NameServer::begin(hosts, 5);
    let first = host.container(2, &["*.a.test,alias.test"]);
    for name in ["x.a.test", "y.x.a.test", "X.A.Test."] {
        assert_eq!(ask(&first, &format!("{name} A")), ["192.0.2.2"], "{name}");
    }
    // It is the name that was asked for that counts, wherever it leads.
    assert_eq!(ask(&first, "alias.test A"), ["192.0.2.3"]);
    for question in [
        "a.test A",
        "b.test A",
        "real.elsewhere A",
        "a.test TXT",
        "-x 192.0.2.2",
        "evil\\.a.test A",
        "xa.test A",
        ". NS",
    ] {
        assert_eq!(ask(&first, question), ["NXDOMAIN"], "{question}");
    }
    // One that is allowed and not there is not there; other types than addresses are the server's business.
    assert_eq!(ask(&first, "z.a.test A"), ["NXDOMAIN"]);
    assert_eq!(ask(&first, "x.a.test TXT"), ["NOERROR"]);
}

#[test]
fn an_answer_that_leads_inside_is_not_told() {
    let Some(host) = Host::begin() else { return };
    let world = outside();
    world.serve("192.0.2.2:80");
    let inside = [
        "10.0.0.9",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "172.17.0.1",
        "172.17.0.3",
        "224.0.0.1",
        // The host's own, though public.
        "192.0.2.1",
    ];
    let mut hosts: String = inside.map(|address| format!("{address} evil.test\n")).concat();
    for address in ["::1", "fd00:17::3", "fe80::1", "2001:db8::1", "::ffff:10.0.0.9"] {
        hosts.push_str(&format!("{address} evil.test\n"));
    }
    hosts.push_str("192.0.2.2 half.test\n10.0.0.9 half.test\n10.7.0.9 named.test\n");
    let _server = NameServer::begin(&hosts, 5);
    let first = host.container(2, &["*.test,10.7.0.0/16:53"]);
    let second = host.container(3, &[]);
    second.serve("172.17.0.3:80");
    assert_eq!(ask(&first, "evil.test A"), ["NOERROR"]);
    assert_eq!(ask(&first, "evil.test AAAA"), ["NOERROR"]);
    assert_eq!(ask(&first, "half.test A"), ["192.0.2.2"]);
    assert!(first.calls("192.0.2.2:80").is_ok());
    assert_eq!(ask(&first, "named.test A"), ["10.7.0.9"]);
    assert_refused(|| first.calls("10.7.0.9:80"));
    assert_refused(|| first.calls("192.0.2.1:80"));
    // Who has no policy is told everything.
    assert_eq!(ask(&second, "evil.test A").len(), inside.len());
}
