//! Before the first lists are complete, this node's sandboxes are isolated, whatever is known of their pods, unless
//! rules of an earlier run are in force. After a reboot the kernel has no rules, and pods may run long before the API
//! server can be reached.

use super::in_flight::{Job, Stage};
use super::{Action, Reconciler, Work};
use crate::apply::{Actual, Step};
use std::collections::BTreeSet;
use std::time::Instant;

impl Reconciler {
    /// The next work before the first lists are complete: isolates this node's sandboxes, unless the kernel has our
    /// rules.
    pub(super) fn begin_early(&mut self) -> Option<Action> {
        let early = self.early.as_mut()?;
        if early.must_read() {
            let any = early.cluster().sandbox_count() > 0;
            return any.then(|| self.start(Work::Read, Job::new(Stage::Read, BTreeSet::new())));
        }
        if !early.is_behind() {
            return None;
        }
        let steps = early.flush().steps;
        Some(self.commit_early(steps))
    }

    /// Compares what was read from the kernel with what must hold now.
    pub(super) fn adopt_read(&mut self, actual: Actual, now: Instant) -> Option<Action> {
        if !self.complete {
            return self.adopt_early(&actual, now);
        }
        let action = self.adopt(&actual, now);
        self.verifications.take_in(actual, &self.enforcer, now);
        action
    }

    /// Compares what was read from the kernel with the rules that isolate this node's sandboxes.
    fn adopt_early(&mut self, actual: &Actual, now: Instant) -> Option<Action> {
        if actual.is_in_force() {
            tracing::info!(
                "the rules of an earlier run stay in force unchanged until the first lists are complete"
            );
            self.early = None;
            self.past_start = true;
        }
        let early = self.early.as_mut()?;
        let steps = early.adopt(actual).steps;
        if let Some(why) = self.log.other_controllers(early.standing()) {
            self.past_start = true;
            self.health.set_check("sync", Err(why));
            return self.pace.waits(now);
        }
        let sandboxes = early.cluster().sandbox_count();
        tracing::info!(
            sandboxes,
            "no rules are in force: all traffic of pods is denied until the first lists are complete"
        );
        Some(self.commit_early(steps))
    }

    /// Called when the agent must stop: what it isolated now would stay isolated until another agent runs.
    pub(super) fn close_no_more(&mut self) {
        self.early = None;
    }

    /// Commits steps that bring no facts into force and cut no connections.
    fn commit_early(&mut self, steps: Vec<Step>) -> Action {
        let job = Job { steps: steps.len(), ..Job::new(Stage::Early, BTreeSet::new()) };
        self.start(Work::Commit { steps }, job)
    }
}
