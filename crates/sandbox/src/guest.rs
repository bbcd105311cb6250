//! Calls to the agent, many at a time on one connection.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use guest_protocol::{
    Call, CallError, Event, ExitStatus, FrameError, Limits, Message, ProcessId, Reply, Request, Usage, encode,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::Reader;
use crate::{
    ContainerSpec, File, Gateway, Interface, ProcessSpec, ProcessState, Result, SandboxEnd, SandboxError,
    WindowSize,
};

/// How long an agent that is up may take to answer: to stack layers, to start a process, to write a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The agent of a microVM. Clones speak to the same one.
///
/// A call is sent when its method is called, not when its answer is awaited, and the agent carries calls out in the
/// order in which they were sent: send several, then await them. Before the agent is up, calls wait for it; after that, none
/// waits for more than a minute for its answer ([`SandboxError::Silent`]).
#[derive(Clone, Debug)]
pub struct Guest {
    shared: Arc<Shared>,
}

/// Why the agent cannot be spoken to any more.
#[derive(Clone, Debug)]
pub(crate) enum Loss {
    /// It did not come up in time.
    BootTimeout { seconds: u64, log: String },
    /// The microVM has ended.
    Ended(SandboxEnd),
    /// The connection failed while the microVM went on.
    Connection(String),
}

#[derive(Debug)]
struct Shared {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    calls: Mutex<Calls>,
    exits: watch::Sender<Exits>,
    /// Whether the agent was there.
    up: watch::Sender<bool>,
}

/// Where the answer to a call arrives.
pub(crate) type Answer = oneshot::Receiver<Result<Reply, CallError>>;

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Reply, CallError>>>,
    loss: Option<Loss>,
}

#[derive(Debug, Default)]
struct Exits {
    statuses: HashMap<ProcessId, ExitStatus>,
    lost: bool,
}

