//! A container in the foreground, for `run` and `start`: attach, then wait, then start, so that
//! neither a byte of its output nor its end can be missed.

use bollard_stubs::models::ContainerWaitResponse;
use clap::{ArgAction, Args};
use hyper::Method;

use super::container_spec::{AttachedStreams, start_failure};
use crate::api::{ApiError, Client, Pending, Target};
use crate::failure::{CommandResult, Failure, OWN_FAILURE};
use crate::signals::{Recipient, Relay, Resize};
use crate::stream::{DetachKeys, End, Session, SessionSpec};
use crate::terminal::{self, RawMode};

/// Which signals a command that stays with a container hands on.
#[derive(Debug, Args)]
pub(crate) struct SignalOptions {
    /// Proxy received signals to the process (default true)
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(super) sig_proxy: bool,
}

/// A container that is there and does not run yet.
#[derive(Debug)]
pub(super) struct Foreground<'a> {
    pub(super) client: &'a Client,
    pub(super) id: &'a str,
    pub(super) tty: bool,
    pub(super) streams: AttachedStreams,
    pub(super) detach_keys: DetachKeys,
    pub(super) sig_proxy: bool,
    /// The daemon removes it at its end: wait for that, so that its name is free again.
    pub(super) auto_remove: bool,
}

impl Foreground<'_> {
    /// Starts it and stays with it to its end; its exit code.
    pub(super) async fn run(self) -> CommandResult {
        let own_failure = |error: ApiError| Failure::new(OWN_FAILURE, anyhow::anyhow!("hull: {error}"));
        let no_body: Option<&()> = None;
        let (stream, exit) = tokio::try_join!(
            self.client.hijack(self.attach_target(), no_body),
            self.client.begin(Method::POST, self.wait_target()),
        )
        .map_err(own_failure)?;
        let raw_mode = if self.tty && self.streams.stdin {
            Some(RawMode::enter()?)
        } else {
            None
        };
        let mut relay = Relay::new(self.client, self.recipient())?;
        let session = Session::start(
            stream,
            SessionSpec {
                tty: self.tty,
                stdin: self.streams.stdin,
                detach_keys: self.detach_keys.clone(),
            },
        )?;
        let start = self
            .client
            .post_empty(Target::new(&["containers", self.id, "start"]));
        if let Err(error) = relay.hold(start).await? {
            return Err(start_failure(&error));
        }
        if let (true, Some(size)) = (self.tty, terminal::window_size()) {
            Resize::Container(self.id).to(self.client, size).await;
        }
        if relay.during(session.end()).await?? == End::Detached {
            return Ok(());
        }
        let status = relay.during(exit_status(exit)).await?;
        drop(raw_mode);
        Failure::from_status(status?)
    }

    fn recipient(&self) -> Recipient<'_> {
        match (self.tty, self.sig_proxy) {
            (true, _) => Recipient::Terminal(Resize::Container(self.id)),
            (false, true) => Recipient::Container(self.id),
            (false, false) => Recipient::Nobody,
        }
    }

    fn attach_target(&self) -> Target {
        Target::new(&["containers", self.id, "attach"])
            .flag("stream", true)
            .flag("stdin", self.streams.stdin)
            .flag("stdout", self.streams.stdout)
            .flag("stderr", self.streams.stderr)
            .query("detachKeys", self.detach_keys.as_str())
    }

    fn wait_target(&self) -> Target {
        let condition = if self.auto_remove { "removed" } else { "next-exit" };
        Target::new(&["containers", self.id, "wait"]).query("condition", condition)
    }
}

/// The answer to a wait, once it comes.
pub(super) async fn exit_status(exit: Pending) -> Result<i64, Failure> {
    let answer: ContainerWaitResponse = exit
        .json()
        .await
        .map_err(|error| Failure::new(OWN_FAILURE, anyhow::anyhow!("hull: {error}")))?;
    match answer
        .error
        .and_then(|error| error.message)
        .filter(|message| !message.is_empty())
    {
        Some(message) => Err(Failure::new(
            OWN_FAILURE,
            anyhow::anyhow!("hull: error waiting for container: {message}"),
        )),
        None => Ok(answer.status_code),
    }
}

/// Refuses to join a container's terminal with an input that is none.
pub(super) fn check_terminal(tty: bool, stdin: bool) -> Result<(), Failure> {
    if tty && stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new(1, anyhow::anyhow!("the input device is not a TTY")));
    }
    Ok(())
}
