//! A container's file system from outside: export, copies in and out, and what it has changed. All of it is done by the
//! agent in a guest; what comes back is passed on and never unpacked here.

mod errand;
mod path;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbox::{
    Change, InputStream, PathStat, RunningTask, Sandbox, SandboxError, Task, TaskFailure, UnpackSpec,
};

use crate::archive::errand::{Errand, Needs};
use crate::container::Live;
use crate::engine::Shared;
use crate::exec_process::next_process;
use crate::{EngineError, Result, Status};

pub(crate) use path::clean;

/// How to unpack an archive into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// The directory in the container.
    pub path: String,
    /// Whether a directory in the place of something else, or something else in the place of a directory, is an error
    /// rather than replaced.
    pub keep_kinds: bool,
    /// Whether everything comes to belong to the container's user, not to whom the archive says.
    pub as_user: bool,
}

/// How long a guest may take for the next piece of what it sends. Nothing else finds out that one hangs while it works.
const PIECE_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a task runs. When it is dropped, what was brought up for it goes.
#[derive(Debug)]
enum Place {
    /// In the container's own microVM.
    Container(Sandbox),
    /// In one that was started for it.
    Errand(Errand),
}

impl Place {
    fn sandbox(&self) -> &Sandbox {
        match self {
            Self::Container(sandbox) => sandbox,
            Self::Errand(errand) => errand.sandbox(),
        }
    }

    async fn leave(self) -> Result<()> {
        match self {
            Self::Container(_) => Ok(()),
            Self::Errand(errand) => errand.finish().await,
        }
    }
}

/// A task and where it runs; the task is dropped first.
#[derive(Debug)]
struct Job {
    task: RunningTask,
    place: Place,
    subject: Subject,
}

/// What a job is about, for errors.
#[derive(Clone, Debug)]
struct Subject {
    /// The container as the client named it.
    container: String,
    path: String,
}

impl Subject {
    fn new(container: &str, path: &str) -> Self {
        Self {
            container: container.to_owned(),
            path: path.to_owned(),
        }
    }

    fn failed(&self, error: SandboxError) -> EngineError {
        let SandboxError::Task { failure, message } = error else {
            return EngineError::Sandbox {
                action: "work on the files of",
                id: self.container.clone(),
                source: error,
            };
        };
        match failure {
            TaskFailure::NotFound => EngineError::NoSuchPath {
                path: self.path.clone(),
                container: self.container.clone(),
            },
            TaskFailure::Invalid | TaskFailure::ReadOnly | TaskFailure::NoSuchUser => {
                EngineError::Invalid(message)
            }
            TaskFailure::Other => EngineError::Internal(message),
        }
    }
}

impl Job {
    async fn start(
        shared: &Arc<Shared>,
        live: &Arc<Live>,
        needs: Needs,
        task: Task,
        subject: Subject,
    ) -> Result<Job> {
        let place = find_place(shared, live, needs).await?;
        let started = place.sandbox().start_task(next_process(), task).await;
        Ok(Job {
            task: started.map_err(|error| subject.failed(error))?,
            place,
            subject,
        })
    }

    /// Waits for the end of the task, and takes down what was brought up for it.
    async fn end(mut self) -> Result<()> {
        self.task
            .end()
            .await
            .map_err(|error| self.subject.failed(error))?;
        drop(self.task);
        self.place.leave().await
    }

    /// The first frame it writes, which it writes unless it fails.
    async fn head<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let failed = |error| self.subject.failed(error);
        if let Some(head) = self.task.read_frame().await.map_err(failed)? {
            return Ok(head);
        }
        self.task.end().await.map_err(failed)?;
        Err(EngineError::Internal(
            "the guest has nothing to say of the path".into(),
        ))
    }
}

