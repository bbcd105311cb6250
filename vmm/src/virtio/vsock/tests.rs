//! A guest's driver on one side, real unix sockets on the other.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};
use vm_spec::{GuestPort, Resource, VsockSpec};

use super::guest::{CID, Guest, HOST_PORT, RX_LEN, spec};
use super::multiplexer::MAX_CONNECTIONS;
use super::packet::{HEADER_LEN, HOST_CID, Header, op, shutdown};
use super::{Vsock, VsockError};
use crate::virtio::device::VirtioDevice;

const KIB: usize = 1 << 10;

/// Bytes that differ from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn dial(guest: &Guest, greeting: &str) -> UnixStream {
    let mut client = UnixStream::connect(guest.dir.path().join("vsock")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(greeting.as_bytes()).unwrap();
    client
}

/// Connects from the host to port 52 of the guest; returns the client and the host's port.
fn dial_and_accept(guest: &mut Guest) -> (UnixStream, u32) {
    let mut client = dial(guest, "CONNECT 52\n");
    let (request, _) = guest.expect(op::REQUEST);
    assert_eq!(request.dst_port, 52);
    guest.send(Guest::header(52, request.src_port, op::RESPONSE), &[]);
    let mut line = [0; 6];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"OK 52\n");
    (client, request.src_port)
}

/// Reads data packets until `len` bytes have come.
fn read_data(guest: &mut Guest, len: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < len {
        data.extend(guest.expect(op::RW).1);
    }
    data
}

#[test]
fn guest_connects_and_data_flows_both_ways() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    guest.send(Guest::header(5000, HOST_PORT, op::RW), b"from the guest");
    let mut buffer = [0; 14];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"from the guest");

    stream.write_all(b"from the host").unwrap();
    let (header, payload) = guest.expect(op::RW);
    assert_eq!(payload, b"from the host");
    assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
    assert_eq!((header.src_port, header.dst_port), (HOST_PORT, 5000));
    assert_eq!(header.fwd_cnt, 14, "every packet tells what has been taken");
    assert!(guest.driver.interrupt.used_count() > 0);
}

#[test]
fn host_connects_and_data_flows_both_ways() {
    let mut guest = Guest::new();
    let (mut client, host_port) = dial_and_accept(&mut guest);
    client.write_all(b"question").unwrap();
    assert_eq!(guest.expect(op::RW).1, b"question");
    guest.send(Guest::header(52, host_port, op::RW), b"answer");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn data_sent_along_with_the_greeting_belongs_to_the_stream() {
    let mut guest = Guest::new();
    let _client = dial(&guest, "CONNECT 52\nearly");
    let (request, _) = guest.expect(op::REQUEST);
    guest.send(Guest::header(52, request.src_port, op::RESPONSE), &[]);
    assert_eq!(guest.expect(op::RW).1, b"early");
}

#[test]
fn a_greeting_may_come_in_pieces() {
    let mut guest = Guest::new();
    let mut client = dial(&guest, "CONN");
    guest.expect_silence();
    client.write_all(b"ECT 7\n").unwrap();
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, 7);
}

#[test]
fn a_client_that_comes_before_the_driver_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let device = Vsock::new(spec(&dir)).unwrap();
    let mut client = UnixStream::connect(dir.path().join("vsock")).unwrap();
    client.write_all(b"CONNECT 9\n").unwrap();
    let mut guest = Guest::new();
    guest.driver.quiesce();
    guest.driver.replace_device(device);
    guest.driver.activate();
    assert_eq!(guest.expect(op::REQUEST).0.dst_port, 9);
}

