//! Pausing, resetting, saving and restoring the device.

use super::*;

#[test]
fn a_pause_keeps_connections_and_a_reset_ends_them() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(7);
    guest.driver.quiesce();
    stream.write_all(b"meanwhile").unwrap();
    let mut newcomer = dial(&guest, "CONNECT 3\n");
    guest.driver.activate();
    let mut ops = [guest.next(), guest.next()];
    ops.sort_by_key(|(header, _)| header.op);
    assert_eq!(ops[0].0.op, op::REQUEST);
    assert_eq!(ops[1].1, b"meanwhile");

    guest.driver.quiesce();
    guest.driver.device.reset();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(newcomer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(7);
    let event = guest.post_event();
    guest.driver.quiesce();
    let state = guest.driver.device.save().unwrap();
    assert_eq!(
        state,
        serde_json::json!({ "lost-connections": 1, "reset-pending": false })
    );

    let dir = tempfile::tempdir().unwrap();
    let mut restored = Vsock::new(spec(&dir)).unwrap();
    restored.restore(state).unwrap();
    assert_eq!(
        restored.save().unwrap(),
        serde_json::json!({ "lost-connections": 0, "reset-pending": true })
    );
    guest.driver.replace_device(restored);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    guest.driver.activate();
    assert_eq!(guest.wait_event(), 4);
    let id: u32 = guest.driver.memory().read_obj(GuestAddress(event)).unwrap();
    assert_eq!(id, 0, "VIRTIO_VSOCK_EVENT_TRANSPORT_RESET");

    guest.post_event();
    guest.send(Guest::header(7, HOST_PORT, op::RW), b"to a connection of before");
    guest.expect(op::RST);
    assert_eq!(guest.event(), None, "it is told once");
}

#[test]
fn a_reset_notice_waits_for_a_buffer() {
    let mut guest = Guest::new();
    guest.driver.quiesce();
    let state = serde_json::json!({ "lost-connections": 0, "reset-pending": true });
    guest.driver.device.restore(state).unwrap();
    guest.driver.activate();
    guest.expect_silence();
    guest.post_event();
    assert_eq!(guest.wait_event(), 4);
}

#[test]
fn a_restored_guest_without_connections_is_told_nothing() {
    let mut guest = Guest::new();
    guest.driver.quiesce();
    let state = guest.driver.device.save().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut restored = Vsock::new(spec(&dir)).unwrap();
    restored.restore(state).unwrap();
    guest.driver.replace_device(restored);
    guest.driver.activate();
    guest.post_event();
    guest.expect_silence();
    assert_eq!(guest.event(), None);
}

#[test]
fn damaged_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Vsock::new(spec(&dir)).unwrap();
    for state in [
        serde_json::json!(null),
        serde_json::json!({}),
        serde_json::json!({ "lost-connections": -1, "reset-pending": false }),
        serde_json::json!({ "lost-connections": 0, "reset-pending": 0 }),
        serde_json::json!({ "lost-connections": 0, "reset-pending": false, "more": 1 }),
    ] {
        assert!(device.restore(state.clone()).is_err(), "{state}");
    }
}

#[test]
fn the_configuration_space_holds_the_context_id() {
    let dir = tempfile::tempdir().unwrap();
    let device = Vsock::new(spec(&dir)).unwrap();
    let mut config = [0xff; 12];
    device.read_config(0, &mut config);
    assert_eq!(config, [42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_spec_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for cid in [0, 1, 2, u32::MAX] {
        let refused = Vsock::new(VsockSpec {
            guest_cid: cid,
            ..spec(&dir)
        });
        assert!(matches!(refused, Err(VsockError::Cid { .. })), "{cid}");
    }
    let port = GuestPort {
        port: 1,
        socket: dir.path().join("s"),
    };
    let twice = VsockSpec {
        guest_ports: vec![port.clone(), port],
        ..spec(&dir)
    };
    assert!(matches!(
        Vsock::new(twice),
        Err(VsockError::DuplicatePort { port: 1 })
    ));
    let listener = Resource::Path(dir.path().join("missing/socket"));
    assert!(matches!(
        Vsock::new(VsockSpec {
            listener,
            ..spec(&dir)
        }),
        Err(VsockError::Listener(_))
    ));
}
