//! Making connections and passing data.

use super::*;

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