#[test]
fn a_client_that_speaks_otherwise_or_is_refused_is_closed() {
    let mut guest = Guest::new();
    let mut nonsense = dial(&guest, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(nonsense.read(&mut [0; 8]).unwrap_or(0), 0);

    let mut refused = dial(&guest, "CONNECT 52\n");
    let (request, _) = guest.expect(op::REQUEST);
    guest.send(Guest::header(52, request.src_port, op::RST), &[]);
    assert_eq!(refused.read(&mut [0; 8]).unwrap(), 0);
    guest.expect_silence();
}

#[test]
fn a_port_without_a_socket_is_refused() {
    let mut guest = Guest::new();
    guest.send(Guest::header(5000, HOST_PORT + 1, op::REQUEST), &[]);
    let (header, _) = guest.expect(op::RST);
    assert_eq!((header.src_port, header.dst_port), (HOST_PORT + 1, 5000));

    std::fs::remove_file(guest.dir.path().join("service")).unwrap();
    guest.send(Guest::header(5000, HOST_PORT, op::REQUEST), &[]);
    guest.expect(op::RST);
}

#[test]
fn a_megabyte_each_way_arrives_byte_for_byte_on_several_connections() {
    let mut guest = Guest::new();
    let data = pattern(1 << 20);
    let mut streams: Vec<_> = (0..4).map(|port| guest.connect(5000 + port)).collect();
    let writers: Vec<_> = streams
        .iter()
        .map(|stream| {
            let (mut stream, data) = (stream.try_clone().unwrap(), data.clone());
            std::thread::spawn(move || {
                stream.write_all(&data).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            })
        })
        .collect();
    let mut received = vec![Vec::new(); 4];
    let mut ended = 0;
    while ended < 4 {
        let (header, payload) = guest.next();
        match header.op {
            op::RW => received[(header.dst_port - 5000) as usize].extend(payload),
            op::SHUTDOWN => ended += 1,
            other => panic!("unexpected packet {other}"),
        }
    }
    assert!(received.iter().all(|received| *received == data));
    writers.into_iter().for_each(|writer| writer.join().unwrap());

    for (port, stream) in (5000..).zip(&mut streams) {
        let (mut stream, expected) = (stream.try_clone().unwrap(), data.clone());
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; expected.len()];
            stream.read_exact(&mut received).unwrap();
            assert_eq!(received, expected);
        });
        let mut sent = 0u32;
        let mut forwarded = 0u32;
        for chunk in data.chunks(64 * KIB) {
            while sent - forwarded + chunk.len() as u32 > 256 << 10 {
                forwarded = guest.expect(op::CREDIT_UPDATE).0.fwd_cnt;
            }
            guest.send(Guest::header(port, HOST_PORT, op::RW), chunk);
            sent += chunk.len() as u32;
            while let Some((header, _)) = guest.next_within(Duration::ZERO) {
                assert_eq!(header.op, op::CREDIT_UPDATE);
                forwarded = header.fwd_cnt;
            }
        }
        reader.join().unwrap();
        while guest.next_within(Duration::from_millis(20)).is_some() {}
    }
}

#[test]
fn turns_are_shared_between_connections() {
    let mut guest = Guest::without_buffers();
    let mut streams = Vec::new();
    for port in [1, 2] {
        guest.post_one(RX_LEN);
        streams.push(guest.connect(port));
    }
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[7; 4096]).is_ok() {}
    }
    // Both have far more than one turn to send, and the guest gives room for less than four.
    guest.post_all();
    let mut bytes = [0usize; 2];
    std::thread::sleep(Duration::from_millis(100));
    guest.collect();
    while let Some((header, payload)) = guest.next_within(Duration::ZERO) {
        bytes[header.dst_port as usize - 1] += payload.len();
    }
    assert!(bytes.iter().all(|&bytes| bytes >= 100 * KIB), "{bytes:?}");
}

#[test]
fn a_host_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    let chunk = pattern(16 * KIB);
    let (mut sent, mut forwarded, mut buffer) = (0u32, 0u32, 256u32 << 10);
    // Goes on until the credit is used up: the socket has taken what it can, the rest is in the device.
    loop {
        while let Some((header, _)) = guest.next_within(Duration::from_millis(20)) {
            assert_eq!(header.op, op::CREDIT_UPDATE);
            (forwarded, buffer) = (header.fwd_cnt, header.buf_alloc);
        }
        if sent - forwarded + chunk.len() as u32 > buffer {
            break;
        }
        guest.send(Guest::header(5000, HOST_PORT, op::RW), &chunk);
        sent += chunk.len() as u32;
    }
    assert!(sent < 2 << 20, "{sent} bytes were taken while nobody read");

    let mut received = vec![0; sent as usize];
    stream.read_exact(&mut received).unwrap();
    assert!(received.chunks(chunk.len()).all(|received| received == chunk));
    let (header, _) = guest.expect(op::CREDIT_UPDATE);
    assert!(
        sent - header.fwd_cnt < header.buf_alloc / 2,
        "the guest may go on: {header:?}"
    );
    guest.send(Guest::header(5000, HOST_PORT, op::RW), &chunk);
    stream.read_exact(&mut received[..chunk.len()]).unwrap();
    assert!(received.starts_with(&chunk));
}

