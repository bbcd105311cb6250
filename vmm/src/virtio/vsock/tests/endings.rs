//! Closing one direction or both, from either side.

use super::*;

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
