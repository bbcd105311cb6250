//! Who may say what: frames as a guest writes them into its TAP device, and what of them arrives at another guest.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use network::{Firewall, Ruleset, open_tap};

use crate::frames::*;
use crate::lab::*;
use crate::samples::{forged, own};

/// What is before each frame of a TAP device: the header of virtio, which says nothing here.
const HEADER: [u8; 10] = [0; 10];

struct Guest(File);

impl Guest {
    fn new(number: u8) -> Self {
        let tap = open_tap(&format!("hullt{number}"), 1).unwrap().remove(0);
        run(&format!("ip link set hullt{number} master hull0 up"));
        Self(File::from(tap))
    }

    fn send(&self, frame: &[u8]) {
        let sent = (&self.0).write(&[&HEADER[..], frame].concat()).unwrap();
        assert_eq!(sent, HEADER.len() + frame.len());
    }

    /// All frames up to the one that ends with `last`.
    fn receive_until(&self, last: &[u8]) -> Vec<Vec<u8>> {
        let begun = Instant::now();
        let mut frames = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(len) => frames.push(buffer[HEADER.len()..len].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
            if frames.last().is_some_and(|frame| frame.ends_with(last)) {
                return frames;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "the last frame did not arrive"
            );
        }
    }
}

/// Which of the frames of one guest arrive at the other.
fn arriving(from: &Guest, to: &Guest, frames: &[(&'static str, Vec<u8>)]) -> Vec<&'static str> {
    let mark = |index: usize| format!("frame {index:03}").into_bytes();
    for (index, (_, frame)) in frames.iter().enumerate() {
        from.send(&[&frame[..], &mark(index)].concat());
    }
    // What arrives, arrives in order.
    let last = frame(
        BROADCAST,
        mac(2),
        IPV4,
        &ipv4("172.17.0.2", "172.17.0.255", UDP, b"the last"),
    );
    from.send(&last);
    let received = to.receive_until(b"the last");
    let arrived = |index: usize| received.iter().any(|frame| frame.ends_with(&mark(index)));
    let frames = frames.iter().enumerate();
    frames
        .filter(|(index, _)| arrived(*index))
        .map(|(_, (name, _))| *name)
        .collect()
}

fn ruleset() -> Ruleset {
    let networks = vec![bridge("hull0", 17)];
    // Only the firewall decides which groups are whose.
    run("ip link set hull0 type bridge mcast_snooping 0");
    let mut first = endpoint("hull0", 17, 2);
    first.addresses.push("172.17.0.22".parse().unwrap());
    Ruleset {
        networks,
        endpoints: vec![first, endpoint("hull0", 17, 3)],
        ..Ruleset::default()
    }
}

#[test]
fn only_what_is_its_own_leaves_a_container() {
    if !host() {
        return;
    }
    let ruleset = ruleset();
    let (from, to) = (Guest::new(2), Guest::new(3));
    let names = |frames: &[(&'static str, _)]| frames.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    // Without rules all of them arrive: it is not for another reason that they do not with rules.
    assert_eq!(arriving(&from, &to, &own()), names(&own()));
    assert_eq!(arriving(&from, &to, &forged()), names(&forged()));
    apply(&ruleset);
    assert_eq!(arriving(&from, &to, &own()), names(&own()));
    assert_eq!(arriving(&from, &to, &forged()), [""; 0]);
    wait(Firewall::new().remove()).unwrap();
    assert_eq!(arriving(&from, &to, &forged()), names(&forged()));
}

#[test]
fn a_device_that_is_bound_to_nobody_is_mute() {
    if !host() {
        return;
    }
    let mut ruleset = ruleset();
    let (stranger, to) = (Guest::new(2), Guest::new(3));
    let known = Guest::new(4);
    ruleset.endpoints = vec![endpoint("hull0", 17, 3), endpoint("hull0", 17, 4)];
    apply(&ruleset);
    for (_, frame) in own() {
        stranger.send(&frame);
    }
    known.send(&frame(
        BROADCAST,
        mac(4),
        IPV4,
        &ipv4("172.17.0.4", "172.17.0.255", UDP, b"the last"),
    ));
    let received = to.receive_until(b"the last");
    // The host may have said something, too.
    assert!(
        !received.iter().any(|frame| frame[6..12] == mac(2)),
        "{received:?}"
    );
}

#[test]
fn no_frame_reaches_the_host_past_the_bridge() {
    if !host() {
        return;
    }
    let ruleset = ruleset();
    let guest = Guest::new(2);
    let socket = UdpSocket::bind("172.17.0.1:9000").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let received = || {
        let mut buffer = [0; 16];
        let len = socket.recv(&mut buffer).ok()?;
        Some(buffer[..len].to_vec())
    };
    let gateway = mac_of("hull0");
    let packet = |text| ipv4("172.17.0.2", "172.17.0.1", UDP, &udp(9000, 9000, text));
    // The bridge gives such a frame to the host as the port's own.
    let past = frame([1, 0x80, 0xc2, 0, 0, 0x0e], mac(2), IPV4, &packet(b"past"));
    run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.hullt2.rp_filter=0");
    guest.send(&past);
    assert_eq!(received(), Some(b"past".to_vec()), "without rules");
    apply(&ruleset);
    guest.send(&past);
    guest.send(&frame(gateway, mac(2), IPV4, &packet(b"by the bridge")));
    assert_eq!(received(), Some(b"by the bridge".to_vec()));
    assert_eq!(received(), None);
    // A device that has no bridge at all.
    run("ip link set hullt2 nomaster; ip addr add 172.17.5.1/24 dev hullt2");
    guest.send(&frame(mac_of("hullt2"), mac(2), IPV4, &packet(b"no bridge")));
    assert_eq!(received(), None);
}

fn mac_of(interface: &str) -> [u8; 6] {
    let text = run(&format!("ip -br link show {interface} | awk '{{print $3}}'"));
    let bytes = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}