/// The agent's end of the calls: what [`Guest`]s send, and where answers go.
#[derive(Debug)]
pub(crate) struct Exchange {
    frames: mpsc::UnboundedReceiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Guest {
    pub(crate) fn new() -> (Guest, Exchange) {
        let (sender, frames) = mpsc::unbounded_channel();
        let exits = watch::Sender::new(Exits::default());
        let shared = Arc::new(Shared {
            frames: sender,
            calls: Mutex::default(),
            exits,
            up: watch::Sender::new(false),
        });
        (
            Guest {
                shared: shared.clone(),
            },
            Exchange { frames, shared },
        )
    }

    /// Prepares the container.
    pub fn create_container(&self, spec: ContainerSpec) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::CreateContainer(Box::new(spec)))
    }

    /// Takes the container away, when its init has ended and no task goes on: its processes are forgotten, its writable layer is
    /// deleted, and the layers below, its limits and its interfaces wait for the next one, which the microVM may have now.
    pub fn remove_container(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::RemoveContainer)
    }

    /// Starts a process; answers its pid in the root pid namespace of the guest.
    pub fn start_process(&self, spec: ProcessSpec) -> impl Future<Output = Result<i32>> + Send + use<> {
        let reply = self.send(Call::StartProcess(Box::new(spec)));
        async move {
            match reply.await? {
                Reply::Started { pid } => Ok(pid),
                other => Err(unexpected("start a process", &other)),
            }
        }
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: ProcessId, signal: i32) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::Signal { process, signal })
    }

    /// Resizes the terminal of a process.
    pub fn resize(
        &self,
        process: ProcessId,
        size: WindowSize,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::Resize { process, size })
    }

    /// The processes that were started and not forgotten.
    pub async fn processes(&self) -> Result<Vec<ProcessState>> {
        match self.send(Call::State).await? {
            Reply::State(processes) => Ok(processes),
            other => Err(unexpected("list the processes", &other)),
        }
    }

    /// Drops what the agent keeps of a process that has ended.
    pub fn forget(&self, process: ProcessId) -> impl Future<Output = Result<()>> + Send + use<> {
        self.shared.exits.send_modify(|exits| {
            exits.statuses.remove(&process);
        });
        self.done(Call::Forget { process })
    }

    /// Holds all processes of the container, or lets them go on; answers whether all are held. A process is held when
    /// it comes out of the kernel, so ask again until all are.
    pub async fn freeze(&self, hold: bool) -> Result<bool> {
        match self.send(Call::Freeze(hold)).await? {
            Reply::Frozen(all) => Ok(all),
            other => Err(unexpected("hold the processes", &other)),
        }
    }

    /// Changes the limits of the container; what is `None` stays as it is.
    pub fn limit(&self, limits: Limits) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::Limit(limits))
    }

    /// What the container uses.
    pub async fn usage(&self) -> Result<Usage> {
        match self.send(Call::Usage).await? {
            Reply::Usage(usage) => Ok(*usage),
            other => Err(unexpected("measure the container", &other)),
        }
    }

    /// Gives the container another network interface. One that cannot be set up is not there afterwards.
    pub fn add_interface(&self, interface: Interface) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::AddInterface(interface))
    }

    /// Takes the interface on a network device away from the container, with its addresses and routes.
    pub fn remove_interface(&self, nic: u8) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::RemoveInterface { nic })
    }

    /// Makes these all the default routes of the container, one of each address family at most.
    pub fn set_gateways(&self, gateways: Vec<Gateway>) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::SetGateways(gateways))
    }

    /// Replaces the content of files that were given to the container when it was created.
    pub fn write_files(&self, files: Vec<File>) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::WriteFiles(files))
    }

    /// Tells it the time of day, which it goes by from then on.
    pub fn tell_time(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::Time(time_of_day()))
    }

    /// Writes everything to the disk and unmounts it.
    pub fn sync(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.done(Call::Sync)
    }

    /// How a process ends. May be asked before the process is started.
    pub fn exited(&self, process: ProcessId) -> impl Future<Output = Result<ExitStatus>> + Send + use<> {
        let shared = self.shared.clone();
        let mut exits = shared.exits.subscribe();
        async move {
            let status = match exits
                .wait_for(|exits| exits.lost || exits.statuses.contains_key(&process))
                .await
            {
                Ok(exits) => exits.statuses.get(&process).copied(),
                Err(_) => None,
            };
            status.ok_or_else(|| shared.lost())
        }
    }

    /// Records how processes ended while nobody was connected.
    pub(crate) fn record_exits(&self, processes: &[ProcessState]) {
        self.shared.exits.send_modify(|exits| {
            let ended = processes
                .iter()
                .filter_map(|process| Some((process.id, process.exited?)));
            exits.statuses.extend(ended);
        });
    }

    fn done(&self, call: Call) -> impl Future<Output = Result<()>> + Send + use<> {
        let reply = self.send(call);
        async move {
            match reply.await? {
                Reply::Done => Ok(()),
                other => Err(unexpected("call the agent", &other)),
            }
        }
    }

    /// What the guest answers otherwise than to a call.
    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        self.shared.in_time(answer).await?
    }

    pub(crate) fn send(&self, call: Call) -> impl Future<Output = Result<Reply>> + Send + use<> {
        let shared = self.shared.clone();
        let answer = shared.begin(call);
        async move {
            match shared.in_time(answer?).await? {
                Ok(result) => Ok(result?),
                Err(_) => Err(shared.lost()),
            }
        }
    }
}

impl Shared {
    fn begin(&self, call: Call) -> Result<Answer> {
        let mut calls = self.calls();
        if calls.loss.is_some() {
            drop(calls);
            return Err(self.lost());
        }
        calls.last_id += 1;
        let id = calls.last_id;
        let frame = encode(&Request { id, call }).map_err(SandboxError::protocol("call the agent"))?;
        let (sender, receiver) = oneshot::channel();
        calls.waiting.insert(id, sender);
        // Under the lock, so that calls are sent in the order of their ids. A failure is a loss, which is told soon.
        let _ = self.frames.send(frame);
        Ok(receiver)
    }

