//! A guest that does not keep to the rules.

use super::*;

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
