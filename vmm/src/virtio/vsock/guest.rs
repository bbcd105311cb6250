//! The guest's end of a vsock device, for tests.

use std::collections::{HashMap, VecDeque};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};
use vm_spec::{GuestPort, Resource, VsockSpec};

use super::Vsock;
use super::packet::{HEADER_LEN, HOST_CID, Header, STREAM, op};
use crate::memory::MemoryLayout;
use crate::virtio::driver::{Buffer, Driver};

/// The guest's context id.
pub const CID: u64 = 42;

/// The port that the spec joins to a unix socket.
pub const HOST_PORT: u32 = 1000;

const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;

/// Guest memory in bytes.
const RAM: u64 = 32 << 20;

/// Where receive buffers lie, and how far apart. Linux posts 4 KiB and a header.
const RX_BUFFERS: u64 = 4 << 20;
const RX_STRIDE: u64 = 8 << 10;
pub const RX_LEN: u32 = 4096 + HEADER_LEN as u32;

/// Where packets to send lie, and how far apart.
const TX_BUFFERS: u64 = 8 << 20;
const TX_STRIDE: u64 = 128 << 10;

/// A packet that the guest received.
pub type Received = (Header, Vec<u8>);

/// A guest with a vsock device, and the host's end of its sockets.
pub struct Guest {
    pub driver: Driver<Vsock>,
    /// The socket that [`HOST_PORT`] leads to.
    pub service: UnixListener,
    pub dir: TempDir,
    /// Whether a receive buffer is posted again as soon as it has been read.
    pub reposts: bool,
    rx_addresses: HashMap<u16, u64>,
    rx_free: Vec<u64>,
    tx_turn: u64,
    received: VecDeque<Received>,
}

pub fn spec(dir: &TempDir) -> VsockSpec {
    VsockSpec {
        guest_cid: CID as u32,
        listener: Resource::Path(dir.path().join("vsock")),
        guest_ports: vec![GuestPort {
            port: HOST_PORT,
            socket: dir.path().join("service"),
        }],
    }
}

impl Guest {
    /// A guest whose driver is up and has posted all its receive buffers.
    pub fn new() -> Guest {
        let mut guest = Guest::without_buffers();
        guest.reposts = true;
        guest.post_all();
        guest
    }

    /// A guest whose driver is up and has not posted any buffer.
    pub fn without_buffers() -> Guest {
        let dir = tempfile::tempdir().unwrap();
        let service = UnixListener::bind(dir.path().join("service")).unwrap();
        let device = Vsock::new(spec(&dir)).unwrap();
        let memory = MemoryLayout::with_ram(RAM).unwrap().finish().unwrap();
        let mut driver = Driver::new(device, memory, None);
        driver.activate();
        let rx_free = (0..128).map(|slot| RX_BUFFERS + slot * RX_STRIDE).collect();
        Guest {
            driver,
            service,
            dir,
            reposts: false,
            rx_addresses: HashMap::new(),
            rx_free,
            tx_turn: 0,
            received: VecDeque::new(),
        }
    }

    /// Posts every receive buffer that is free.
    pub fn post_all(&mut self) {
        while let Some(address) = self.rx_free.pop() {
            self.post(address, RX_LEN);
        }
    }

    fn post(&mut self, address: u64, len: u32) {
        let head = self.driver.offer(
            RX,
            &[Buffer {
                address,
                len,
                writable: true,
            }],
        );
        self.rx_addresses.insert(head, address);
    }

    /// Posts one receive buffer of `len` bytes.
    pub fn post_one(&mut self, len: u32) {
        let address = self.rx_free.pop().unwrap();
        self.post(address, len);
    }

    /// Posts a buffer for an event.
    pub fn post_event(&mut self) -> u64 {
        let address = 2 << 20;
        self.driver
            .memory()
            .write_slice(&[0xff; 4], GuestAddress(address))
            .unwrap();
        self.driver.offer(
            EVENTS,
            &[Buffer {
                address,
                len: 4,
                writable: true,
            }],
        );
        address
    }

    /// Waits for an event; returns how many bytes it has.
    pub fn wait_event(&mut self) -> u32 {
        self.driver.wait_used(EVENTS).1
    }