/// The container's own microVM where it has one, else one for the occasion.
async fn find_place(shared: &Arc<Shared>, live: &Arc<Live>, needs: Needs) -> Result<Place> {
    if let Some(place) = own(live) {
        return Ok(place);
    }
    let operation = live.operation.clone().lock_owned().await;
    if live.watch().borrow().removed || live.status() == Status::Removing {
        return Err(EngineError::NoSuchContainer(live.id().to_owned()));
    }
    // It may have been started while the lock was waited for.
    if let Some(place) = own(live) {
        return Ok(place);
    }
    Errand::start(shared, live, needs, operation)
        .await
        .map(Place::Errand)
}

/// Has what comes with the first start of a container that never ran, such as the copy of what its image has to its
/// volumes.
pub(crate) async fn bring_up(shared: &Arc<Shared>, live: &Arc<Live>) -> Result<()> {
    find_place(shared, live, Needs::Volumes).await?.leave().await
}

fn own(live: &Live) -> Option<Place> {
    let run = live.run().filter(|_| live.is_up())?;
    Some(Place::Container(run.sandbox))
}

/// What a job writes, a piece at a time.
#[derive(Debug)]
struct Outlet<T> {
    job: Option<Job>,
    /// What was read to see whether there is anything.
    first: Option<T>,
}

/// A piece of what a task writes.
trait Piece: Sized {
    /// The next one; `None` behind the last.
    fn read(task: &mut RunningTask) -> impl Future<Output = Result<Option<Self>, SandboxError>> + Send;
}

impl Piece for Bytes {
    async fn read(task: &mut RunningTask) -> Result<Option<Self>, SandboxError> {
        Ok(task.read().await?.map(|bytes| bytes.freeze()))
    }
}

impl Piece for Change {
    async fn read(task: &mut RunningTask) -> Result<Option<Self>, SandboxError> {
        task.read_frame().await
    }
}

impl<T: Piece> Outlet<T> {
    fn new(job: Job) -> Self {
        Self {
            job: Some(job),
            first: None,
        }
    }

    /// With the first piece read: what cannot even begin is an error before there is a response.
    async fn begin(job: Job) -> Result<Self> {
        let mut outlet = Self::new(job);
        outlet.first = outlet.next().await?;
        Ok(outlet)
    }

    async fn next(&mut self) -> Result<Option<T>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(job) = &mut self.job else { return Ok(None) };
        let piece = unless_silent(T::read(&mut job.task)).await;
        if let Some(piece) = piece.map_err(|error| job.subject.failed(error))? {
            return Ok(Some(piece));
        }
        match self.job.take() {
            Some(job) => job.end().await.map(|()| None),
            None => Ok(None),
        }
    }
}

/// Waits for the next thing that a guest sends, and gives it up when it sends nothing.
pub(crate) async fn unless_silent<T>(
    sent: impl Future<Output = Result<T, SandboxError>>,
) -> Result<T, SandboxError> {
    within(PIECE_TIMEOUT, sent).await
}

async fn within<T>(
    patience: Duration,
    sent: impl Future<Output = Result<T, SandboxError>>,
) -> Result<T, SandboxError> {
    let silent = |_| {
        Err(SandboxError::Silent {
            seconds: patience.as_secs(),
        })
    };
    let sent = tokio::time::timeout(patience, sent).await;
    sent.unwrap_or_else(silent)
}

/// A tar archive on its way out of a guest. Dropping it ends it.
#[derive(Debug)]
pub struct Archive(Outlet<Bytes>);

impl Archive {
    /// The next bytes; `None` at the end. They are the guest's, whatever it says: nothing is known of them. An error
    /// means that the archive is cut. Memory is taken for no more than one piece.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.0.next().await
    }
}

/// Differences on their way out of a guest. Dropping it ends it.
#[derive(Debug)]
pub struct Changes(Outlet<Change>);

impl Changes {
    /// The next one, in the order of a walk over the tree; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Change>> {
        self.0.next().await
    }
}

/// A tar archive on its way into a guest. Dropping it ends it; what was unpacked by then stays.
#[derive(Debug)]
pub struct Unpacking {
    input: InputStream,
    job: Job,
}

