//! Signals that reach `hull` while a container is attached, and what is done with them.

use std::future::{pending, poll_fn};
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::api::{Client, Target};
use crate::failure::Failure;
use crate::terminal::{self, WindowSize};

/// A user who interrupts this often wants out, whatever the container makes of it.
const PATIENCE: usize = 3;

/// What has a meaning for a process in a container. Stop signals stay with the shell's job
/// control, faults with this process.
const PROXIED: [(Signal, &str); 7] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
];

/// What ends this process. In raw mode the keyboard sends none of them.
const ENDING: [(Signal, &str); 4] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::TERM, "SIGTERM"),
];

/// Whose terminal has a size to set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resize<'a> {
    /// A container's.
    Container(&'a str),
    /// An exec's.
    Exec(&'a str),
}

impl Resize<'_> {
    /// Tells the daemon the size of our terminal. A process that has ended needs none, so a
    /// refusal means nothing.
    pub(crate) async fn to(self, client: &Client, size: WindowSize) {
        let segments = match self {
            Self::Container(id) => ["containers", id, "resize"],
            Self::Exec(id) => ["exec", id, "resize"],
        };
        let target = Target::new(&segments)
            .query("h", &size.rows.to_string())
            .query("w", &size.columns.to_string());
        drop(client.post_empty(target).await);
    }
}

/// Who the signals are for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recipient<'a> {
    /// The container: they are sent on to it.
    Container(&'a str),
    /// The terminal: its size is sent on; what would end us ends us, in good order.
    Terminal(Resize<'a>),
    /// Nobody: they do what they do to any process.
    Nobody,
}

/// Runs `work` until it is done, or until a signal ends us in good order: what `work` holds is given up.
pub(crate) async fn until_ended<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut sources = Vec::with_capacity(ENDING.len());
    for (signal, name) in ENDING {
        sources.push((signal, name, listen(signal)?));
    }
    let ended = poll_fn(|context| {
        for (signal, name, source) in &mut sources {
            if source.poll_recv(context).is_ready() {
                return Poll::Ready(Failure::killed_by(signal.as_raw(), name));
            }
        }
        Poll::Pending
    });
    tokio::select! {
        biased;
        done = work => Ok(done),
        failure = ended => Err(failure),
    }
}

/// Catches signals from its creation on.
pub(crate) struct Relay<'a> {
    client: &'a Client,
    recipient: Recipient<'a>,
    sources: Vec<(Signal, &'static str, unix::Signal)>,
    /// Came before the container was there to get them.
    held: Vec<(Signal, &'static str)>,
    interruptions: usize,
}

impl<'a> Relay<'a> {
    /// Installs the handlers.
    pub(crate) fn new(client: &'a Client, recipient: Recipient<'a>) -> io::Result<Self> {
        let wanted: &[(Signal, &'static str)] = match recipient {
            Recipient::Container(_) => &PROXIED,
            Recipient::Terminal(_) => &ENDING,
            Recipient::Nobody => &[],
        };
        let mut sources = Vec::with_capacity(wanted.len() + 1);
        for &(signal, name) in wanted {
            sources.push((signal, name, listen(signal)?));
        }
        if let Recipient::Terminal(_) = recipient {
            sources.push((Signal::WINCH, "SIGWINCH", listen(Signal::WINCH)?));
        }
        Ok(Self {
            client,
            recipient,
            sources,
            held: Vec::new(),
            interruptions: 0,
        })
    }

    /// Runs `work`, keeping signals for a container that is not there yet.
    pub(crate) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            failure = async {
                loop {
                    let signal = self.next().await;
                    if let Err(failure) = self.note(signal) {
                        break failure;
                    }
                    self.held.push(signal);
                }
            } => Err(failure),
        }
    }

    /// Runs `work`, passing signals on as they come.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            failure = async {
                for signal in std::mem::take(&mut self.held) {
                    self.pass_on(signal).await;
                }
                loop {
                    let signal = self.next().await;
                    if let Err(failure) = self.note(signal) {
                        break failure;
                    }
                    self.pass_on(signal).await;
                }
            } => Err(failure),
        }
    }

    async fn next(&mut self) -> (Signal, &'static str) {
        if self.sources.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            for (signal, name, source) in &mut self.sources {
                if source.poll_recv(context).is_ready() {
                    return Poll::Ready((*signal, *name));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn note(&mut self, (signal, name): (Signal, &'static str)) -> Result<(), Failure> {
        match self.recipient {
            Recipient::Terminal(_) if signal != Signal::WINCH => {
                Err(Failure::killed_by(signal.as_raw(), name))
            }
            Recipient::Container(_) if signal == Signal::INT || signal == Signal::TERM => {
                self.interruptions += 1;
                if self.interruptions < PATIENCE {
                    return Ok(());
                }
                Err(Failure::new(
                    1,
                    anyhow::anyhow!("got {PATIENCE} SIGTERM/SIGINTs, forcefully exiting"),
                ))
            }
            _ => Ok(()),
        }
    }

    async fn pass_on(&self, (_, name): (Signal, &'static str)) {
        match self.recipient {
            Recipient::Container(id) => {
                let target = Target::new(&["containers", id, "kill"]).query("signal", name);
                // A container that has just ended cannot be signalled, and need not be.
                drop(self.client.post_empty(target).await);
            }
            Recipient::Terminal(resize) => {
                if let Some(size) = terminal::window_size() {
                    resize.to(self.client, size).await;
                }
            }
            Recipient::Nobody => {}
        }
    }
}

fn listen(signal: Signal) -> io::Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw()))
}
