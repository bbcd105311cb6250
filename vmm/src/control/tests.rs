//! A client and a microVM on a fake hypervisor.

use std::io::{BufRead, BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vm_spec::{DeviceSpec, LayersSpec, NetSpec, RateLimit};

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
fn a_client_adds_layers_that_it_sends() {
    let layers = LayersSpec {
        tag: "layers".into(),
        files: Vec::new(),
        dax_window_mib: 0,
    };
    let mut bench = start(spec(vec![DeviceSpec::Rng, DeviceSpec::Layers(layers)]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let file = tempfile::tempfile().unwrap();
    let client = std::thread::spawn(move || {
        let stream = UnixStream::connect(path).unwrap();
        let add = |device: &str, names: &str, count| {
            let request = format!(r#"{{"add-layers":{{"device":"{device}","names":[{names}]}}}}"#);
            ask(&stream, &request, &vec![file.as_fd(); count])
        };
        let answers = [
            add("layers", r#""0","1""#, 2),
            add("layers", r#""2","1""#, 2),
            add("layers", r#""2""#, 1),
            add("layers", r#""3""#, 2),
            add("rng", r#""3""#, 1),
        ];
        ask(&stream, r#""stop""#, &[]);
        answers
    });
    let mut controls = Controls::new(listener, hold_signals().unwrap()).unwrap();
    controls.serve(&mut bench.microvm, &bench.ending).unwrap();
    let [two, known, one, unlike, other] = client.join().unwrap();
    assert_eq!(two, r#"{"state":"running"}"#);
    assert!(known.contains(r#"two layer files are named \"1\""#), "{known}");
    // None of those that came with one that was refused is there.
    assert_eq!(one, r#"{"state":"running"}"#);
    assert!(
        unlike.contains("1 layers are named, and 2 files came"),
        "{unlike}"
    );
    assert!(other.contains("has no virtio-fs device 'rng'"), "{other}");
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