    /// The event that was written last, if any was.
    pub fn event(&mut self) -> Option<u32> {
        self.driver.used(EVENTS).map(|(_, len)| len)
    }

    /// Sends raw bytes as one packet, cut into buffers of the lengths given, and does not wait.
    pub fn send_raw(&mut self, bytes: &[u8], cuts: &[usize]) {
        let begin = TX_BUFFERS + (self.tx_turn % 64) * TX_STRIDE;
        self.tx_turn += 1;
        self.driver
            .memory()
            .write_slice(bytes, GuestAddress(begin))
            .unwrap();
        let mut address = begin;
        let mut buffers = Vec::new();
        for &len in cuts {
            buffers.push(Buffer {
                address,
                len: len as u32,
                writable: false,
            });
            address += len as u64;
        }
        self.driver.offer(TX, &buffers);
    }

    /// Sends a packet and waits until the device has taken it.
    pub fn send(&mut self, header: Header, payload: &[u8]) {
        let header = Header {
            len: payload.len() as u32,
            ..header
        };
        self.send_as_is(header, payload);
    }

    /// The same without putting the header's length right.
    pub fn send_as_is(&mut self, header: Header, payload: &[u8]) {
        let bytes = [&header.to_bytes()[..], payload].concat();
        match payload.len() {
            0 => self.send_raw(&bytes, &[HEADER_LEN]),
            len => self.send_raw(&bytes, &[HEADER_LEN, len]),
        }
        self.driver.wait_used(TX);
    }

    /// Whether the device has given a sent packet back.
    pub fn packet_taken(&mut self) -> bool {
        self.driver.used(TX).is_some()
    }

    /// A header of the connection between `guest_port` and `host_port` that grants plenty of credit.
    pub fn header(guest_port: u32, host_port: u32, op: u16) -> Header {
        Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            kind: STREAM,
            op,
            buf_alloc: 1 << 30,
            ..Header::default()
        }
    }

    /// Takes in what the device has sent.
    pub fn collect(&mut self) {
        while let Some((head, len)) = self.driver.used(RX) {
            let address = self.rx_addresses.remove(&head).expect("a buffer that was posted");
            let mut bytes = vec![0; len as usize];
            self.driver
                .memory()
                .read_slice(&mut bytes, GuestAddress(address))
                .unwrap();
            if len > 0 {
                let header = Header::from_bytes(bytes[..HEADER_LEN].try_into().unwrap());
                assert_eq!(header.len as usize, bytes.len() - HEADER_LEN, "{header:?}");
                self.received.push_back((header, bytes[HEADER_LEN..].to_vec()));
            }
            if self.reposts {
                self.post(address, RX_LEN);
            } else {
                self.rx_free.push(address);
            }
        }
    }

    /// The next packet from the device, if one comes within `patience`.
    pub fn next_within(&mut self, patience: Duration) -> Option<Received> {
        let deadline = Instant::now() + patience;
        loop {
            self.collect();
            if let Some(packet) = self.received.pop_front() {
                return Some(packet);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The next packet from the device.
    pub fn next(&mut self) -> Received {
        self.next_within(Duration::from_secs(10))
            .expect("a packet from the device")
    }

    /// The next packet, which must be a `wanted`.
    pub fn expect(&mut self, wanted: u16) -> Received {
        let received = self.next();
        assert_eq!(received.0.op, wanted, "{:?}", received.0);
        received
    }

    /// Nothing more comes from the device.
    pub fn expect_silence(&mut self) {
        let received = self.next_within(Duration::from_millis(50));
        assert!(received.is_none(), "{:?}", received.map(|(header, _)| header));
    }

    /// Opens a connection from `guest_port` to the service.
    pub fn connect(&mut self, guest_port: u32) -> std::os::unix::net::UnixStream {
        self.send(Guest::header(guest_port, HOST_PORT, op::REQUEST), &[]);
        let (stream, _) = self.service.accept().unwrap();
        let (header, _) = self.expect(op::RESPONSE);
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
        assert_eq!((header.src_port, header.dst_port), (HOST_PORT, guest_port));
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}
