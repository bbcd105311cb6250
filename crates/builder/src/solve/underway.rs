//! What a build is at, for who asks why it takes so long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dockerfile::Span;
use tokio::time::Instant;

/// What the stages of a build are at, each by its number. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Underway(Arc<Mutex<BTreeMap<usize, Deed>>>);

#[derive(Debug)]
struct Deed {
    what: String,
    span: Span,
    since: Instant,
    /// Whether it waits for another stage, which is at something itself.
    waits: bool,
}

/// Until it is dropped, its stage is at something, or waits.
#[derive(Debug)]
#[must_use]
pub(super) struct Until<'a> {
    underway: &'a Underway,
    stage: usize,
    end: fn(&mut BTreeMap<usize, Deed>, usize),
}

/// What takes long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Longest {
    pub(super) what: String,
    pub(super) span: Span,
    pub(super) time: Duration,
}

impl Underway {
    /// A stage begins something.
    pub(super) fn begin(&self, stage: usize, span: Span, what: impl FnOnce() -> String) -> Until<'_> {
        let deed = Deed {
            what: what(),
            span,
            since: Instant::now(),
            waits: false,
        };
        self.lock().insert(stage, deed);
        Until {
            underway: self,
            stage,
            end: |deeds, stage| drop(deeds.remove(&stage)),
        }
    }

    /// A stage waits for another one.
    pub(super) fn wait(&self, stage: usize) -> Until<'_> {
        set_waits(&mut self.lock(), stage, true);
        Until {
            underway: self,
            stage,
            end: |deeds, stage| set_waits(deeds, stage, false),
        }
    }

    /// What has taken the longest of what waits for no other stage.
    pub(super) fn longest(&self) -> Option<Longest> {
        let deeds = self.lock();
        let busy = deeds.values().filter(|deed| !deed.waits);
        busy.min_by_key(|deed| deed.since).map(|deed| Longest {
            what: deed.what.clone(),
            span: deed.span,
            time: deed.since.elapsed(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Deed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_waits(deeds: &mut BTreeMap<usize, Deed>, stage: usize, waits: bool) {
    if let Some(deed) = deeds.get_mut(&stage) {
        deed.waits = waits;
    }
}

impl Drop for Until<'_> {
    fn drop(&mut self) {
        (self.end)(&mut self.underway.lock(), self.stage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_another_stage_is_not_what_takes_long() {
        let underway = Underway::default();
        let begin = |stage, what: &'static str| underway.begin(stage, Span::default(), || what.to_owned());
        let longest = || underway.longest().map(|longest| longest.what);
        assert_eq!(longest(), None);
        let first = begin(1, "first");
        let second = begin(2, "second");
        assert_eq!(longest().as_deref(), Some("first"));
        let waiting = underway.wait(1);
        assert_eq!(longest().as_deref(), Some("second"));
        drop(second);
        assert_eq!(longest(), None);
        drop(waiting);
        assert_eq!(longest().as_deref(), Some("first"));
        drop(first);
        assert_eq!(longest(), None);
    }
}
