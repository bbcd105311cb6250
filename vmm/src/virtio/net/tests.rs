//! Against real TAP devices, in a network namespace of the test's own; what is at their other end is a packet socket.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};
use vm_spec::{Rate, Resource};

use super::*;
use crate::memory::MemoryLayout;
use crate::virtio::driver::{Buffer, Driver};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 4;
/// Where the tests keep buffers, and how far they are apart.
const DATA: u64 = 0x20_0000;
const BUFFER: u64 = 2048;
/// As many of them have room for the largest frame.
const ENOUGH: u64 = MAX_FRAME as u64 / BUFFER + 1;
/// Beyond the end of guest memory.
const NOWHERE: u64 = 1 << 40;

/// A TAP device that is up, and the wire behind it.
struct Wire {
    taps: Vec<File>,
    socket: File,
}

impl Wire {
    /// `None` where the test may not make network namespaces.
    fn new(queues: usize) -> Option<Wire> {
        // SAFETY: no arguments that point anywhere. Only this thread changes its namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            eprintln!("SKIPPED: no network namespace: {}", io::Error::last_os_error());
            return None;
        }
        let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several;
        let taps: Vec<_> = (0..queues).map(|_| tap("wire0", flags)).collect();
        // The host's own neighbour discovery would be frames, too.
        fs::write("/proc/sys/net/ipv6/conf/wire0/disable_ipv6", "1").ok();
        Some(Wire {
            taps,
            socket: packet_socket("wire0"),
        })
    }

    fn send(&mut self, frame: &[u8]) {
        self.socket.write_all(frame).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut frame = vec![0; MAX_FRAME];
        let len = self.socket.read(&mut frame).expect("a frame");
        frame.truncate(len);
        frame
    }

    /// A device at this end of it.
    fn device(&mut self, change: impl FnOnce(&mut NetSpec)) -> Net {
        let mut spec = spec();
        spec.queue_pairs = self.taps.len() as u16;
        let hand_over = |tap: &File| Resource::Fd(tap.try_clone().unwrap().into_raw_fd());
        spec.taps = self.taps.iter().map(hand_over).collect();
        change(&mut spec);
        Net::new(spec).unwrap()
    }
}

fn spec() -> NetSpec {
    NetSpec {
        id: "test".into(),
        mac: MAC,
        mtu: Some(1500),
        queue_pairs: 1,
        taps: Vec::new(),
        receive_limit: RateLimit::default(),
        transmit_limit: RateLimit::default(),
    }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: zeros are a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

fn tap(name: &str, flags: libc::c_int) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    file
}

/// A socket for the frames of one interface, which it sets up and brings up.
fn packet_socket(name: &str) -> File {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no arguments that point anywhere; the descriptor is new.
    let socket =
        unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol))) };
    let call = |number: libc::Ioctl, request: &mut libc::ifreq| {
        // SAFETY: these calls read and write an ifreq, which outlives them.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), number, request) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    };
    let mut mtu = request(name);
    mtu.ifr_ifru.ifru_mtu = 65000;
    call(libc::SIOCSIFMTU as libc::Ioctl, &mut mtu);
    let mut up = request(name);
    up.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    call(libc::SIOCSIFFLAGS as libc::Ioctl, &mut up);
    let mut index = request(name);
    call(libc::SIOCGIFINDEX as libc::Ioctl, &mut index);
    // SAFETY: zeros are an address of no interface; SIOCGIFINDEX has set the index.
    let address = unsafe {
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: index.ifr_ifru.ifru_ifindex,
            ..std::mem::zeroed()
        }
    };
    let patience = libc::timeval {
        tv_sec: 10,
        tv_usec: 0,
    };
    // SAFETY: both calls read what outlives them, with its size.
    unsafe {
        let len = size_of_val(&address) as libc::socklen_t;
        assert_eq!(
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len),
            0
        );
        let len = size_of_val(&patience) as libc::socklen_t;
        let option = (&raw const patience).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            option,
            len,
        );
    }
    File::from(socket)
}

/// A frame of `len` bytes, of the type for experiments, that differs from others by its seed.
fn frame(len: usize, seed: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([0x88, 0xb5]);
    frame.extend((14..len).map(|n| (n * 7 + seed * 13) as u8));
    frame
}

fn started(device: Net) -> Driver<Net> {
    let memory = MemoryLayout::with_ram(8 << 20).unwrap().finish().unwrap();
    let mut driver = Driver::new(device, memory, None);
    driver.activate();
    driver
}

fn buffer(index: u64) -> Buffer {
    Buffer {
        address: DATA + index * BUFFER,
        len: BUFFER as u32,
        writable: true,
    }
}

fn offer_buffers(driver: &mut Driver<Net>, count: u64) {
    for index in 0..count {
        driver.offer(RECEIVE, &[buffer(index)]);
    }
}

