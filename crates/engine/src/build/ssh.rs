//! SSH agents of clients, for `RUN --mount=type=ssh`.
//!
//! ```text
//! ssh in the command ─ socket ─ task of the guest agent ─ here ─ connection of the client ─ its SSH agent
//! ```
//!
//! Keys stay where they are: what goes over this is what an agent answers. The client offers one connection at a time, and another
//! one when that is in use.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use builder::{CommandAgent, Reporter};
use sandbox::{RunningTask, Sandbox, SandboxError, Task};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Engine;
use crate::archive::unless_silent;
use crate::engine::Shared;
use crate::exec_process::next_process;

/// Bytes on their way in one direction.
const BUFFER: usize = 16 << 10;
/// Connections to one socket of a command at the same time; others wait.
const MOST_CONNECTIONS: usize = 16;
/// How long a client may take to offer a connection.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it takes until it is tried again to serve a socket.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose agent, and which: the client's session and the agent's name.
type Name = (String, String);

/// The connections that clients offer.
#[derive(Debug, Default)]
pub(super) struct Agents {
    offers: Mutex<HashMap<Name, VecDeque<oneshot::Sender<DuplexStream>>>>,
    offered: Notify,
}

impl Agents {
    /// Offers a connection to an agent; the other end of what wants one. An offer that is dropped is nobody's.
    async fn offer(&self, name: Name) -> DuplexStream {
        let (sender, receiver) = oneshot::channel();
        {
            let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            for waiting in offers.values_mut() {
                waiting.retain(|offer| !offer.is_closed());
            }
            offers.retain(|_, waiting| !waiting.is_empty());
            offers.entry(name).or_default().push_back(sender);
        }
        self.offered.notify_waiters();
        match receiver.await {
            Ok(end) => end,
            // Only an offer that does not stand any more is thrown away.
            Err(_) => std::future::pending().await,
        }
    }

    /// Connects to an agent; `None` if its client offers nothing.
    async fn connect(&self, name: &Name) -> Option<DuplexStream> {
        let connected = async {
            let (mut own, mut other) = duplex(BUFFER);
            loop {
                let offered = self.offered.notified();
                while let Some(offer) = self.take(name) {
                    match offer.send(other) {
                        Ok(()) => return own,
                        // The client has gone.
                        Err(_) => (own, other) = duplex(BUFFER),
                    }
                }
                offered.await;
            }
        };
        tokio::time::timeout(OFFER_TIMEOUT, connected).await.ok()
    }

    fn take(&self, name: &Name) -> Option<oneshot::Sender<DuplexStream>> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.get_mut(name)?.pop_front()
    }
}

impl Engine {
    /// Lends an SSH agent to the commands of the builds of a session: returns when one of them connects. What it returns brings
    /// [`ACCEPTED`](sandbox::ACCEPTED), and is then to be connected with the agent.
    pub async fn lend_ssh_agent(&self, session: &str, id: &str) -> DuplexStream {
        let name = (session.to_owned(), id.to_owned());
        self.shared.builds.agents.offer(name).await
    }
}

/// The agents that are lent to a command. When this is dropped they are taken back, which needs nobody to wait for it.
pub(super) struct Lent {
    stop: DropGuard,
    tasks: TaskTracker,
}

