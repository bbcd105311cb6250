//! `hull machine shell`: a command in the helper VM with the caller's standard streams.

use std::io::{self, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::handle::{Machine, MachineError};
use crate::protocol::{Message, ProtocolError, Request, ShellSpec, Terminal, WindowSize};

const READ_BUFFER: usize = 32 * 1024;
/// Blocks of standard input that are read ahead of the connection.
const READ_AHEAD: usize = 4;

impl Machine {
    /// Run `command` (a login shell when empty) as root in the helper VM, with this process's standard
    /// streams, and return its exit code: 128 + n after signal n, 127 for no such command.
    ///
    /// With a terminal as standard input the command gets a terminal too, which follows its size.
    pub async fn shell(&self, command: &[String]) -> Result<u8, MachineError> {
        let control = self.connect().await?.ok_or(MachineError::NotRunning)?;
        let raw = RawTerminal::enter();
        let terminal = raw.as_ref().map(|_| Terminal {
            kind: std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()),
            size: window_size(),
        });
        let spec = ShellSpec {
            command: command.to_vec(),
            terminal,
        };
        let (mut from, mut to) = control.into_split();
        Message::Request(Request::Shell(spec)).send(&mut to).await?;
        let sender = tokio::spawn(send_input(to, raw.is_some()));
        let result = receive_output(&mut from).await;
        sender.abort();
        result
    }
}

async fn receive_output(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<u8, MachineError> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match Message::receive(from).await? {
            Some(Message::Output(bytes)) => {
                stdout.write_all(&bytes).await.map_err(ProtocolError::Io)?;
                stdout.flush().await.map_err(ProtocolError::Io)?;
            }
            Some(Message::ErrorOutput(bytes)) => {
                stderr.write_all(&bytes).await.map_err(ProtocolError::Io)?;
                stderr.flush().await.map_err(ProtocolError::Io)?;
            }
            Some(Message::Exit(code)) => return Ok(code),
            Some(Message::Error(reason)) => return Err(MachineError::Refused(reason)),
            Some(_) => {}
            None => {
                return Err(MachineError::Refused(
                    "the helper VM went away while the command ran".to_owned(),
                ));
            }
        }
    }
}

/// Send standard input, and changes of the window's size, for as long as the command runs: the connection's
/// end would tell the agent that the caller is gone.
async fn send_input(mut to: OwnedWriteHalf, terminal: bool) -> Result<(), ProtocolError> {
    let mut input = read_stdin();
    let mut resized = signal(SignalKind::window_change())?;
    let mut ended = false;
    loop {
        let message = tokio::select! {
            block = input.recv(), if !ended => block.map_or(Message::InputEnd, Message::Input),
            _ = resized.recv() => {
                if !terminal {
                    continue;
                }
                Message::Resize(window_size())
            }
        };
        ended |= message == Message::InputEnd;
        message.send(&mut to).await?;
    }
}

/// Standard input, read on a thread of its own: a read from it cannot be cancelled, and must not keep the
/// runtime from ending.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (blocks, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BUFFER];
        while let Ok(n @ 1..) = io::Read::read(&mut io::stdin(), &mut buffer) {
            if blocks.blocking_send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn window_size() -> WindowSize {
    termios::tcgetwinsize(io::stdin()).map_or(
        WindowSize {
            rows: 24,
            columns: 80,
        },
        |w| WindowSize {
            rows: w.ws_row,
            columns: w.ws_col,
        },
    )
}

/// The caller's terminal in raw mode; as it was before again when dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// `None` when standard input is no terminal.
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that is gone.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