#[test]
fn a_guest_that_sends_more_than_its_credit_is_cut_off() {
    let mut guest = Guest::new();
    let _stream = guest.connect(5000);
    let mut packets = 0;
    loop {
        guest.send(Guest::header(5000, HOST_PORT, op::RW), &[1; 64 * KIB]);
        packets += 1;
        assert!(packets < 64, "the device keeps taking data that nobody reads");
        if let Some((header, _)) = guest.next_within(Duration::from_millis(5)) {
            match header.op {
                op::CREDIT_UPDATE => continue,
                op::RST => break,
                other => panic!("unexpected packet {other}"),
            }
        }
    }
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let mut guest = Guest::new();
    guest.send(
        Header {
            buf_alloc: 1000,
            ..Guest::header(5000, HOST_PORT, op::REQUEST)
        },
        &[],
    );
    let (mut stream, _) = guest.service.accept().unwrap();
    guest.expect(op::RESPONSE);
    stream.write_all(&pattern(2500)).unwrap();
    assert_eq!(guest.expect(op::RW).1.len(), 1000);
    guest.expect(op::CREDIT_REQUEST);
    guest.expect_silence();
    let update = Guest::header(5000, HOST_PORT, op::CREDIT_UPDATE);
    guest.send(
        Header {
            buf_alloc: 1000,
            fwd_cnt: 600,
            ..update
        },
        &[],
    );
    assert_eq!(guest.expect(op::RW).1, pattern(2500)[1000..1600]);
    guest.expect(op::CREDIT_REQUEST);
    guest.send(
        Header {
            buf_alloc: 4000,
            fwd_cnt: 1600,
            ..update
        },
        &[],
    );
    assert_eq!(guest.expect(op::RW).1, pattern(2500)[1600..]);
    guest.expect_silence();
}

#[test]
fn the_end_of_the_hosts_data_reaches_the_guest_and_the_other_way_stays_open() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(op::RW).1, b"last words");
    assert_eq!(guest.expect(op::SHUTDOWN).0.flags, shutdown::SEND);

    guest.send(Guest::header(5000, HOST_PORT, op::RW), b"reply");
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"reply");

    let close = Guest::header(5000, HOST_PORT, op::SHUTDOWN);
    guest.send(
        Header {
            flags: shutdown::BOTH,
            ..close
        },
        &[],
    );
    assert_eq!(stream.read(&mut reply).unwrap(), 0);
    guest.expect(op::RST);
    guest.expect_silence();
}

#[test]
fn the_end_of_the_guests_data_reaches_the_host_and_the_other_way_stays_open() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    let close = Guest::header(5000, HOST_PORT, op::SHUTDOWN);
    guest.send(Guest::header(5000, HOST_PORT, op::RW), b"end");
    guest.send(
        Header {
            flags: shutdown::SEND,
            ..close
        },
        &[],
    );
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"end");
    stream.write_all(b"still here").unwrap();
    assert_eq!(guest.expect(op::RW).1, b"still here");

    guest.send(
        Header {
            flags: shutdown::RECEIVE,
            ..close
        },
        &[],
    );
    guest.expect(op::RST);
    let error = stream.write_all(b"too late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_guest_that_stops_receiving_stops_the_hosts_writes_only() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    let stop = Guest::header(5000, HOST_PORT, op::SHUTDOWN);
    guest.send(
        Header {
            flags: shutdown::RECEIVE,
            ..stop
        },
        &[],
    );
    assert_eq!(
        stream.write_all(b"unwanted").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    guest.send(Guest::header(5000, HOST_PORT, op::RW), b"wanted");
    let mut wanted = [0; 6];
    stream.read_exact(&mut wanted).unwrap();
    guest.expect_silence();
}

#[test]
fn a_host_that_closes_ends_both_ways_for_the_guest() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    stream.write_all(b"bye").unwrap();
    drop(stream);
    let mut data = Vec::new();
    let mut flags = 0;
    while flags != shutdown::BOTH {
        let (header, payload) = guest.next();
        match header.op {
            op::RW => data.extend(payload),
            op::SHUTDOWN => flags = header.flags,
            other => panic!("unexpected packet {other}"),
        }
    }
    assert_eq!(data, b"bye");
    guest.send(Guest::header(5000, HOST_PORT, op::RST), &[]);
    guest.expect_silence();
    guest.connect(5000);
}