/// Has the driver send a frame from two buffers: the header and the frame.
fn transmit(driver: &mut Driver<Net>, frame: &[u8]) -> u16 {
    let at = DATA + 0x10_0000;
    driver
        .memory()
        .write_slice(&[0; HEADER_LEN], GuestAddress(at))
        .unwrap();
    driver.memory().write_slice(frame, GuestAddress(at + 64)).unwrap();
    let part = |address, len| Buffer {
        address,
        len,
        writable: false,
    };
    driver.offer(
        TRANSMIT,
        &[part(at, HEADER_LEN as u32), part(at + 64, frame.len() as u32)],
    )
}

/// What the driver finds in the buffers from `index` on: how many a frame fills, and the frame.
fn received(driver: &mut Driver<Net>, index: u64) -> (u16, Vec<u8>) {
    let (_, first) = driver.wait_used(RECEIVE);
    let base = GuestAddress(DATA + index * BUFFER);
    let count: u16 = driver.memory().read_obj(GuestAddress(base.0 + 10)).unwrap();
    let mut len = first as usize;
    for _ in 1..count {
        let (_, more) = driver.used(RECEIVE).expect("all buffers of a frame at once");
        len += more as usize;
    }
    let mut frame = vec![0; len];
    driver.memory().read_slice(&mut frame, base).unwrap();
    (count, frame.split_off(HEADER_LEN))
}

#[test]
fn frames_go_both_ways_unchanged() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    for (seed, len) in [60, 1514, 9000, 65000].into_iter().enumerate() {
        let head = transmit(&mut driver, &frame(len, seed));
        assert_eq!(driver.wait_used(TRANSMIT), (head, 0));
        assert_eq!(wire.receive(), frame(len, seed), "{len}");
    }
    offer_buffers(&mut driver, 2 * ENOUGH);
    let mut at = 0;
    for (seed, len) in [60, 1514, 9000, 65000].into_iter().enumerate() {
        wire.send(&frame(len, seed));
        let (count, seen) = received(&mut driver, at);
        assert_eq!(usize::from(count), (len + HEADER_LEN).div_ceil(BUFFER as usize));
        assert_eq!(seen, frame(len, seed), "{len}");
        // As many as were filled.
        for index in at..at + u64::from(count) {
            driver.offer(RECEIVE, &[buffer(2 * ENOUGH + index)]);
        }
        at += u64::from(count);
    }
}

#[test]
fn a_frame_waits_for_buffers_and_is_not_lost() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    offer_buffers(&mut driver, 2);
    wire.send(&frame(100, 1));
    // Done when this is: the device has looked at both.
    transmit(&mut driver, &frame(60, 0));
    driver.wait_used(TRANSMIT);
    assert_eq!(driver.used(RECEIVE), None);
    for index in 2..ENOUGH {
        driver.offer(RECEIVE, &[buffer(index)]);
    }
    assert_eq!(received(&mut driver, 0), (1, frame(100, 1)));
}

#[test]
fn what_the_driver_sends_from_nowhere_or_wrongly_is_returned_and_the_next_frame_goes() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    let part = |address, len| Buffer {
        address,
        len,
        writable: false,
    };
    let too_long = [part(DATA, MAX_FRAME as u32), part(DATA, 1)];
    let into = Buffer {
        address: DATA,
        len: 100,
        writable: true,
    };
    let hostile: [&[Buffer]; 7] = [
        &[part(NOWHERE, 100)],
        &[part((8 << 20) - 10, 100)],
        &[part(DATA, 0)],
        &[part(DATA, HEADER_LEN as u32)],
        &[part(DATA, 5)],
        &too_long,
        &[into],
    ];
    for chain in hostile {
        let head = driver.offer(TRANSMIT, chain);
        assert_eq!(driver.wait_used(TRANSMIT), (head, 0), "{chain:?}");
    }
    // A header that promises a checksum beyond the frame.
    let at = DATA + 0x10_0000;
    driver
        .memory()
        .write_slice(
            &[1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            GuestAddress(at),
        )
        .unwrap();
    driver.offer(TRANSMIT, &[part(at, 100)]);
    driver.wait_used(TRANSMIT);
    transmit(&mut driver, &frame(77, 3));
    driver.wait_used(TRANSMIT);
    assert_eq!(wire.receive(), frame(77, 3));
    assert_eq!(driver.interrupt.failed_count(), 0);
}

