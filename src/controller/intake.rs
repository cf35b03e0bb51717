//! How facts are received, and when deletions of policies are applied.

use super::{Deletions, Delivery, NamespaceWatch, Reconciler, inventory};
use crate::model::Change;
use crate::observe::ChangeKind;
use std::time::Instant;

impl Reconciler {
    /// Treats a policy's deletion as a possible part of its namespace's deletion, which this watch reports.
    pub fn await_namespaces(&mut self, watch: NamespaceWatch) {
        self.deletions = Deletions::that_wait_for(watch);
    }

    pub(super) fn take_in(&mut self, delivery: Delivery, now: Instant) {
        if delivery.complete {
            self.complete = true;
            self.early = None;
        }
        for change in delivery.changes {
            self.health.work();
            let (kind, _) = inventory::subject(&change);
            self.metrics.changed(kind, 1);
            let believed = self.deletions.take_in(change, self.enforcer.cluster(), delivery.seen);
            self.backlog.add(delivery.seen, believed.len());
            believed.into_iter().for_each(|change| self.believe(change, now));
        }
    }

    /// Applies the deletions that have waited long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        for (change, seen) in self.deletions.settle(self.enforcer.cluster(), now) {
            self.backlog.add(seen, 1);
            self.believe(change, now);
        }
    }

    /// Updates the plan for all facts that were taken in. Until the first lists are complete nothing depends on it, and they may bring
    /// thousands of policies for the same pods.
    pub(super) fn settle_facts(&mut self) {
        if self.complete {
            self.enforcer.settle();
        }
    }

    fn believe(&mut self, change: Change, now: Instant) {
        self.hand_over(&change, now);
        let (kind, policy) = inventory::subject(&change);
        self.uncounted = true;
        self.structure_changed |= matches!(kind, ChangeKind::Namespace | ChangeKind::Policy);
        if let (Some(early), ChangeKind::Sandbox | ChangeKind::Port) = (&mut self.early, kind) {
            early.apply(change.clone());
        }
        inventory::apply(&mut self.enforcer, change, policy.as_ref());
    }
}
