//! Slow readers, and the bounds of what is held for them.

use super::*;

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
