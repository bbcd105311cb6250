//! Why the engine did not do what it was asked.

use std::io;
use std::path::PathBuf;

/// The kinds of failure that a client tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such thing.
    NotFound,
    /// It stands in the way of something else, or is not in the right state.
    Conflict,
    /// The request makes no sense.
    InvalidParameter,
    /// It is so already.
    NotModified,
    /// The credentials are not accepted, or there are none.
    Unauthorized,
    /// This user may not do it.
    Forbidden,
    /// A registry takes no more requests for now.
    TooManyRequests,
    /// hull does not do this.
    NotImplemented,
    /// It should have worked.
    Internal,
}

/// Why the engine did not do what it was asked. The texts are those of Docker's engine where it has one, for there are
/// clients that read them.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No container has this name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// No network has this name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// Something else is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is not allowed to anybody, or not now.
    #[error("{0}")]
    Forbidden(String),
    /// The host would not do something for a network.
    #[error(transparent)]
    Network(#[from] network::HostError),
    /// Containers mount the volume.
    #[error("remove {name}: volume is in use - [{users}]")]
    VolumeInUse {
        /// The volume.
        name: String,
        /// The ids of the containers.
        users: String,
    },
    /// No exec has this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// Several containers' ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    /// There is nothing at a path of a container.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// The path.
        path: String,
        /// The container as it was named.
        container: String,
    },
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// The container that has it.
        id: String,
    },
    /// The container is not running, so this cannot be done.
    #[error("{action}container {id} is not running")]
    NotRunning {
        /// What cannot be done, as `cannot kill container: x: `, or nothing.
        action: String,
        /// Its id.
        id: String,
    },
    /// The state of the container or exec forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The container has ended and is about to be started again.
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// Another error, and what it was met in, as `Cannot update container x`.
    #[error("{context}: {source}")]
    Within {
        /// What it was met in.
        context: String,
        /// The error.
        source: Box<EngineError>,
    },
    /// It is so already.
    #[error("container {0} is in that state already")]
    NotModified(String),
    /// hull does not do this.
    #[error("{0}")]
    Unsupported(String),
    /// The process could not be started: the text is what Docker's clients make exit codes 126 and 127 of.
    #[error(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: {0}: unknown"
    )]
    Start(String),
    /// The process of an exec could not be started.
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {0}: unknown")]
    Exec(String),
    /// The microVM could not be started, or was lost.
    #[error("{action} container {id}: {source}")]
    Sandbox {
        /// What was tried, as a verb.
        action: &'static str,
        /// The container's id.
        id: String,
        /// Why it failed.
        #[source]
        source: sandbox::SandboxError,
    },
    /// A file or folder of the state could not be read or written.
    #[error("{action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The image store failed.
    #[error("image store: {0}")]
    Images(#[source] image_store::StoreError),
    /// A registry, or the way to it, or what was to become an image.
    #[error(transparent)]
    Image(#[from] crate::ImageFailure),
    /// Something else that should have worked did not.
    #[error("{0}")]
    Internal(String),
}

/// The result of what the engine does.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// Which kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchImage(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchVolume(_)
            | Self::NoSuchNetwork(_)
            | Self::NotFound(_)
            | Self::NoSuchPath { .. } => ErrorKind::NotFound,
            Self::NameInUse { .. }
            | Self::VolumeInUse { .. }
            | Self::NotRunning { .. }
            | Self::Conflict(_)
            | Self::Restarting(_) => ErrorKind::Conflict,
            Self::Within { source, .. } => source.kind(),
            Self::AmbiguousId(_) | Self::Invalid(_) | Self::Start(_) | Self::Exec(_) => {
                ErrorKind::InvalidParameter
            }
            Self::NotModified(_) => ErrorKind::NotModified,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::Image(failure) => failure.kind,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Network(_)
            | Self::Sandbox { .. }
            | Self::Io { .. }
            | Self::Images(_)
            | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Puts what it was met in in front of it.
    pub(crate) fn within(context: impl Into<String>) -> impl FnOnce(EngineError) -> EngineError {
        let context = context.into();
        move |source| Self::Within {
            context,
            source: Box::new(source),
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => ": free some space there, or remove containers and images",
        io::ErrorKind::PermissionDenied => ": hulld must own its state and runtime folders",
        _ => "",
    }
}