#[test]
fn what_the_guest_sent_before_a_reset_still_reaches_a_slow_host() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(5000);
    let chunk = pattern(64 * KIB);
    for _ in 0..7 {
        guest.send(Guest::header(5000, HOST_PORT, op::RW), &chunk);
        while guest.next_within(Duration::from_millis(5)).is_some() {}
    }
    guest.send(Guest::header(5000, HOST_PORT, op::RST), &[]);
    // The ports are free for a new connection at once.
    let mut second = guest.connect(5000);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 7 * chunk.len());
    assert!(all.chunks(chunk.len()).all(|received| received == chunk));
    guest.send(Guest::header(5000, HOST_PORT, op::RW), b"new");
    let mut new = [0; 3];
    second.read_exact(&mut new).unwrap();
}

#[test]
fn hostile_packets_are_refused_or_ignored_and_the_device_goes_on() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(1);
    let base = Guest::header(7, HOST_PORT, op::RW);
    // Not of a connection: refused.
    for header in [
        base,
        Header { op: 0, ..base },
        Header { op: 99, ..base },
        Header {
            op: op::SHUTDOWN,
            ..base
        },
        Header {
            op: op::RESPONSE,
            ..base
        },
        Header {
            op: op::CREDIT_REQUEST,
            ..base
        },
        Header {
            kind: 2,
            op: op::REQUEST,
            ..base
        },
        Header {
            kind: 77,
            op: op::REQUEST,
            ..base
        },
        Header {
            dst_cid: 3,
            op: op::REQUEST,
            ..base
        },
        Header {
            dst_cid: u64::MAX,
            op: op::REQUEST,
            ..base
        },
    ] {
        guest.send(header, &[]);
        let (answer, _) = guest.expect(op::RST);
        assert_eq!((answer.dst_cid, answer.dst_port), (CID, 7), "{header:?}");
        assert_eq!(
            (answer.src_cid, answer.src_port, answer.kind),
            (header.dst_cid, HOST_PORT, header.kind)
        );
    }
    // From nobody, or a refusal itself: ignored.
    guest.send(Header { src_cid: 3, ..base }, &[]);
    guest.send(
        Header {
            src_cid: u64::MAX,
            op: op::REQUEST,
            ..base
        },
        &[],
    );
    guest.send(Header { op: op::RST, ..base }, &[]);
    // No packet at all.
    for cut in [1, HEADER_LEN - 1] {
        guest.send_raw(&[0; HEADER_LEN], &[cut]);
        guest.driver.wait_used(1);
    }
    guest.expect_silence();

    guest.send(Guest::header(1, HOST_PORT, op::RW), b"fine");
    let mut fine = [0; 4];
    stream.read_exact(&mut fine).unwrap();
}

#[test]
fn packets_without_a_place_in_a_connection_end_it() {
    let good = Guest::header(7, HOST_PORT, op::RW);
    for bad in [
        Header {
            op: op::REQUEST,
            ..good
        },
        Header {
            op: op::RESPONSE,
            ..good
        },
        Header { op: 0, ..good },
        Header { op: 8, ..good },
        // Claims more payload than there is.
        Header { len: 1, ..good },
        Header {
            len: u32::MAX,
            ..good
        },
    ] {
        let mut guest = Guest::new();
        let mut stream = guest.connect(7);
        guest.send_as_is(bad, &[]);
        guest.expect(op::RST);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{bad:?}");
        guest.connect(7);
    }
}

