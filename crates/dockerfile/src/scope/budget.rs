//! What all expansions of a build may cost together.

use crate::limits::MAX_BUILD_WORK;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Work that is left, shared by all scopes of a build.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    spent: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            spent: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Whether this much was left.
    pub(super) fn spend(&self, work: usize) -> bool {
        // Each part is bounded (`MAX_EXPANSION_WORK`), so that the sum cannot wrap before it is refused.
        let before = self.spent.fetch_add(work, Ordering::Relaxed);
        let is_left = before.saturating_add(work) <= MAX_BUILD_WORK;
        if !is_left {
            self.spent.store(MAX_BUILD_WORK, Ordering::Relaxed);
        }
        is_left
    }
}
