//! When the steps of a microVM's life were done.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Microseconds from the moment the start was asked for to each step; `None` for a step that was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// The VMM process was spawned.
    pub spawned: Option<u64>,
    /// The agent said that it can be spoken to.
    pub ready: Option<u64>,
    /// The agent had prepared the container.
    pub created: Option<u64>,
    /// The container's init ran.
    pub started: Option<u64>,
    /// The first output of the container's init arrived.
    pub first_output: Option<u64>,
    /// The container's init had ended.
    pub exited: Option<u64>,
    /// The VMM process was gone.
    pub gone: Option<u64>,
}

/// A step of a [`Timeline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Timeline::spawned`]
    Spawned,
    /// [`Timeline::ready`]
    Ready,
    /// [`Timeline::created`]
    Created,
    /// [`Timeline::started`]
    Started,
    /// [`Timeline::first_output`]
    FirstOutput,
    /// [`Timeline::exited`]
    Exited,
    /// [`Timeline::gone`]
    Gone,
}

/// Marks the steps of a timeline; clones mark the same one.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The host's monotonic clock at the moment the start was asked for, in microseconds: it outlives this process.
    origin: u64,
    timeline: Arc<Mutex<Timeline>>,
}

impl Clock {
    /// A clock whose timeline begins now.
    pub fn start() -> Clock {
        Clock::resume(monotonic_us(), Timeline::default())
    }

    /// A clock that goes on with a timeline.
    pub fn resume(origin: u64, timeline: Timeline) -> Clock {
        Clock {
            origin,
            timeline: Arc::new(Mutex::new(timeline)),
        }
    }

    /// What [`Clock::resume`] needs.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Marks a step as done now, unless it was done before.
    pub fn mark(&self, step: Step) {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match step {
            Step::Spawned => &mut timeline.spawned,
            Step::Ready => &mut timeline.ready,
            Step::Created => &mut timeline.created,
            Step::Started => &mut timeline.started,
            Step::FirstOutput => &mut timeline.first_output,
            Step::Exited => &mut timeline.exited,
            Step::Gone => &mut timeline.gone,
        };
        if slot.is_none() {
            let at = monotonic_us().saturating_sub(self.origin);
            *slot = Some(at);
            tracing::debug!(?step, at_us = at, "timeline");
        }
    }

    /// The steps so far.
    pub fn timeline(&self) -> Timeline {
        *self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_keeps_its_first_mark() {
        let clock = Clock::start();
        clock.mark(Step::Ready);
        let first = clock.timeline();
        std::thread::sleep(std::time::Duration::from_millis(2));
        clock.clone().mark(Step::Ready);
        clock.mark(Step::Gone);
        assert_eq!(clock.timeline().ready, first.ready);
        assert!(clock.timeline().gone > first.ready);
    }

    #[test]
    fn a_resumed_clock_goes_on_from_the_same_origin() {
        let clock = Clock::start();
        clock.mark(Step::Started);
        let resumed = Clock::resume(clock.origin(), clock.timeline());
        resumed.mark(Step::Exited);
        assert_eq!(resumed.timeline().started, clock.timeline().started);
        assert!(resumed.timeline().exited >= clock.timeline().started);
    }
}