impl Unpacking {
    /// Sends bytes of the archive; waits while the guest does not take them. False when it takes no more: what became
    /// of it is told by [`Unpacking::end`].
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        tokio::select! {
            written = self.input.write(bytes) => written.is_ok(),
            // A task that has ended may leave its connection open for a moment.
            _ = self.job.task.end() => false,
        }
    }

    /// Says that the archive is complete, and waits until it is unpacked and, where the container does not run, on its
    /// disk.
    pub async fn end(mut self) -> Result<()> {
        // It may have ended by itself.
        let _ = self.input.end().await;
        self.job.end().await
    }
}

/// [`crate::Engine::export`]
pub(crate) async fn export(shared: &Arc<Shared>, live: &Arc<Live>, name: &str) -> Result<Archive> {
    let subject = Subject::new(name, "/");
    let job = Job::start(shared, live, Needs::Root, Task::Export, subject).await?;
    Outlet::begin(job).await.map(Archive)
}

/// What a container has changed of its image, as a layer: a tar archive with whiteouts.
pub(crate) async fn layer(shared: &Arc<Shared>, live: &Arc<Live>, name: &str) -> Result<Archive> {
    let subject = Subject::new(name, "/");
    let job = Job::start(shared, live, Needs::Root, Task::Layer, subject).await?;
    Ok(Archive(Outlet::new(job)))
}

/// [`crate::Engine::changes`]
pub(crate) async fn changes(shared: &Arc<Shared>, live: &Arc<Live>, name: &str) -> Result<Changes> {
    let subject = Subject::new(name, "/");
    let job = Job::start(shared, live, Needs::Root, Task::Changes, subject).await?;
    Outlet::begin(job).await.map(Changes)
}

/// [`crate::Engine::path_stat`]
pub(crate) async fn stat(shared: &Arc<Shared>, live: &Arc<Live>, name: &str, path: &str) -> Result<PathStat> {
    let subject = Subject::new(name, path);
    let task = Task::Stat { path: clean(path)? };
    let mut job = Job::start(shared, live, Needs::Volumes, task, subject).await?;
    let stat = job.head().await?;
    job.end().await?;
    Ok(stat)
}

/// [`crate::Engine::path_archive`]
pub(crate) async fn read(
    shared: &Arc<Shared>,
    live: &Arc<Live>,
    name: &str,
    path: &str,
) -> Result<(PathStat, Archive)> {
    let subject = Subject::new(name, path);
    let task = Task::Read { path: clean(path)? };
    let mut job = Job::start(shared, live, Needs::Volumes, task, subject).await?;
    let stat = job.head().await?;
    Ok((stat, Archive(Outlet::new(job))))
}

/// [`crate::Engine::unpack`]
pub(crate) async fn unpack(
    shared: &Arc<Shared>,
    live: &Arc<Live>,
    name: &str,
    options: UnpackOptions,
) -> Result<Unpacking> {
    let record = live.record();
    let user = &record.config.user;
    let spec = UnpackSpec {
        path: clean(&options.path)?,
        keep_kinds: options.keep_kinds,
        owner: (options.as_user && !user.is_empty()).then(|| user.clone()),
    };
    let subject = Subject::new(name, &options.path);
    let mut job = Job::start(shared, live, Needs::Volumes, Task::Write(spec), subject).await?;
    match job.place.sandbox().task_input(&job.task).await {
        Ok(input) => Ok(Unpacking { input, job }),
        Err(error) => {
            // A task that has failed already has no input any more.
            let ended = job.task.end().await;
            Err(job.subject.failed(ended.err().unwrap_or(error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_sends_nothing_is_given_up() {
        assert_eq!(unless_silent(async { Ok(1) }).await.unwrap(), 1);
        let silent = within(Duration::ZERO, std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(silent, Err(SandboxError::Silent { .. })), "{silent:?}");
    }
}
