//! What is said between `hull`, the supervisor on the host and the agent in the helper VM.
//!
//! Every connection, on the supervisor's control socket as on the link into the VM, begins with one
//! [`Message::Request`]. After [`Request::Api`] the rest is the Docker Engine API's own bytes; after the
//! others both sides send more messages. A message is framed as a kind (1 byte), the length of its payload
//! (4 bytes, little endian) and the payload: bytes as they are, everything else as JSON.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::host::Accelerator;
use crate::host_settings::HostSettings;
use crate::ports::{HostPort, PortAnswer, PortOrder};

/// The largest payload that is accepted, in bytes.
pub const MAX_PAYLOAD: usize = 256 * 1024;
const HEADER: usize = 5;

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The Docker Engine API: what follows are its bytes, in both directions.
    Api,
    /// Run a command as root in the helper VM.
    Shell(ShellSpec),
    /// How is the helper VM? Answered with [`Message::Status`].
    Status,
    /// Shut the helper VM down. Answered with [`Message::Stopped`].
    Stop,
    /// Shut the helper VM down unless something goes on in it. Answered with [`Message::Stopped`] or [`Message::Busy`].
    StopIfIdle,
    /// To the agent: what holds for hulld. It is started once this is known.
    Configure(HostSettings),
    /// To the agent: how many microVMs run? Answered with [`Message::MicroVms`].
    CountMicroVms,
    /// To the agent: does the VM still go on? Answered with [`Message::Alive`].
    Pulse,
    /// To the agent: which ports of the host is the VM to have? From then on it sends [`Message::PortOrder`], each of which is
    /// answered with [`Message::PortAnswer`]. When this connection ends, the host listens on none of them.
    HostPorts,
    /// To the agent: a connection to a port of the host, or a client's datagrams. Answered with [`Message::Connected`] or
    /// [`Message::Error`]; after the former come the connection's own bytes, or datagrams as [`crate::ports`] frames them.
    Connect(HostPort),
}

/// A command to be run in the helper VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSpec {
    /// The program and its arguments; a login shell when empty.
    pub command: Vec<String>,
    /// The caller's terminal, when its standard input is one.
    pub terminal: Option<Terminal>,
}

/// A terminal for the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub kind: String,
    /// Its size at the start.
    pub size: WindowSize,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What the agent tells the supervisor while the VM comes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A step that takes long enough to be worth a line.
    Progress(String),
    /// hulld answers.
    Ready,
    /// hulld cannot be brought up.
    Failed(String),
}

/// A running helper VM, as its supervisor describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// What runs it.
    pub accelerator: Accelerator,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Its CPUs.
    pub cpus: u32,
    /// Seconds since it was ready.
    pub uptime_seconds: u64,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Process id of QEMU.
    pub qemu_pid: u32,
    /// Where the Docker Engine API is served.
    pub api_socket: PathBuf,
    /// Which build of the helper VM's image it was started from.
    pub image: String,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// What the connection is for: always the first message.
    Request(Request),
    /// The start of the VM.
    Event(Event),
    /// Answer to [`Request::Status`].
    Status(MachineStatus),
    /// Answer to [`Request::Stop`].
    Stopped,
    /// What was asked for failed, and why.
    Error(String),
    /// Standard input of the command.
    Input(Vec<u8>),
    /// The end of its standard input.
    InputEnd,
    /// The terminal has a new size.
    Resize(WindowSize),
    /// Standard output of the command, or what its terminal shows.
    Output(Vec<u8>),
    /// Standard error of the command.
    ErrorOutput(Vec<u8>),
    /// The command ended with this exit code, 128 + n after signal n.
    Exit(u8),
    /// Answer to [`Request::StopIfIdle`]: what goes on.
    Busy(String),
    /// Answer to [`Request::CountMicroVms`].
    MicroVms(u32),
    /// Answer to [`Request::Pulse`].
    Alive,
    /// From the agent, after [`Request::HostPorts`].
    PortOrder(PortOrder),
    /// To the agent: what became of its order.
    PortAnswer(PortAnswer),
    /// Answer to [`Request::Connect`].
    Connected,
}

