//! From a spawned VMM to an agent that can be spoken to, and on to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use guest_protocol::{CONTROL_PORT, Call, Restored};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::connection::connect;
use crate::end::read_log_tail;
use crate::guest::{Exchange, Loss, time_of_day};
use crate::launch::vsock_socket;
use crate::process::Process;
use crate::{Clock, Result, SandboxEnd, SandboxError, Step};

/// How long the end of a microVM may come after the end of the connection to its agent: it explains more.
pub(crate) const END_AFTER_LOSS: Duration = Duration::from_secs(5);

/// How long a VMM whose guest is up may take to connect to its agent; it gives up by itself before that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What carries the calls to an agent.
pub(crate) struct Link {
    pub(crate) exchange: Exchange,
    pub(crate) runtime: PathBuf,
    pub(crate) end: watch::Receiver<Option<SandboxEnd>>,
}

/// What is needed to wait for an agent that is not up yet.
pub(crate) struct Boot {
    pub(crate) timeout: Duration,
    pub(crate) process: Arc<Process>,
    pub(crate) folder: PathBuf,
    pub(crate) clock: Clock,
}

impl Link {
    /// Waits for the agent's first connection, then carries calls until the microVM ends.
    pub(crate) async fn boot(mut self, boot: Boot, ready: UnixListener) {
        let ready = tokio::select! {
            accepted = tokio::time::timeout(boot.timeout, ready.accept()) => accepted,
            _ = ended(&mut self.end) => return self.lose("the microVM ended while it came up".into()).await,
        };
        match ready {
            Ok(Ok(_)) => boot.clock.mark(Step::Ready),
            Ok(Err(error)) => return self.lose(error.to_string()).await,
            Err(_) => return self.give_up(&boot),
        }
        self.carry().await;
    }

    /// Tells a guest that goes on from a template so, then carries calls until the microVM ends.
    pub(crate) async fn restore(mut self, boot: Boot) {
        let socket = vsock_socket(&self.runtime);
        let connected = tokio::select! {
            connected = tokio::time::timeout(boot.timeout, connect(&socket, CONTROL_PORT, &[])) => connected,
            _ = ended(&mut self.end) => return self.lose("the microVM ended while it came up".into()).await,
        };
        let (reader, mut to) = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.lose(format!("connect to the agent: {error}")).await,
            Err(_) => return self.give_up(&boot),
        };
        // The guest runs by now, so that the time it is told is right.
        let (first, answer) = match now().and_then(|restored| self.exchange.begin(Call::Restored(restored))) {
            Ok(begun) => begun,
            Err(error) => return self.lose(error.to_string()).await,
        };
        tokio::spawn(async move {
            if let Ok(Ok(_)) = answer.await {
                boot.clock.mark(Step::Ready);
            }
        });
        let reason = match to.write_all(&first).await {
            Ok(()) => self.exchange.run(reader, to).await.to_string(),
            Err(error) => format!("speak to the agent: {error}"),
        };
        self.lose(reason).await;
    }

    fn give_up(self, boot: &Boot) {
        let log = match read_log_tail(&boot.folder) {
            log if log.is_empty() => log,
            log => format!("; the end of its VMM's log: {log}"),
        };
        boot.process.kill();
        self.exchange.lose(Loss::BootTimeout {
            seconds: boot.timeout.as_secs(),
            log,
        });
    }

    /// Carries calls until the microVM ends.
    pub(crate) async fn carry(mut self) {
        let socket = vsock_socket(&self.runtime);
        let queued = self.exchange.take_queued();
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&socket, CONTROL_PORT, &queued)).await;
        let reason = match connected {
            Ok(Ok((reader, to))) => self.exchange.run(reader, to).await.to_string(),
            Ok(Err(error)) => format!("connect to the agent: {error}"),
            Err(_) => format!("its VMM does not answer for {} s", CONNECT_TIMEOUT.as_secs()),
        };
        self.lose(reason).await;
    }

    async fn lose(mut self, reason: String) {
        let loss = match tokio::time::timeout(END_AFTER_LOSS, ended(&mut self.end)).await {
            Ok(Some(end)) => Loss::Ended(end),
            _ => Loss::Connection(reason),
        };
        self.exchange.lose(loss);
    }
}

/// What makes a guest differ from all that went on from the same template.
fn now() -> Result<Restored> {
    let mut seed = [0; 32];
    getrandom(&mut seed, GetRandomFlags::empty())
        .map_err(|error| SandboxError::connection("read random numbers")(error.into()))?;
    Ok(Restored {
        seed,
        now: time_of_day(),
    })
}

/// Waits for the end; `None` if nobody will tell it.
pub(crate) async fn ended(end: &mut watch::Receiver<Option<SandboxEnd>>) -> Option<SandboxEnd> {
    end.wait_for(Option::is_some).await.ok()?.clone()
}