    /// A guest that hangs does not keep anybody waiting for good. For one that is not up yet, whoever boots it decides.
    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        let silence = async {
            // The sender is in `self`: there is no other end of this than that the agent is up.
            let _ = self.up.subscribe().wait_for(|up| *up).await;
            tokio::time::sleep(ANSWER_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = silence => Err(SandboxError::Silent { seconds: ANSWER_TIMEOUT.as_secs() }),
        }
    }

    fn finish(&self, id: u64, result: Result<Reply, CallError>) {
        // Nobody waits for the answer to a call whose future was dropped.
        if let Some(sender) = self.calls().waiting.remove(&id) {
            let _ = sender.send(result);
        }
    }

    fn lost(&self) -> SandboxError {
        match self.calls().loss.clone() {
            Some(Loss::BootTimeout { seconds, log }) => SandboxError::BootTimeout { seconds, log },
            Some(Loss::Ended(end)) => SandboxError::Ended(end),
            Some(Loss::Connection(reason)) => SandboxError::Connection {
                action: "speak to the agent",
                source: std::io::Error::other(reason),
            },
            None => SandboxError::Connection {
                action: "speak to the agent",
                source: std::io::ErrorKind::NotConnected.into(),
            },
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Carries requests and answers until the connection ends, and says why it did.
    pub(crate) async fn run<R, W>(&mut self, mut reader: Reader<R>, mut to: W) -> FrameError
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let shared = &self.shared;
        shared.up.send_replace(true);
        let frames = &mut self.frames;
        let receive = async {
            loop {
                match reader.read_frame().await {
                    Ok(Some(Message::Response { id, result })) => shared.finish(id, result),
                    Ok(Some(Message::Event(Event::Exited { process, status }))) => {
                        shared.exits.send_modify(|exits| {
                            exits.statuses.insert(process, status);
                        });
                    }
                    Ok(None) => break FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => break error,
                }
            }
        };
        let send = async {
            // The sender is in `shared`, which outlives this: there is always another frame to wait for.
            while let Some(mut batch) = frames.recv().await {
                while let Ok(frame) = frames.try_recv() {
                    batch.extend(frame);
                }
                if let Err(error) = to.write_all(&batch).await {
                    return FrameError::Io(error);
                }
            }
            FrameError::Io(std::io::ErrorKind::NotConnected.into())
        };
        tokio::select! {
            error = receive => error,
            error = send => error,
        }
    }

    /// A request before all that wait to be sent, with those behind it, and where its answer arrives.
    pub(crate) fn begin(&mut self, call: Call) -> Result<(Vec<u8>, Answer)> {
        // Ids are counted from 1.
        let mut frames =
            encode(&Request { id: 0, call }).map_err(SandboxError::protocol("call the agent"))?;
        let (sender, receiver) = oneshot::channel();
        self.shared.calls().waiting.insert(0, sender);
        frames.extend(self.take_queued());
        Ok((frames, receiver))
    }

    /// The requests that wait to be sent.
    pub(crate) fn take_queued(&mut self) -> Vec<u8> {
        let mut queued = Vec::new();
        while let Ok(frame) = self.frames.try_recv() {
            queued.extend(frame);
        }
        queued
    }

    /// Fails every call, now and from now on.
    pub(crate) fn lose(self, loss: Loss) {
        let mut calls = self.shared.calls();
        calls.loss = Some(loss);
        calls.waiting.clear();
        drop(calls);
        self.shared.exits.send_modify(|exits| exits.lost = true);
    }
}

/// Since the beginning of 1970. A host whose clock stands before it gives its guests that.
pub(crate) fn time_of_day() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn unexpected(action: &'static str, reply: &Reply) -> SandboxError {
    SandboxError::Unexpected {
        action,
        answer: format!("{reply:?}"),
    }
}

#[cfg(test)]
mod tests {
    use guest_protocol::{ErrorKind, write_frame};
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    /// The agent's side of a connection, played by the test.
    struct Agent {
        reader: Reader<tokio::io::ReadHalf<DuplexStream>>,
        to: tokio::io::WriteHalf<DuplexStream>,
    }

    impl Agent {
        async fn receive(&mut self) -> Request {
            self.reader.read_frame().await.unwrap().unwrap()
        }