#[test]
fn buffers_that_are_nowhere_come_back_empty_and_the_next_frame_arrives() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    let nowhere = Buffer {
        address: NOWHERE,
        len: 100_000,
        writable: true,
    };
    let not_to_write = Buffer {
        address: DATA,
        len: 100_000,
        writable: false,
    };
    for chain in [nowhere, not_to_write] {
        driver.offer(RECEIVE, &[chain]);
    }
    offer_buffers(&mut driver, ENOUGH);
    wire.send(&frame(300, 4));
    // They are before the first that will do, so the frame's header cannot say that it fills three chains.
    let lens: Vec<_> = (0..3).map(|_| driver.wait_used(RECEIVE).1).collect();
    assert_eq!(lens, [0, 0, 300 + HEADER_LEN as u32]);
    for index in 0..ENOUGH {
        driver.offer(RECEIVE, &[buffer(index)]);
    }
    wire.send(&frame(300, 5));
    assert_eq!(received(&mut driver, 1), (1, frame(300, 5)));
}

#[test]
fn tiny_buffers_get_a_frames_beginning() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    for _ in 0..QUEUE_SIZE {
        driver.offer(
            RECEIVE,
            &[Buffer {
                address: DATA,
                len: 1,
                writable: true,
            }],
        );
    }
    wire.send(&frame(1000, 6));
    for _ in 0..QUEUE_SIZE {
        assert_eq!(driver.wait_used(RECEIVE).1, 1);
    }
}

#[test]
fn a_pause_leaves_the_buffers_to_who_goes_on() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(wire.device(|_| {}));
    offer_buffers(&mut driver, 2 * ENOUGH);
    wire.send(&frame(200, 7));
    assert_eq!(received(&mut driver, 0), (1, frame(200, 7)));
    driver.quiesce();
    let state = driver.device.save().unwrap();
    // Frames wait for the one that goes on.
    wire.send(&frame(201, 8));
    let mut next = wire.device(|_| {});
    next.restore(state).unwrap();
    driver.replace_device(next);
    driver.activate();
    assert_eq!(received(&mut driver, 1), (1, frame(201, 8)));
    transmit(&mut driver, &frame(99, 9));
    assert_eq!(wire.receive(), frame(99, 9));
}

