//! Changes that are not in force yet, and their metrics.

use crate::observe::Metrics;
use std::time::Instant;

/// Changes that were received together: how many, and when the oldest was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) seen: Option<Instant>,
    pub(super) count: usize,
}

/// Changes that wait, and the number of those that are being enforced.
pub(super) struct Backlog {
    metrics: Metrics,
    waiting: Changes,
    carried: usize,
}

impl Backlog {
    /// No changes yet.
    pub(super) fn new(metrics: Metrics) -> Backlog {
        Backlog { metrics, waiting: Changes::default(), carried: 0 }
    }

    /// Called when more changes have been seen.
    pub(super) fn add(&mut self, seen: Instant, count: usize) {
        self.waiting.seen = self.waiting.seen.or(Some(seen).filter(|_| count > 0));
        self.waiting.count += count;
        self.report();
    }

    /// Called when a commit begins to enforce all changes that wait.
    pub(super) fn carry(&mut self) -> Changes {
        self.carried += self.waiting.count;
        std::mem::take(&mut self.waiting)
    }

    /// Called when the changes of a commit are in force.
    pub(super) fn arrived(&mut self, carried: Changes, now: Instant) {
        self.carried -= carried.count;
        if let Some(seen) = carried.seen {
            self.metrics.enforced(now.duration_since(seen));
        }
        self.report();
    }

    /// Called when the changes of a commit did not come into force; they wait again.
    pub(super) fn give_back(&mut self, carried: Changes) {
        self.carried -= carried.count;
        self.waiting.seen = carried.seen.or(self.waiting.seen);
        self.waiting.count += carried.count;
        self.report();
    }

    /// Called when all changes that wait need no change of the kernel.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.waiting.seen.is_some() {
            let settled = self.carry();
            self.arrived(settled, now);
        }
    }

    fn report(&self) {
        self.metrics.pending_changes(self.waiting.count + self.carried);
    }
}
