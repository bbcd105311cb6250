//! One attached container: a thread for each direction between the hijacked connection and the
//! process's own descriptors. Blocking reads and writes give the back-pressure: a slow reader of
//! our output stops the reads from the daemon, and no byte is kept beyond one buffer.

use std::io::{self, Read, Write};
use std::thread;

use tokio::sync::mpsc;

use crate::api::{Hijacked, Input, Output};
use crate::stream::escape::EscapeFilter;
use crate::stream::{Channel, Demux, Descriptor, DetachKeys};

const BUFFER_SIZE: usize = 64 * 1024;

/// How to join the streams.
#[derive(Debug)]
pub(crate) struct SessionSpec {
    /// The container has a terminal: its output is one raw stream.
    pub(crate) tty: bool,
    /// Our standard input is the container's.
    pub(crate) stdin: bool,
    /// What to look for in the input of a terminal.
    pub(crate) detach_keys: DetachKeys,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The container's output is over.
    OutputOver,
    /// The user typed the detach keys.
    Detached,
}

/// Running threads. Dropping it leaves them to the end of the process, since a read of a terminal
/// cannot be taken back.
#[derive(Debug)]
pub(crate) struct Session {
    ends: mpsc::Receiver<io::Result<End>>,
}

impl Session {
    /// Starts the threads.
    pub(crate) fn start(stream: Hijacked, spec: SessionSpec) -> io::Result<Self> {
        let (output, input) = stream.split()?;
        let (sender, ends) = mpsc::channel(2);
        if spec.stdin {
            let filter = spec.tty.then(|| EscapeFilter::new(spec.detach_keys));
            let stdin = Descriptor::stdin()?;
            let sender = sender.clone();
            thread::Builder::new().name("stdin".to_owned()).spawn(move || {
                // The container may close its input at any time: that is no failure here.
                if let Ok(true) = pump_input(stdin, input, filter) {
                    drop(sender.blocking_send(Ok(End::Detached)));
                }
            })?;
        }
        let (stdout, stderr) = (Descriptor::stdout()?, Descriptor::stderr()?);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let result = pump_output(output, spec.tty, stdout, stderr);
            drop(sender.blocking_send(result.map(|()| End::OutputOver)));
        })?;
        Ok(Self { ends })
    }

    /// Waits for the session's end.
    pub(crate) async fn end(mut self) -> io::Result<End> {
        self.ends.recv().await.unwrap_or(Ok(End::OutputOver))
    }
}

/// Copies until the end of the input or the detach keys; true for the latter.
fn pump_input(mut stdin: impl Read, mut input: Input, mut filter: Option<EscapeFilter>) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut passed = Vec::new();
    loop {
        let count = stdin.read(&mut buffer)?;
        if count == 0 {
            input.close()?;
            return Ok(false);
        }
        match &mut filter {
            None => input.write_all(&buffer[..count])?,
            Some(filter) => {
                passed.clear();
                let detached = filter.filter(&buffer[..count], &mut passed);
                input.write_all(&passed)?;
                if detached {
                    return Ok(true);
                }
            }
        }
    }
}

fn pump_output(
    mut output: Output,
    tty: bool,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut demux = Demux::default();
    loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The daemon went away; the wait for the exit code tells why.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        };
        if tty {
            stdout.write_all(&buffer[..count])?;
            continue;
        }
        demux.push(&buffer[..count], |channel, payload| match channel {
            Channel::Stdout => stdout.write_all(payload),
            Channel::Stderr => stderr.write_all(payload),
        })?;
    }
    if tty || demux.is_complete() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the daemon's stream ended in the middle of a piece",
    ))
}