#[test]
fn limits_hold_in_both_directions() {
    let Some(mut wire) = Wire::new(1) else { return };
    let slow = RateLimit {
        bytes: None,
        frames: Some(Rate {
            per_second: 20,
            burst: 1,
        }),
    };
    let mut driver = started(wire.device(|spec| (spec.receive_limit, spec.transmit_limit) = (slow, slow)));
    let begin = Instant::now();
    for seed in 0..4 {
        transmit(&mut driver, &frame(60, seed));
        driver.wait_used(TRANSMIT);
        assert_eq!(wire.receive(), frame(60, seed));
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(140),
        "{:?}",
        begin.elapsed()
    );
    offer_buffers(&mut driver, 2 * ENOUGH);
    let begin = Instant::now();
    (0..4).for_each(|seed| wire.send(&frame(60, seed)));
    for seed in 0..4 {
        assert_eq!(received(&mut driver, seed as u64), (1, frame(60, seed)));
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(140),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn without_a_cable_frames_go_nowhere_and_the_driver_is_told_when_that_changes() {
    let Some(mut wire) = Wire::new(1) else { return };
    let mut driver = started(Net::new(spec()).unwrap());
    let status = |driver: &Driver<Net>| {
        let mut status = [0; 2];
        driver.device.read_config(6, &mut status);
        u16::from_le_bytes(status)
    };
    assert_eq!(status(&driver), 0);
    transmit(&mut driver, &frame(60, 1));
    let ends = |taps: &[File]| taps.iter().map(|tap| tap.try_clone().unwrap()).collect();
    driver.quiesce();
    driver.device.plug(ends(&wire.taps)).unwrap();
    assert_eq!(driver.interrupt.config_count(), 0);
    driver.activate();
    assert_eq!((status(&driver), driver.interrupt.config_count()), (1, 1));
    // What was sent before is not sent now.
    driver.wait_used(TRANSMIT);
    transmit(&mut driver, &frame(60, 2));
    driver.wait_used(TRANSMIT);
    assert_eq!(wire.receive(), frame(60, 2));
    // What is no TAP device changes nothing, and no end is one, too.
    driver.quiesce();
    assert!(
        driver
            .device
            .plug(vec![File::open("/dev/null").unwrap()])
            .is_err()
    );
    driver.activate();
    assert_eq!((status(&driver), driver.interrupt.config_count()), (1, 1));
    driver.quiesce();
    driver.device.plug(Vec::new()).unwrap();
    driver.activate();
    assert_eq!((status(&driver), driver.interrupt.config_count()), (0, 2));
    transmit(&mut driver, &frame(60, 3));
    // A microVM that goes on elsewhere with a cable sees it, too.
    driver.quiesce();
    let state = driver.device.save().unwrap();
    let mut next = wire.device(|_| {});
    next.restore(state).unwrap();
    driver.replace_device(next);
    driver.activate();
    assert_eq!((status(&driver), driver.interrupt.config_count()), (1, 3));
    transmit(&mut driver, &frame(60, 4));
    assert_eq!(wire.receive(), frame(60, 4));
}

#[test]
fn a_driver_works_with_as_many_pairs_as_it_says() {
    let Some(mut wire) = Wire::new(2) else { return };
    let mut driver = started(wire.device(|_| {}));
    let mut command = |bytes: &[u8]| {
        let at = DATA + 0x10_0000;
        driver.memory().write_slice(bytes, GuestAddress(at)).unwrap();
        driver.memory().write_obj(0xffu8, GuestAddress(at + 64)).unwrap();
        let request = Buffer {
            address: at,
            len: bytes.len() as u32,
            writable: false,
        };
        let answer = Buffer {
            address: at + 64,
            len: 1,
            writable: true,
        };
        driver.offer(CONTROL, &[request, answer]);
        driver.wait_used(CONTROL);
        let answer: u8 = driver.memory().read_obj(GuestAddress(at + 64)).unwrap();
        (answer, driver.device.pairs.active())
    };
    assert_eq!(command(&[4, 0, 2, 0]), (0, 2));
    assert_eq!(command(&[4, 0, 3, 0]), (1, 2), "more than there are");
    assert_eq!(command(&[4, 0, 0, 0]), (1, 2), "none");
    assert_eq!(command(&[4, 0]), (1, 2), "cut short");
    assert_eq!(command(&[1, 0, 6, 6]), (1, 2), "another command");
    // Frames of the second pair go, too.
    let at = DATA + 0x10_0000;
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend(frame(64, 2));
    driver.memory().write_slice(&bytes, GuestAddress(at)).unwrap();
    driver.offer(
        3,
        &[Buffer {
            address: at,
            len: bytes.len() as u32,
            writable: false,
        }],
    );
    driver.wait_used(3);
    assert_eq!(wire.receive(), frame(64, 2));
    // Another device goes on with both, and a reset ends that.
    driver.quiesce();
    let state = driver.device.save().unwrap();
    driver.device.restore(state).unwrap();
    assert_eq!(driver.device.pairs.active(), 2);
    driver.device.reset();
    assert_eq!(driver.device.pairs.active(), 1);
}

#[test]
fn the_driver_reads_what_the_spec_says() {
    let device = Net::new(NetSpec {
        queue_pairs: 3,
        ..spec()
    })
    .unwrap();
    let mut config = [0xff; 16];
    device.read_config(0, &mut config);
    assert_eq!(config, [2, 0, 0, 0, 0, 1, 0, 0, 3, 0, 0xdc, 5, 0, 0, 0, 0]);
    assert_eq!(device.identity().queue_sizes.len(), 7);
    assert_eq!(
        device.identity().features & 1 << VIRTIO_NET_F_MQ,
        1 << VIRTIO_NET_F_MQ
    );
    let device = Net::new(NetSpec { mtu: None, ..spec() }).unwrap();
    assert_eq!(device.identity().features & 1 << VIRTIO_NET_F_MTU, 0);
    assert_eq!(device.identity().queue_sizes.len(), 2);
}

#[test]
fn specs_that_make_no_device_are_refused_with_the_reason() {
    let refusal = |spec| Net::new(spec).err().expect("a refusal").to_string();
    assert!(
        refusal(NetSpec {
            queue_pairs: 0,
            ..spec()
        })
        .contains("0 pairs")
    );
    assert!(
        refusal(NetSpec {
            queue_pairs: 9,
            ..spec()
        })
        .contains("1 to 8")
    );
    assert!(
        refusal(NetSpec {
            mac: [1; 6],
            ..spec()
        })
        .contains("a group's")
    );
    assert!(
        refusal(NetSpec {
            mtu: Some(67),
            ..spec()
        })
        .contains("68 or more")
    );
    let null = || Resource::Path("/dev/null".into());
    let two = NetSpec {
        taps: vec![null(), null()],
        ..spec()
    };
    assert!(refusal(two).contains("got 2 descriptors"));
    let no_tap = NetSpec {
        taps: vec![null()],
        ..spec()
    };
    assert!(refusal(no_tap).contains("is no TAP device"));
    if Wire::new(1).is_some() {
        let file = tap("plain0", libc::IFF_TAP | libc::IFF_NO_PI);
        let plain = NetSpec {
            taps: vec![Resource::Fd(file.into_raw_fd())],
            ..spec()
        };
        assert!(refusal(plain).contains("its flags are"));
    }
}

#[test]
fn a_state_of_another_device_is_refused() {
    let mut device = Net::new(spec()).unwrap();
    let other = Net::new(NetSpec {
        queue_pairs: 2,
        ..spec()
    })
    .unwrap()
    .save()
    .unwrap();
    assert!(device.restore(other).is_err());
    let mut damaged = device.save().unwrap();
    damaged["active-pairs"] = 2.into();
    assert!(device.restore(damaged).is_err());
}
