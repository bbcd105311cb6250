//! Starting a container again when it has ended.

use std::sync::Arc;
use std::time::Duration;

use sandbox::Clock;
use serde::{Deserialize, Serialize};

use crate::container::Live;
use crate::engine::Shared;
use crate::{ContainerState, EngineError, Result, Status, start};

/// The pause before the first restart, Docker's.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Each pause is twice the one before, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length is taken for a success: the next pause is the first one again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// When a container that has ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it failed.
    OnFailure {
        /// How often at most; 0 is without an end.
        retries: u32,
    },
    /// Always. One that was stopped is started again with the engine.
    Always,
    /// Always, unless it was stopped.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a run that ended with this code is followed by another.
    fn follows(self, state: &ContainerState) -> bool {
        match self {
            _ if state.stopped => false,
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { retries } => {
                state.exit_code != 0 && (retries == 0 || state.restarts < retries)
            }
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    /// Whether a container that does not run when the engine begins is started.
    fn begins(self, state: &ContainerState) -> bool {
        match self {
            RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !state.stopped,
        }
    }
}

/// Whether the run that ended so is to be followed by another, and after which pause, given the one before.
pub(crate) fn next_pause(
    policy: RestartPolicy,
    state: &ContainerState,
    before: Duration,
) -> Option<Duration> {
    if !policy.follows(state) {
        return None;
    }
    let ran = match (state.started_at, state.finished_at) {
        (Some(started), Some(finished)) => finished.duration_since(started),
        _ => jiff::SignedDuration::ZERO,
    };
    let ran = Duration::try_from(ran).unwrap_or_default();
    Some(if ran >= GOOD_RUN || before.is_zero() {
        FIRST_PAUSE
    } else {
        (before * 2).min(LONGEST_PAUSE)
    })
}

/// Starts a container that stands as restarting, after its pause, unless it is stopped or removed meanwhile.
pub(crate) fn restart_after(shared: &Arc<Shared>, live: &Arc<Live>, pause: Duration) {
    let (shared, live) = (shared.clone(), live.clone());
    tokio::spawn(async move {
        let mut standing = live.watch();
        let given_up = standing
            .wait_for(|standing| standing.removed || standing.record.state.status != Status::Restarting);
        if tokio::time::timeout(pause, given_up).await.is_ok() {
            return;
        }
        match start::start_again(&shared, &live).await {
            Ok(()) | Err(EngineError::NotModified(_)) => {}
            Err(error) => tracing::warn!(container = live.id(), %error, "a container is not restarted"),
        }
    });
}

/// Starts what is to run and does not, when the engine has found its containers again.
pub(crate) fn begin(shared: &Arc<Shared>) {
    for live in shared.registry.all() {
        let state = live.watch().borrow().record.state.clone();
        let policy = live.record().config.restart;
        match state.status {
            Status::Restarting => restart_after(shared, &live, FIRST_PAUSE),
            // One whose start was never asked for is not started.
            Status::Exited if policy.begins(&state) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = start::start(&shared, &live, Clock::start()).await {
                        tracing::warn!(container = live.id(), %error, "a container is not started again");
                    }
                });
            }
            _ => {}
        }
    }
}

/// Gives a restart up that is still to come; whether there was one.
pub(crate) async fn give_up(live: &Arc<Live>) -> Result<bool> {
    let mut waited = false;
    live.change(|standing| {
        let state = &mut standing.record.state;
        waited = state.status == Status::Restarting;
        if waited {
            state.status = Status::Exited;
            state.stopped = true;
        }
    });
    if waited {
        live.save().await?;
    }
    Ok(waited)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn ended(exit_code: i32, restarts: u32, stopped: bool, seconds: i64) -> ContainerState {
        ContainerState {
            status: Status::Exited,
            exit_code,
            restarts,
            stopped,
            started_at: Some(Timestamp::from_second(1000).unwrap()),
            finished_at: Some(Timestamp::from_second(1000 + seconds).unwrap()),
            ..ContainerState::default()
        }
    }

    fn restarts(policy: RestartPolicy, state: &ContainerState) -> bool {
        next_pause(policy, state, Duration::ZERO).is_some()
    }

    #[test]
    fn each_policy_follows_the_ends_that_it_is_for() {
        let failures = |retries| RestartPolicy::OnFailure { retries };
        for (policy, success, failure) in [
            (RestartPolicy::No, false, false),
            (failures(0), false, true),
            (RestartPolicy::Always, true, true),
            (RestartPolicy::UnlessStopped, true, true),
        ] {
            assert_eq!(restarts(policy, &ended(0, 0, false, 1)), success, "{policy:?}");
            assert_eq!(restarts(policy, &ended(1, 0, false, 1)), failure, "{policy:?}");
            assert!(!restarts(policy, &ended(137, 0, true, 1)), "{policy:?}");
        }
        assert!(restarts(failures(2), &ended(1, 1, false, 1)));
        assert!(!restarts(failures(2), &ended(1, 2, false, 1)));
    }

    #[test]
    fn an_engine_that_begins_starts_what_was_not_stopped_and_what_runs_always() {
        let (left, stopped) = (ended(0, 0, false, 1), ended(137, 0, true, 1));
        assert!(RestartPolicy::Always.begins(&left) && RestartPolicy::Always.begins(&stopped));
        assert!(RestartPolicy::UnlessStopped.begins(&left));
        assert!(!RestartPolicy::UnlessStopped.begins(&stopped));
        assert!(!RestartPolicy::OnFailure { retries: 0 }.begins(&left));
        assert!(!RestartPolicy::No.begins(&left));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let state = ended(1, 0, false, 1);
        let mut pauses = Vec::new();
        let mut pause = Duration::ZERO;
        for _ in 0..12 {
            pause = next_pause(RestartPolicy::Always, &state, pause).unwrap();
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[10..], [60_000, 60_000]);
        let good = ended(1, 0, false, 10);
        assert_eq!(next_pause(RestartPolicy::Always, &good, pause), Some(FIRST_PAUSE));
    }
}