/// A message that cannot be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The connection broke, or ended in the middle of a message.
    #[error("the connection to the helper VM broke: {0}")]
    Io(#[from] io::Error),
    /// A payload larger than [`MAX_PAYLOAD`].
    #[error(
        "a message of {length} bytes on the connection to the helper VM is over the limit of {MAX_PAYLOAD}"
    )]
    TooLarge {
        /// What the header said.
        length: usize,
    },
    /// A kind that this version does not know.
    #[error(
        "a message of unknown kind {kind} on the connection to the helper VM: it runs another version of hull"
    )]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A payload that is not what its kind says.
    #[error("a message of kind {kind} on the connection to the helper VM does not parse: {source}")]
    Syntax {
        /// The kind.
        kind: u8,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Message::Request(_) => 1,
            Message::Event(_) => 2,
            Message::Status(_) => 3,
            Message::Stopped => 4,
            Message::Error(_) => 5,
            Message::Input(_) => 6,
            Message::InputEnd => 7,
            Message::Resize(_) => 8,
            Message::Output(_) => 9,
            Message::ErrorOutput(_) => 10,
            Message::Exit(_) => 11,
            Message::Busy(_) => 12,
            Message::MicroVms(_) => 13,
            Message::Alive => 14,
            Message::PortOrder(_) => 15,
            Message::PortAnswer(_) => 16,
            Message::Connected => 17,
        }
    }

    /// The message as it goes over the wire.
    pub fn encode(&self) -> Result<Vec<u8>, ProtocolError> {
        fn json(kind: u8, value: &impl Serialize) -> Result<Cow<'static, [u8]>, ProtocolError> {
            let encoded = serde_json::to_vec(value);
            encoded
                .map(Cow::Owned)
                .map_err(|source| ProtocolError::Syntax { kind, source })
        }
        let kind = self.kind();
        let payload: Cow<'_, [u8]> = match self {
            Message::Input(bytes) | Message::Output(bytes) | Message::ErrorOutput(bytes) => bytes.into(),
            Message::Error(text) | Message::Busy(text) => text.as_bytes().into(),
            Message::Stopped | Message::InputEnd | Message::Alive | Message::Connected => Cow::default(),
            Message::Exit(code) => std::slice::from_ref(code).into(),
            Message::Request(request) => json(kind, request)?,
            Message::Event(event) => json(kind, event)?,
            Message::Status(status) => json(kind, status)?,
            Message::Resize(size) => json(kind, size)?,
            Message::MicroVms(count) => json(kind, count)?,
            Message::PortOrder(order) => json(kind, order)?,
            Message::PortAnswer(answer) => json(kind, answer)?,
        };
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or(ProtocolError::TooLarge {
                length: payload.len(),
            })?;
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.push(kind);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&payload);
        Ok(frame)
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, ProtocolError> {
        fn json<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, ProtocolError> {
            serde_json::from_slice(payload).map_err(|source| ProtocolError::Syntax { kind, source })
        }
        Ok(match kind {
            1 => Message::Request(json(kind, &payload)?),
            2 => Message::Event(json(kind, &payload)?),
            3 => Message::Status(json(kind, &payload)?),
            4 => Message::Stopped,
            5 => Message::Error(String::from_utf8_lossy(&payload).into_owned()),
            6 => Message::Input(payload),
            7 => Message::InputEnd,
            8 => Message::Resize(json(kind, &payload)?),
            9 => Message::Output(payload),
            10 => Message::ErrorOutput(payload),
            11 => Message::Exit(payload.first().copied().unwrap_or(u8::MAX)),
            12 => Message::Busy(String::from_utf8_lossy(&payload).into_owned()),
            13 => Message::MicroVms(json(kind, &payload)?),
            14 => Message::Alive,
            15 => Message::PortOrder(json(kind, &payload)?),
            16 => Message::PortAnswer(json(kind, &payload)?),
            17 => Message::Connected,
            kind => return Err(ProtocolError::UnknownKind { kind }),
        })
    }

    /// Write one message and flush it.
    pub async fn send<W: AsyncWrite + Unpin>(&self, to: &mut W) -> Result<(), ProtocolError> {
        to.write_all(&self.encode()?).await?;
        to.flush().await?;
        Ok(())
    }

    /// Read one message; `None` when the other side ended the connection between two messages.
    pub async fn receive<R: AsyncRead + Unpin>(from: &mut R) -> Result<Option<Self>, ProtocolError> {
        let kind = match from.read_u8().await {
            Ok(kind) => kind,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let length = from.read_u32_le().await? as usize;
        if length > MAX_PAYLOAD {
            return Err(ProtocolError::TooLarge { length });
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Message::decode(kind, payload).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn every_kind() -> Vec<Message> {
        let size = WindowSize {
            rows: 24,
            columns: 80,
        };
        let status = MachineStatus {
            accelerator: Accelerator::Tcg,
            memory_mib: 4096,
            cpus: 2,
            uptime_seconds: 7,
            pid: 1,
            qemu_pid: 2,
            api_socket: "/run/hull/hull.sock".into(),
            image: "x".to_owned(),
        };
        let shell = ShellSpec {
            command: vec!["ls".to_owned(), "-l".to_owned()],
            terminal: Some(Terminal {
                kind: "xterm".to_owned(),
                size,
            }),
        };
        let port: HostPort = serde_json::from_str(r#"{"protocol":"udp","address":"::","port":53}"#).unwrap();
        vec![
            Message::Request(Request::Api),
            Message::Request(Request::Shell(shell)),
            Message::Request(Request::Status),
            Message::Request(Request::Stop),
            Message::Request(Request::StopIfIdle),
            Message::Request(Request::Configure(HostSettings {
                certificate_file: Some("/ca.pem".into()),
                ..HostSettings::default()
            })),
            Message::Request(Request::CountMicroVms),
            Message::Request(Request::Pulse),
            Message::Request(Request::HostPorts),
            Message::Request(Request::Connect(port)),
            Message::Event(Event::Progress("a step".to_owned())),
            Message::Event(Event::Ready),
            Message::Event(Event::Failed("no".to_owned())),
            Message::Status(status),
            Message::Stopped,
            Message::Error("why".to_owned()),
            Message::Input(vec![0, 255, 10]),
            Message::InputEnd,
            Message::Resize(size),
            Message::Output(vec![1; 70_000]),
            Message::ErrorOutput(Vec::new()),
            Message::Exit(130),
            Message::Busy("a pull".to_owned()),
            Message::MicroVms(70_000),
            Message::Alive,
            Message::PortOrder(PortOrder::Listen { id: 1, port }),
            Message::PortOrder(PortOrder::Close { id: 1 }),
            Message::PortAnswer(PortAnswer { id: 1, refusal: None }),
            Message::Connected,
        ]
    }

    #[test]
    fn every_message_survives_the_wire() {
        let wire: Vec<u8> = every_kind().iter().flat_map(|m| m.encode().unwrap()).collect();
        run(async {
            let mut from = wire.as_slice();
            for expected in every_kind() {
                assert_eq!(Message::receive(&mut from).await.unwrap(), Some(expected));
            }
            assert_eq!(Message::receive(&mut from).await.unwrap(), None);
        });
    }

    #[test]
    fn hostile_frames_are_refused_without_allocating_what_they_claim() {
        let huge = [6, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            run(Message::receive(&mut &huge[..])),
            Err(ProtocolError::TooLarge { length: 0xffff_ffff })
        ));
        let unknown = [99, 0, 0, 0, 0];
        assert!(matches!(
            run(Message::receive(&mut &unknown[..])),
            Err(ProtocolError::UnknownKind { kind: 99 })
        ));
        let no_json = [1, 1, 0, 0, 0, b'{'];
        assert!(matches!(
            run(Message::receive(&mut &no_json[..])),
            Err(ProtocolError::Syntax { kind: 1, .. })
        ));
        let torn = [6, 4, 0, 0, 0, b'a'];
        assert!(matches!(
            run(Message::receive(&mut &torn[..])),
            Err(ProtocolError::Io(_))
        ));
    }
}