        async fn send(&mut self, message: Message) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &message).unwrap();
            self.to.write_all(&bytes).await.unwrap();
        }
    }

    fn connected() -> (Guest, Agent) {
        let (host, agent) = tokio::io::duplex(256);
        let (guest, mut exchange) = Guest::new();
        tokio::spawn(async move {
            let (from, to) = tokio::io::split(host);
            let error = exchange.run(Reader::new(from), to).await;
            exchange.lose(Loss::Connection(error.to_string()));
        });
        let (from, to) = tokio::io::split(agent);
        (
            guest,
            Agent {
                reader: Reader::new(from),
                to,
            },
        )
    }

    #[tokio::test]
    async fn calls_are_sent_in_order_without_waiting_and_answered_in_any_order() {
        let (guest, mut agent) = connected();
        let create = guest.create_container(ContainerSpec::default());
        let start = guest.start_process(ProcessSpec {
            id: 1,
            ..ProcessSpec::default()
        });
        let first = agent.receive().await;
        let second = agent.receive().await;
        assert!(matches!(first.call, Call::CreateContainer(_)));
        assert!(matches!(second.call, Call::StartProcess(_)));
        agent
            .send(Message::Response {
                id: second.id,
                result: Ok(Reply::Started { pid: 42 }),
            })
            .await;
        assert_eq!(start.await.unwrap(), 42);
        let refusal = CallError {
            kind: ErrorKind::Failed,
            message: "no such layer".into(),
        };
        agent
            .send(Message::Response {
                id: first.id,
                result: Err(refusal),
            })
            .await;
        assert_eq!(create.await.unwrap_err().to_string(), "no such layer");
    }

    #[tokio::test]
    async fn an_exit_is_told_to_who_asks_before_and_after_it() {
        let (guest, mut agent) = connected();
        let before = guest.exited(1);
        let status = ExitStatus {
            code: 137,
            oom_killed: true,
        };
        agent
            .send(Message::Event(Event::Exited { process: 1, status }))
            .await;
        assert_eq!(before.await.unwrap(), status);
        assert_eq!(guest.exited(1).await.unwrap(), status);
    }

    #[tokio::test]
    async fn a_lost_connection_fails_what_waits_and_what_comes_later() {
        let (guest, mut agent) = connected();
        let waiting = guest.signal(1, 15);
        let exited = guest.exited(1);
        agent.receive().await;
        drop(agent);
        assert!(matches!(waiting.await, Err(SandboxError::Connection { .. })));
        assert!(matches!(exited.await, Err(SandboxError::Connection { .. })));
        assert!(matches!(guest.sync().await, Err(SandboxError::Connection { .. })));
    }

    #[tokio::test]
    async fn an_answer_of_the_wrong_kind_is_an_error() {
        let (guest, mut agent) = connected();
        let start = guest.start_process(ProcessSpec::default());
        let request = agent.receive().await;
        agent
            .send(Message::Response {
                id: request.id,
                result: Ok(Reply::Done),
            })
            .await;
        assert!(matches!(start.await, Err(SandboxError::Unexpected { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_given_up_once_it_was_up() {
        let (guest, mut exchange) = Guest::new();
        let waiting = tokio::spawn(guest.sync());
        tokio::time::sleep(ANSWER_TIMEOUT * 10).await;
        assert!(!waiting.is_finished(), "it may still be booting");
        let (host, _agent) = tokio::io::duplex(256);
        let (from, to) = tokio::io::split(host);
        tokio::spawn(async move { exchange.run(Reader::new(from), to).await });
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the guest has not answered for 60 s");
    }

    #[tokio::test]
    async fn a_dropped_call_disturbs_nobody() {
        let (guest, mut agent) = connected();
        drop(guest.sync());
        let kept = guest.sync();
        let first = agent.receive().await;
        let second = agent.receive().await;
        agent
            .send(Message::Response {
                id: first.id,
                result: Ok(Reply::Done),
            })
            .await;
        agent
            .send(Message::Response {
                id: second.id,
                result: Ok(Reply::Done),
            })
            .await;
        kept.await.unwrap();
    }
}