impl Lent {
    /// Serves the command's sockets, which are those of its container.
    pub(super) fn lend(
        shared: &Arc<Shared>,
        sandbox: &Sandbox,
        session: &str,
        agents: Vec<CommandAgent>,
        reporter: &Reporter,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for (socket, agent) in (0..).zip(agents) {
            let served = Served {
                shared: shared.clone(),
                sandbox: sandbox.clone(),
                socket,
                name: (session.to_owned(), agent.id),
                reporter: reporter.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(async move {
                while let Err(error) = served.serve().await {
                    tracing::warn!(%error, "an SSH agent cannot be lent to a command of a build");
                    // The command may wait for an answer: it is served as soon as that is possible again.
                    let pause = tokio::time::sleep(PAUSE);
                    if served.stop.run_until_cancelled(pause).await.is_none() {
                        break;
                    }
                }
            });
        }
        Self {
            stop: stop.drop_guard(),
            tasks,
        }
    }

    /// Ends all connections, and waits until nothing of them is left in the guest.
    pub(super) async fn take_back(self) -> Result<(), SandboxError> {
        drop(self.stop);
        self.tasks.close();
        unless_silent(async {
            self.tasks.wait().await;
            Ok(())
        })
        .await
    }
}

/// A socket of a command that leads to an agent.
#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    sandbox: Sandbox,
    socket: u32,
    name: Name,
    reporter: Reporter,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Served {
    /// Accepts one connection after the other.
    async fn serve(&self) -> Result<(), SandboxError> {
        let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let place = free.clone().acquire_owned();
            let Some(Ok(place)) = self.stop.run_until_cancelled(place).await else {
                return Ok(());
            };
            let task = Task::Accept { socket: self.socket };
            let mut task = self.sandbox.start_task(next_process(), task).await?;
            match self.stop.run_until_cancelled(task.read()).await {
                Some(Ok(Some(first))) => {
                    let served = self.clone();
                    self.tasks.spawn(async move {
                        let carried = served.carry(&mut task, &first);
                        // A connection that breaks is the end of it, whoever broke it.
                        let _ = served.stop.run_until_cancelled(carried).await;
                        task.give_up().await;
                        drop(place);
                    });
                }
                Some(Ok(None)) => {
                    let ended = self.stop.run_until_cancelled(task.end()).await;
                    ended.transpose()?;
                }
                Some(Err(error)) => return Err(error),
                None => {
                    task.give_up().await;
                    return Ok(());
                }
            }
        }
    }

    /// Carries a connection until both directions have ended. `first` is what the task has written: [`ACCEPTED`](sandbox::ACCEPTED), by which the client
    /// knows that somebody has connected, and maybe more.
    async fn carry(&self, task: &mut RunningTask, first: &[u8]) -> Result<(), CarryError> {
        let mut input = self.sandbox.task_input(task).await?;
        let Some(agent) = self.shared.builds.agents.connect(&self.name).await else {
            let text = format!("the client does not answer for its SSH agent {}\n", self.name.1);
            self.reporter.tell_line(text);
            return Ok(());
        };
        let (mut from_agent, mut to_agent) = split(agent);
        let asked = async {
            to_agent.write_all(first).await?;
            while let Some(piece) = task.read().await? {
                to_agent.write_all(&piece).await?;
            }
            Ok::<_, CarryError>(to_agent.shutdown().await?)
        };
        let answered = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                match from_agent.read(&mut buffer).await? {
                    0 => return Ok(input.end().await?),
                    count => input.write(&buffer[..count]).await?,
                }
            }
        };
        tokio::try_join!(asked, answered).map(drop)
    }
}

/// Why a connection broke, which nobody is told.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error(transparent)]
    Guest(#[from] SandboxError),
    #[error(transparent)]
    Client(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> Name {
        ("session".into(), id.into())
    }

    #[tokio::test]
    async fn who_connects_has_an_offer_of_that_name_that_still_stands() {
        let agents = Arc::new(Agents::default());
        let offer = |id: &str| {
            let (agents, name) = (agents.clone(), name(id));
            tokio::spawn(async move { agents.offer(name).await })
        };
        let gone = offer("default");
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let other = offer("other");
        let good = offer("default");
        let mut own = agents.connect(&name("default")).await.unwrap();
        own.write_all(b"question").await.unwrap();
        let mut lent = good.await.unwrap();
        let mut asked = [0; 8];
        lent.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        assert!(!other.is_finished());
        drop(lent);
        assert_eq!(own.read(&mut asked).await.unwrap(), 0, "the agent has gone");
    }

    #[tokio::test]
    async fn who_is_early_waits_for_an_offer() {
        let agents = Arc::new(Agents::default());
        let early = tokio::spawn({
            let agents = agents.clone();
            async move { agents.connect(&name("default")).await.is_some() }
        });
        tokio::task::yield_now().await;
        agents.offer(name("default")).await;
        assert!(early.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_offered_nothing_is_told() {
        assert!(Agents::default().connect(&name("default")).await.is_none());
    }

    #[tokio::test]
    async fn offers_that_do_not_stand_any_more_take_no_room() {
        let agents = Agents::default();
        for id in 0..100 {
            let offer = agents.offer(name(&id.to_string()));
            assert!(tokio::time::timeout(Duration::ZERO, offer).await.is_err());
        }
        assert_eq!(agents.offers.lock().unwrap().len(), 1);
    }
}
