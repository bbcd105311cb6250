//! `--ssh`: SSH agents that are lent to a build. Keys stay here: what goes to the daemon is what an agent answers.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::api::{Client, Hijacked, Target};
use crate::failure::complain;

/// Where ssh finds its agent.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// How long an agent may take for its answer when the command has said its last.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// `ID[=SOCKET]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshSpec {
    id: String,
    /// `None`: where ssh finds it.
    socket: Option<PathBuf>,
}

/// What describes no agent.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SshError {
    /// It has no name.
    #[error("an SSH agent needs a name: write default, or ID=SOCKET")]
    NoId,
    /// Several sockets or keys.
    #[error(
        "the SSH agent {0} has several sockets or keys: add the keys to one agent with ssh-add, and name its socket"
    )]
    Several(String),
}

impl FromStr for SshSpec {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(socket)),
            None => (text, None),
        };
        if id.is_empty() {
            return Err(SshError::NoId);
        }
        if socket.is_some_and(|socket| socket.contains(',')) {
            return Err(SshError::Several(id.to_owned()));
        }
        Ok(Self {
            id: id.to_owned(),
            socket: socket.filter(|socket| !socket.is_empty()).map(PathBuf::from),
        })
    }
}

/// The agents of a build, and what they are lent under.
#[derive(Debug, Default)]
pub(super) struct Agents {
    session: String,
    agents: Vec<Agent>,
}

#[derive(Debug)]
struct Agent {
    id: String,
    socket: PathBuf,
}

impl Agents {
    /// Looks where they are, so that what is wrong is told before anything is built.
    pub(super) fn find(specs: &[SshSpec]) -> anyhow::Result<Self> {
        let mut agents: Vec<Agent> = Vec::new();
        for spec in specs {
            if agents.iter().any(|agent| agent.id == spec.id) {
                bail!("there are two SSH agents with the id {}", spec.id);
            }
            let socket = match (&spec.socket, env::var_os(VARIABLE)) {
                (Some(socket), _) => socket.clone(),
                (None, Some(socket)) if !socket.is_empty() => PathBuf::from(socket),
                (None, _) => bail!(
                    "no SSH agent can be lent to the build as {}: {VARIABLE} is not set; start one with \
                     eval $(ssh-agent), or write {}=SOCKET",
                    spec.id,
                    spec.id
                ),
            };
            check(&spec.id, &socket)?;
            agents.push(Agent {
                id: spec.id.clone(),
                socket,
            });
        }
        Ok(Self {
            session: format!("{:032x}", rand::random::<u128>()),
            agents,
        })
    }

    /// Tells the daemon of them.
    pub(super) fn tell(&self, target: Target) -> Target {
        if self.agents.is_empty() {
            return target;
        }
        let target = target.query("sshsession", &self.session);
        let agents = self.agents.iter();
        agents.fold(target, |target, agent| target.query("ssh", &agent.id))
    }

    /// Lends them for as long as this is waited for. It ends only when one cannot be lent.
    pub(super) async fn lend_or_fail(&self, client: &Client) -> anyhow::Error {
        let lent = self.agents.iter().map(|agent| agent.lend(client, &self.session));
        match try_join_all(lent).await {
            Ok(_) => std::future::pending().await,
            Err(error) => error.context("cannot lend an SSH agent to the build"),
        }
    }
}

fn check(id: &str, socket: &Path) -> anyhow::Result<()> {
    let cannot = || {
        format!(
            "cannot lend the SSH agent {id} to the build: {}",
            socket.display()
        )
    };
    let found = fs::metadata(socket).with_context(cannot)?;
    if !found.file_type().is_socket() {
        bail!(
            "{} is no socket: add the key to an agent with ssh-add, and name its socket",
            cannot()
        );
    }
    Ok(())
}

impl Agent {
    /// Offers one connection, and the next one when that is in use.
    async fn lend(&self, client: &Client, session: &str) -> anyhow::Result<()> {
        loop {
            let target = Target::new(&["hull", "build", "ssh"])
                .query("session", session)
                .query("id", &self.id);
            let offered = client.hijack(target, None::<&()>).await?;
            let (sender, is_used) = oneshot::channel();
            let socket = self.socket.clone();
            thread::spawn(move || {
                if let Err(error) = carry(offered, &socket, sender) {
                    complain(format_args!(
                        "warning: a command of the build cannot use the SSH agent at {}: {error}",
                        socket.display()
                    ));
                }
            });
            if is_used.await.is_err() {
                // The daemon has ended it, and tells the build why if it can.
                return Ok(());
            }
        }
    }
}

/// Connects a command with the agent, as soon as there is one.
fn carry(offered: Hijacked, socket: &Path, is_used: oneshot::Sender<()>) -> io::Result<()> {
    let (mut output, mut input) = offered.split()?;
    // The daemon sends one byte when a command has connected. Without it the build is over.
    if output.read_exact(&mut [0]).is_err() {
        return Ok(());
    }
    // Nobody waits for it when the build has ended.
    let _ = is_used.send(());
    let mut agent = UnixStream::connect(socket)?;
    let mut answers = agent.try_clone()?;
    let (sender, answered) = mpsc::channel::<()>();
    thread::spawn(move || {
        // A command that wants no answer has gone.
        let _ = io::copy(&mut answers, &mut input);
        let _ = input.close();
        drop(sender);
    });
    let _ = io::copy(&mut output, &mut agent);
    let _ = agent.shutdown(Shutdown::Write);
    // An agent that waits for its user may not see that nobody waits for it any more.
    let _ = answered.recv_timeout(LAST_ANSWER);
    let _ = agent.shutdown(Shutdown::Both);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named() {
        let spec = |text: &str| text.parse::<SshSpec>();
        let with = |id: &str, socket: Option<&str>| {
            Ok(SshSpec {
                id: id.to_owned(),
                socket: socket.map(PathBuf::from),
            })
        };
        assert_eq!(spec("default"), with("default", None));
        assert_eq!(spec("git=/run/agent"), with("git", Some("/run/agent")));
        assert_eq!(spec("git="), with("git", None));
        assert_eq!(spec(""), Err(SshError::NoId));
        assert_eq!(spec("=/run/agent"), Err(SshError::NoId));
        assert_eq!(spec("git=a,b"), Err(SshError::Several("git".to_owned())));
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("id_ed25519");
        let find = || Agents::find(&[format!("git={}", key.display()).parse().unwrap()]);
        let missing = format!("{:#}", find().unwrap_err());
        assert!(missing.contains("No such file"), "{missing}");
        fs::write(&key, "key").unwrap();
        let file = format!("{:#}", find().unwrap_err());
        assert!(file.contains("is no socket: add the key"), "{file}");
    }

    #[test]
    fn the_daemon_is_told_of_those_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let spec = |id: &str| format!("{id}={}", socket.display()).parse().unwrap();
        let agents = Agents::find(&[spec("a"), spec("b")]).unwrap();
        let told = agents.tell(Target::new(&["build"])).to_string();
        let expected = format!("?sshsession={}&ssh=a&ssh=b", agents.session);
        assert!(told.ends_with(&expected), "{told}");
        assert_eq!(agents.session.len(), 32);
        let twice = Agents::find(&[spec("a"), spec("a")]).unwrap_err();
        assert_eq!(twice.to_string(), "there are two SSH agents with the id a");
        let none = Agents::find(&[]).unwrap();
        assert!(!none.tell(Target::new(&["build"])).to_string().contains('?'));
    }
}
