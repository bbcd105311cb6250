//! What a build asks of whoever runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use dockerfile::{Platform, Sharing};
use image_store::{Hold, Image};

use super::progress::Reporter;

/// Where images come from and where commands run.
pub trait Host: Send + Sync + 'static {
    /// What the commands of one stage have in common while they run one after the other. Nothing is left of it when it is dropped.
    type Stage: Default + Send + Sync;

    /// The image that a name means, from its registry if it is not there, or if it is asked for.
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        reporter: &Reporter,
    ) -> impl Future<Output = Result<HeldImage, HostError>> + Send;
    /// What else of how it runs commands makes their results other ones.
    fn key(&self) -> String;

    /// The image with this identifier (`sha256:HEX`), if it is there.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<HeldImage>, HostError>> + Send;

    /// Runs the next command of a stage, in a microVM. What it prints goes to `reporter`; what it changes is read by `keep`, on a
    /// thread that may block, unless it fails. Nothing is left of it if this is dropped.
    fn run<T: Send + 'static>(
        &self,
        stage: &mut Self::Stage,
        command: Command,
        reporter: &Reporter,
        keep: impl FnOnce(Box<dyn Read + Send>) -> T + Send + 'static,
    ) -> impl Future<Output = Result<Ended<T>, HostError>> + Send;

    /// Waits until nothing is left of what the commands of a stage had in common.
    fn end(&self, stage: Self::Stage) -> impl Future<Output = ()> + Send;
}

/// An image whose layers stay as long as this is there.
#[derive(Debug)]
pub struct HeldImage {
    /// The image.
    pub image: Image,
    /// Keeps its layers.
    pub hold: Hold,
}

/// How a command ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// With 0; what was made of its changes.
    Done(T),
    /// With another exit code.
    Failed(i32),
}

/// Why the host cannot do something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

impl HostError {
    /// Says the same as another error.
    pub fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A command of RUN.
#[derive(Debug)]
pub struct Command {
    /// The image that it runs in. Its configuration says nothing.
    pub image: Image,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// `NAME=value`, each.
    pub environment: Vec<String>,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// An absolute path.
    pub working_directory: String,
    /// Whether it has a network.
    pub network: bool,
    /// Whether it has every capability.
    pub privileged: bool,
    /// Whether its stage has further commands.
    pub has_next: bool,
    /// What is mounted over its root.
    pub mounts: Vec<CommandMount>,
    /// Paths, absolute, which it may read and not write.
    pub read_only: Vec<String>,
    /// Files that are there while it runs, and are on no disk.
    pub files: Vec<CommandFile>,
    /// Sockets that lead to the client's SSH agents.
    pub agents: Vec<CommandAgent>,
    /// `NAME=value`, each, of secrets: they are to be on no disk, either.
    pub secret_variables: SecretVariables,
}

/// Variables that nobody but their command sees.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretVariables(pub Vec<String>);

impl fmt::Debug for SecretVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretVariables").field(&self.0.len()).finish()
    }
}

/// A mount of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandMount {
    /// A folder that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Where, as an absolute path.
        target: String,
        /// Whether the command may not write.
        read_only: bool,
        /// What commands at the same time do with it.
        sharing: Sharing,
        /// The mode of a new one.
        mode: u32,
        /// The owner of a new one: user and group.
        owner: (u32, u32),
    },
    /// A file system in memory.
    Tmpfs {
        /// Where, as an absolute path.
        target: String,
        /// The most bytes it holds.
        size: Option<u64>,
    },
}

/// A file of a command.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandFile {
    /// Where, as an absolute path.
    pub target: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for CommandFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        f.debug_struct("CommandFile")
            .field("target", &self.target)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// A socket that leads to an SSH agent of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAgent {
    /// How the client calls the agent.
    pub id: String,
    /// Where, as an absolute path.
    pub target: String,
    /// Its mode.
    pub mode: u32,
    /// Its owner: user and group.
    pub owner: (u32, u32),
}

/// Secrets of the client, by their names.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
