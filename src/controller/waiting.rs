//! Changes that are not in force yet.

use std::time::Instant;

/// How many wait, and since when the oldest was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) seen: Option<Instant>,
    pub(super) count: usize,
}

impl Waiting {
    /// So many more have been seen.
    pub(super) fn add(&mut self, seen: Instant, count: usize) {
        self.seen = self.seen.or(Some(seen).filter(|_| count > 0));
        self.count += count;
    }

    /// Those that were taken, and did not come into force, wait again.
    pub(super) fn give_back(&mut self, taken: Waiting) {
        self.seen = taken.seen.or(self.seen);
        self.count += taken.count;
    }
}