#[test]
fn data_after_the_guests_own_end_ends_the_connection() {
    let mut guest = Guest::new();
    let _stream = guest.connect(7);
    let close = Guest::header(7, HOST_PORT, op::SHUTDOWN);
    guest.send(
        Header {
            flags: shutdown::SEND | !shutdown::BOTH,
            ..close
        },
        &[],
    );
    guest.send(Guest::header(7, HOST_PORT, op::RW), b"?");
    guest.expect(op::RST);
}

#[test]
fn a_header_may_be_cut_anywhere() {
    let mut guest = Guest::new();
    let mut stream = guest.connect(7);
    for cuts in [
        &[HEADER_LEN + 6][..],
        &[1, HEADER_LEN + 5],
        &[40, 4, 3, 3],
        &[10, 34, 6],
    ] {
        let header = Header {
            len: 6,
            ..Guest::header(7, HOST_PORT, op::RW)
        };
        guest.send_raw(&[&header.to_bytes()[..], b"abcdef"].concat(), cuts);
        guest.driver.wait_used(1);
        let mut data = [0; 6];
        stream.read_exact(&mut data).unwrap();
        assert_eq!(&data, b"abcdef", "{cuts:?}");
    }
}

#[test]
fn receive_buffers_of_any_size_are_filled_and_useless_ones_returned() {
    let mut guest = Guest::without_buffers();
    guest.post_one(RX_LEN);
    let mut stream = guest.connect(7);
    let header = HEADER_LEN as u32;
    stream.write_all(&pattern(300)).unwrap();
    for len in [
        1,
        header - 1,
        header,
        header + 1,
        header + 100,
        header,
        header + 4000,
    ] {
        guest.post_one(len);
    }
    let mut data = Vec::new();
    let mut sizes = Vec::new();
    while data.len() < 300 {
        let (_, payload) = guest.expect(op::RW);
        sizes.push(payload.len());
        data.extend(payload);
    }
    assert_eq!(data, pattern(300));
    assert_eq!(sizes, [1, 100, 199]);
}

#[test]
fn a_guest_that_takes_no_answers_cannot_pile_them_up() {
    let mut guest = Guest::without_buffers();
    let stray = Guest::header(7, HOST_PORT, op::RW);
    let mut taken = 0;
    for _ in 0..400 {
        guest.send_raw(&stray.to_bytes(), &[HEADER_LEN]);
        let mut patience = 100;
        while !guest.packet_taken() && patience > 0 {
            std::thread::sleep(Duration::from_micros(200));
            patience -= 1;
        }
        if patience == 0 {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, 256, "so many answers wait for a buffer");
    guest.reposts = true;
    guest.post_all();
    for _ in 0..=taken {
        guest.expect(op::RST);
    }
    guest.expect_silence();
}

#[test]
fn connections_are_limited() {
    let mut guest = Guest::new();
    let mut streams = Vec::new();
    for port in 0..MAX_CONNECTIONS as u32 {
        streams.push(guest.connect(port));
    }
    guest.send(Guest::header(9999, HOST_PORT, op::REQUEST), &[]);
    guest.expect(op::RST);
    let mut client = UnixStream::connect(guest.dir.path().join("vsock")).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    guest.send(Guest::header(5, HOST_PORT, op::RST), &[]);
    streams.push(guest.connect(9999));
}

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
    assert_eq!(state, serde_json::json!({ "lost-connections": 1 }));

    let dir = tempfile::tempdir().unwrap();
    let mut restored = Vsock::new(spec(&dir)).unwrap();
    restored.restore(state).unwrap();
    assert_eq!(
        restored.save().unwrap(),
        serde_json::json!({ "lost-connections": 0 })
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
    let state = guest.driver.device.save().unwrap();
    guest.driver.device.restore(state).unwrap();
    guest.driver.activate();
    guest.expect_silence();
    guest.post_event();
    assert_eq!(guest.wait_event(), 4);
}

#[test]
fn damaged_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = Vsock::new(spec(&dir)).unwrap();
    for state in [
        serde_json::json!(null),
        serde_json::json!({}),
        serde_json::json!({ "lost-connections": -1 }),
        serde_json::json!({ "lost-connections": 0, "more": 1 }),
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
