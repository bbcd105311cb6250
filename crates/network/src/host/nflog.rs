//! Packets that the firewall logs, over nfnetlink_log.

use std::io;
use std::time::Duration;

use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, ConfigNla, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use thiserror::Error;
use tokio::time::timeout;

use crate::firewall::{LOG_GROUP, LOG_LENGTH};

/// How many packets the kernel collects before it tells of them. A container whose packet was refused may end at once, and its
/// interface may have another container; the rules limit how many packets there are.
const COLLECTED: u32 = 1;

/// For how long the kernel's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How messages are aligned (`NLMSG_ALIGNTO`), and the length of their headers, in bytes.
const ALIGNMENT: usize = 4;
const HEADER: usize = 16;

/// Refused packets cannot be heard of.
#[derive(Debug, Error)]
pub(super) enum NflogError {
    /// There is no socket.
    #[error("cannot open a socket for netfilter: {0}")]
    Open(io::Error),
    /// The kernel would not have it.
    #[error(
        "the kernel does not tell what it logs for group {LOG_GROUP}: {0}; it needs nfnetlink_log, built in or as a module that is \
         installed, and nobody else who listens to the group"
    )]
    Bind(io::Error),
}

/// What is logged in the network namespace that this was opened in.
pub(super) struct Nflog {
    socket: TokioSocket,
}

/// A packet that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    /// What the rule puts before it.
    pub(super) prefix: String,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
}

impl Nflog {
    /// Listens from now on; within a tokio runtime.
    pub(super) async fn open() -> Result<Self, NflogError> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER).map_err(NflogError::Open)?;
        socket.socket_mut().bind_auto().map_err(NflogError::Open)?;
        let request = config_request(
            NetfilterProtoFamily::Unspec,
            LOG_GROUP,
            vec![
                ConfigCmd::Bind.into(),
                ConfigMode::new_packet(LOG_LENGTH).into(),
                ConfigNla::QThresh(COLLECTED),
            ],
        );
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let asked = async {
            socket.send(&bytes).await?;
            let (answer, _) = socket.recv_from_full().await?;
            acknowledged(&answer)
        };
        let asked = timeout(PATIENCE, asked).await;
        asked
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(NflogError::Bind)?;
        Ok(Self { socket })
    }

    /// The packets that were logged next. Some are lost when there are too many.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Logged>> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((bytes, _)) => return Ok(packets(&bytes)),
                // The kernel had more to say than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether an answer says that a request was carried out.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(answer);
    match message.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("the answer is none")),
    }
}

/// The packets in what the kernel said; what is no packet is left out.
fn packets(mut bytes: &[u8]) -> Vec<Logged> {
    let mut packets = Vec::new();
    while let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(bytes) {
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        if let NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::ULog(ULogMessage::Packet(parts)),
            ..
        }) = message.payload
        {
            packets.extend(packet(parts));
        }
        let end = length.max(HEADER).checked_next_multiple_of(ALIGNMENT);
        bytes = end.and_then(|end| bytes.get(end..)).unwrap_or_default();
    }
    packets
}

fn packet(parts: Vec<PacketNla>) -> Option<Logged> {
    let (mut prefix, mut head) = (None, None);
    for part in parts {
        match part {
            PacketNla::Prefix(text) => prefix = text.into_string().ok(),
            PacketNla::Payload(bytes) => head = Some(bytes),
            _ => {}
        }
    }
    Some(Logged {
        prefix: prefix?,
        head: head?,
    })
}
