//! From a spawned VMM to an agent that can be spoken to, and on to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use guest_protocol::CONTROL_PORT;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::connection::connect;
use crate::end::read_log_tail;
use crate::guest::{Exchange, Loss};
use crate::launch::vsock_socket;
use crate::process::Process;
use crate::{Clock, SandboxEnd, Step};

/// How long the end of a microVM may come after the end of the connection to its agent: it explains more.
const END_AFTER_LOSS: Duration = Duration::from_secs(5);

/// What carries the calls to an agent.
pub(crate) struct Link {
    pub(crate) exchange: Exchange,
    pub(crate) runtime: PathBuf,
    pub(crate) end: watch::Receiver<Option<SandboxEnd>>,
}

/// What is needed to wait for an agent that is not up yet.
pub(crate) struct Boot {
    pub(crate) ready: UnixListener,
    pub(crate) timeout: Duration,
    pub(crate) process: Arc<Process>,
    pub(crate) folder: PathBuf,
    pub(crate) clock: Clock,
}

impl Link {
    /// Waits for the agent's first connection, then carries calls until the microVM ends.
    pub(crate) async fn boot(mut self, boot: Boot) {
        let ready = tokio::select! {
            accepted = tokio::time::timeout(boot.timeout, boot.ready.accept()) => accepted,
            _ = ended(&mut self.end) => return self.lose("the microVM ended while it came up".into()).await,
        };
        match ready {
            Ok(Ok(_)) => boot.clock.mark(Step::Ready),
            Ok(Err(error)) => return self.lose(error.to_string()).await,
            Err(_) => {
                let log = match read_log_tail(&boot.folder) {
                    log if log.is_empty() => log,
                    log => format!("; the end of its VMM's log: {log}"),
                };
                boot.process.kill();
                return self.exchange.lose(Loss::BootTimeout {
                    seconds: boot.timeout.as_secs(),
                    log,
                });
            }
        }
        self.carry().await;
    }

    /// Carries calls until the microVM ends.
    pub(crate) async fn carry(mut self) {
        let reason = match connect(
            &vsock_socket(&self.runtime),
            CONTROL_PORT,
            &self.exchange.take_queued(),
        )
        .await
        {
            Ok((reader, to)) => self.exchange.run(reader, to).await.to_string(),
            Err(error) => format!("connect to the agent: {error}"),
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

/// Waits for the end; `None` if nobody will tell it.
pub(crate) async fn ended(end: &mut watch::Receiver<Option<SandboxEnd>>) -> Option<SandboxEnd> {
    end.wait_for(Option::is_some).await.ok()?.clone()
}
