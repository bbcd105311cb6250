//! Where a container gets to that has a policy.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::host::{Host, ask};
use crate::lab::*;
use crate::outside::NameServer;

/// A machine outside with servers at port 80 and 81, and 53, of several addresses.
fn world() -> Machine {
    let world = outside();
    world.run(
        "ip addr add 192.0.2.3/24 dev eth0; ip addr add 192.0.2.66/24 dev eth0; \
         ip addr add 2001:db8::3/64 dev eth0 nodad",
    );
    for address in [
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.66",
        "[2001:db8::2]",
        "[2001:db8::3]",
    ] {
        for port in [53, 80, 81] {
            world.serve(&format!("{address}:{port}"));
        }
    }
    world
}

#[test]
fn an_allowed_name_opens_its_addresses_at_its_ports() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let _server = NameServer::begin("192.0.2.2 a.test\n2001:db8::2 a.test\n192.0.2.3 b.test\n", 5);
    let first = host.container(2, &["a.test:80/tcp,192.0.2.3:81"]);
    let other = host.container(3, &[]);
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert_refused(|| first.calls("[2001:db8::2]:80"));
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    assert!(first.calls("192.0.2.2:80").is_ok());
    assert_refused(|| first.calls("[2001:db8::2]:80"));
    assert_eq!(ask(&first, "a.test AAAA"), ["2001:db8::2"]);
    assert!(first.calls("[2001:db8::2]:80").is_ok());
    for address in ["192.0.2.2:81", "[2001:db8::2]:81", "192.0.2.3:80"] {
        assert_refused(|| first.calls(address));
    }
    assert_refused(|| first.sends("192.0.2.2:80"));
    assert!(!first.pings("192.0.2.2"));
    // An address of the policy needs no question.
    assert!(first.calls("192.0.2.3:81").is_ok());
    // Other name servers than hull's are none of the policy's destinations.
    assert_refused(|| first.calls("192.0.2.2:53"));
    assert_refused(|| first.sends("192.0.2.2:53"));
    // Without a policy there is nothing to open.
    assert!(other.calls("192.0.2.2:81").is_ok() && other.pings("2001:db8::3"));
    assert_eq!(ask(&other, "b.test A"), ["192.0.2.3"]);
}

#[test]
fn none_is_nowhere_but_the_own_networks() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let _server = NameServer::begin("192.0.2.2 a.test\n", 5);
    let first = host.container(2, &["none"]);
    let second = host.container(3, &["none"]);
    second.serve("172.17.0.3:80");
    let services = TcpListener::bind("0.0.0.0:9000").unwrap();
    serve(services);
    assert_eq!(ask(&first, "name3 A"), ["172.17.0.3"]);
    assert_eq!(ask(&first, "name3 AAAA"), ["fd00:17::3"]);
    assert!(first.calls("172.17.0.3:80").is_ok() && first.pings("fd00:17::3"));
    assert_eq!(ask(&first, "a.test A"), ["NXDOMAIN"]);
    for address in [
        "192.0.2.2:80",
        "[2001:db8::2]:80",
        "172.17.0.1:9000",
        "192.0.2.1:9000",
    ] {
        assert_refused(|| first.calls(address));
    }
}

#[test]
fn what_a_name_opened_is_closed_in_time() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let server = NameServer::begin("192.0.2.2 a.test\n", 5);
    let first = host.container(2, &["a.test"]);
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    host.pass(Duration::from_secs(50));
    server.change("192.0.2.3 a.test\n");
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.3"]);
    assert!(first.calls("192.0.2.2:80").is_ok() && first.calls("192.0.2.3:80").is_ok());
    host.pass(Duration::from_secs(30));
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert!(first.calls("192.0.2.3:80").is_ok());
    // Asked again in time, it is open for longer.
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.3"]);
    host.pass(Duration::from_secs(60));
    assert!(first.calls("192.0.2.3:80").is_ok());
    host.pass(Duration::from_secs(20));
    assert_refused(|| first.calls("192.0.2.3:80"));
}

#[test]
fn an_answer_that_may_be_kept_for_long_opens_for_long() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let _server = NameServer::begin("192.0.2.2 a.test\n", 600);
    let first = host.container(2, &["a.test"]);
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    host.pass(Duration::from_secs(605));
    assert!(first.calls("192.0.2.2:80").is_ok());
    host.pass(Duration::from_secs(15));
    assert_refused(|| first.calls("192.0.2.2:80"));
}

/// A server that sends back each byte.
fn echo(world: &Machine, address: &'static str) {
    let listener = world.within(move || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                stream.write_all(&byte).unwrap();
            }
        }
    });
}

fn answers(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(&[7]).is_ok() && stream.read_exact(&mut byte).is_ok() && byte == [7]
}

#[test]
fn what_goes_on_goes_on_when_it_is_closed_and_after_a_restart() {
    let Some(host) = Host::begin() else { return };
    let world = world();
    echo(&world, "192.0.2.2:82");
    let _server = NameServer::begin("192.0.2.2 a.test\n", 5);
    let first = host.container(2, &["a.test"]);
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    let mut stream = first.within(|| TcpStream::connect("192.0.2.2:82").unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert!(answers(&mut stream));
    host.pass(Duration::from_secs(80));
    assert_refused(|| first.calls("192.0.2.2:82"));
    assert!(answers(&mut stream));
    // Open again, but not for who is started again.
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    assert!(first.calls("192.0.2.2:80").is_ok());
    host.restart();
    host.adopt(2, &["a.test"]);
    assert_refused(|| first.calls("192.0.2.2:80"));
    assert!(answers(&mut stream));
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    assert!(first.calls("192.0.2.2:80").is_ok());
}

#[test]
fn both_the_network_and_the_container_have_to_allow() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let _server = NameServer::begin("192.0.2.2 a.test\n192.0.2.3 b.test\n", 5);
    let first = host.container(2, &["*.test:80-81,192.0.2.0/24:53", "a.test:81-90,192.0.2.3"]);
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    assert_eq!(ask(&first, "b.test A"), ["NXDOMAIN"]);
    assert!(first.calls("192.0.2.2:81").is_ok());
    assert!(first.calls("192.0.2.3:53").is_ok());
    for address in ["192.0.2.2:80", "192.0.2.2:53", "192.0.2.3:80"] {
        assert_refused(|| -> std::io::Result<IpAddr> { first.calls(address) });
    }
}

#[test]
fn what_is_forbidden_is_reached_by_no_policy() {
    let Some(host) = Host::begin() else { return };
    let _world = world();
    let _server = NameServer::begin("192.0.2.66 a.test\n192.0.2.2 a.test\n", 5);
    let first = host.container(2, &["a.test,192.0.2.0/24"]);
    assert_eq!(ask(&first, "a.test A"), ["192.0.2.2"]);
    assert_refused(|| first.calls("192.0.2.66:80"));
    assert!(first.calls("192.0.2.3:80").is_ok());
}
