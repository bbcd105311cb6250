//! What the kernel logs to group 100 of nfnetlink_log.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
    sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// `NFNL_SUBSYS_ULOG` and `NFULNL_MSG_CONFIG`.
const CONFIG: u16 = 4 << 8 | 1;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
const GROUP: u16 = 100;

pub(crate) struct Log(OwnedFd);

impl Log {
    /// Listens to the namespace of this thread.
    pub(crate) fn open() -> Self {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        let socket = socket.unwrap();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 300_000)).unwrap();
        let log = Self(socket);
        // NFULA_CFG_CMD: bind. NFULA_CFG_MODE: all of a packet. NFULA_CFG_QTHRESH: each at once.
        log.configure(1, &[1]);
        log.configure(2, &[0, 0, 0xff, 0xff, 2, 0]);
        log.configure(5, &[0, 0, 0, 1]);
        log
    }

    fn configure(&self, attribute: u16, value: &[u8]) {
        let attribute_len = 4 + value.len();
        let padded = attribute_len.next_multiple_of(4);
        let mut message = Vec::new();
        message.extend((20 + padded as u32).to_ne_bytes());
        message.extend([CONFIG.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
        message.extend([0; 8]);
        message.extend([&[0, 0][..], &GROUP.to_be_bytes()].concat());
        message.extend([(attribute_len as u16).to_ne_bytes(), attribute.to_ne_bytes()].concat());
        message.extend(value);
        message.resize(20 + padded, 0);
        let none: &[ControlMessage] = &[];
        let sent = sendmsg::<NetlinkAddr>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&message)],
            none,
            MsgFlags::empty(),
            Some(&NetlinkAddr::new(0, 0)),
        );
        assert_eq!(sent, Ok(message.len()));
    }

    /// How many packets have been logged with a prefix, until there are no more.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let wanted = format!("{prefix}\0");
        let mut count = 0;
        let mut buffer = [0; 65536];
        while let Ok(len) = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let windows = buffer[..len].windows(wanted.len());
            count += windows.filter(|window| *window == wanted.as_bytes()).count();
        }
        count
    }
}
