//! Waiting for the end of a container.

use tokio::sync::watch;

use crate::Status;
use crate::container::{Live, Standing};

/// When [`Engine::wait`](crate::Engine::wait) is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run.
    #[default]
    NotRunning,
    /// It ends from now on, whether it runs already or not.
    NextExit,
    /// It is removed.
    Removed,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitStatus {
    /// Its exit code.
    pub code: i32,
    /// Why it ended other than by its init's end; empty if it did not.
    pub error: String,
}

/// A wait that has begun.
#[derive(Debug)]
pub struct Waiter {
    standing: watch::Receiver<Standing>,
    condition: WaitCondition,
    /// How often it had ended when the wait began.
    exits: u64,
}

impl Waiter {
    pub(crate) fn new(live: &Live, condition: WaitCondition) -> Waiter {
        let standing = live.watch();
        let exits = standing.borrow().exits;
        Waiter {
            standing,
            condition,
            exits,
        }
    }

    /// The container's exit, once the condition is met.
    pub async fn status(mut self) -> WaitStatus {
        let (condition, exits) = (self.condition, self.exits);
        let over = |standing: &Standing| {
            standing.removed
                || match condition {
                    // One that is started again has stopped in between.
                    WaitCondition::NotRunning => {
                        standing.exits > exits
                            || !matches!(
                                standing.record.state.status,
                                Status::Running | Status::Paused | Status::Restarting
                            )
                    }
                    WaitCondition::NextExit => standing.exits > exits,
                    WaitCondition::Removed => false,
                }
        };
        match self.standing.wait_for(over).await {
            Ok(standing) => {
                let state = &standing.record.state;
                // Whose start failed was told so by the start; the container that is then removed has not ended.
                let ended = condition != WaitCondition::Removed || standing.exits > exits;
                WaitStatus {
                    code: state.exit_code,
                    error: if ended { state.error.clone() } else { String::new() },
                }
            }
            // The container was dropped without a word, which happens when the engine goes.
            Err(_) => WaitStatus {
                code: 0,
                error: "the engine has ended".into(),
            },
        }
    }
}
