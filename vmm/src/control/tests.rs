//! A client and a microVM on a fake hypervisor.

use std::io::{BufRead, BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vm_spec::{DeviceSpec, NetSpec, RateLimit};

use super::*;
use crate::board::tests::{spec, start};

/// Sends a request with descriptors, and returns the answer.
fn ask(stream: &UnixStream, request: &str, descriptors: &[BorrowedFd]) -> String {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let line = format!("{request}\n");
    sendmsg(
        stream,
        &[IoSlice::new(line.as_bytes())],
        &mut ancillary,
        SendFlags::empty(),
    )
    .unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

#[test]
fn a_client_plugs_network_devices_with_the_descriptors_it_sends() {
    let net = NetSpec {
        id: "eth0".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: None,
        queue_pairs: 1,
        taps: Vec::new(),
        receive_limit: RateLimit::default(),
        transmit_limit: RateLimit::default(),
    };
    let mut bench = start(spec(vec![DeviceSpec::Rng, DeviceSpec::Net(net)]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let null = File::open("/dev/null").unwrap();
    let client = std::thread::spawn(move || {
        let stream = UnixStream::connect(path).unwrap();
        let plug = |device: &str, count| {
            let descriptors = vec![null.as_fd(); count];
            ask(
                &stream,
                &format!(r#"{{"plug":{{"device":"{device}"}}}}"#),
                &descriptors,
            )
        };
        let answers = [
            plug("eth0", 0),
            plug("eth1", 0),
            plug("eth0", 1),
            plug("eth0", 2),
            plug("rng", 0),
        ];
        let too_many = plug("eth0", 9);
        ask(
            &UnixStream::connect(stream.peer_addr().unwrap().as_pathname().unwrap()).unwrap(),
            r#""stop""#,
            &[],
        );
        (answers, too_many)
    });
    let mut controls = Controls::new(listener, hold_signals().unwrap()).unwrap();
    controls.serve(&mut bench.microvm, &bench.ending).unwrap();
    let ([unplugged, no_such, no_tap, no_pair, no_net], too_many) = client.join().unwrap();
    assert_eq!(unplugged, r#"{"state":"running"}"#);
    assert!(no_such.contains("has no network device 'eth1'"), "{no_such}");
    assert!(no_tap.contains("is no TAP device"), "{no_tap}");
    assert!(no_pair.contains("got 2 descriptors"), "{no_pair}");
    assert!(no_net.contains("has no network device 'rng'"), "{no_net}");
    assert!(too_many.contains("at most 8 descriptors"), "{too_many}");
}
