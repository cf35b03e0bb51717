//! When the kernel is compared with what policies say, and what follows from that.

use super::{Enforcer, Reconciler, sync_log};
use crate::apply::Actual;
use crate::verify::{Evidence, Expectation, Verification, VerificationOutcome, verify};
use std::time::{Duration, Instant, SystemTime};

/// How many times as long as a comparison took nothing is compared after it: it may take a twentieth of a processor.
const REST: u32 = 19;

/// What is to be compared. It refers to nothing, so that a thread can do it while the loop goes on.
#[derive(Debug)]
pub struct VerificationTask {
    evidence: Evidence,
    expectation: Expectation,
}

impl VerificationTask {
    /// Compares. Takes up to a second on a large node.
    pub fn perform(&self) -> Verification {
        verify(&self.evidence, &self.expectation)
    }
}

/// When to compare.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    /// Whether the kernel, as it was read last, holds what was written.
    agrees: bool,
    off: bool,
    next: Option<Box<VerificationTask>>,
    under_way: bool,
    not_before: Option<Instant>,
}

impl Verifications {
    /// Compares nothing from now on.
    pub(super) fn turn_off(&mut self) {
        self.off = true;
    }

    /// The kernel was read, and holds what was written, or not.
    pub(super) fn read(&mut self, agrees: bool) {
        self.agrees = agrees;
    }

    /// Takes what was read for a comparison, if it is time for one. The node of `enforcer` is the one whose kernel was read.
    pub(super) fn take_in(&mut self, actual: Actual, enforcer: &Enforcer, now: Instant) {
        let is_due = self.not_before.is_none_or(|then| then <= now);
        let agrees = std::mem::take(&mut self.agrees) && !self.off;
        if agrees && is_due && !self.under_way && !enforcer.is_behind() {
            // The preflight looks at what the bridge shows.
            let evidence =
                Evidence { options: enforcer.options().clone(), actual, sees_bridged: [true, true] };
            self.next = Some(Box::new(VerificationTask { evidence, expectation: enforcer.expectation() }));
        }
    }

    /// What is to be compared now.
    pub(super) fn start(&mut self) -> Option<Box<VerificationTask>> {
        let next = self.next.take()?;
        self.under_way = true;
        Some(next)
    }

    /// A comparison ended. Returns what readiness says of it.
    pub(super) fn ended(
        &mut self,
        verification: &Verification,
        took: Duration,
        now: Instant,
    ) -> Result<(), String> {
        self.under_way = false;
        self.not_before = Some(now + took * REST);
        match &verification.finding {
            VerificationOutcome::Verified => Ok(()),
            VerificationOutcome::Differs(example) => Err(example.to_string()),
            VerificationOutcome::Unjudged(what) => {
                Err(format!("the kernel's rules cannot be evaluated: {what}"))
            }
        }
    }
}

impl Reconciler {
    /// Does not compare the kernel with what policies say.
    pub fn leave_unverified(&mut self) {
        self.verifications.turn_off();
    }

    /// An audit found that the kernel differs from what was written, and so many steps repair it.
    pub(super) fn repairs(&self, steps: usize) {
        self.metrics.drift_repaired();
        sync_log::drifted(steps);
    }

    /// The kernel was compared with what policies say.
    pub(super) fn verified(
        &mut self,
        verification: &Verification,
        took: Duration,
        at: SystemTime,
        now: Instant,
    ) {
        let outcome = self.verifications.ended(verification, took, now);
        match &outcome {
            Ok(()) => self.metrics.verified(at, verification.decisions + verification.frames),
            Err(why) => sync_log::unverified(why),
        }
        self.health.set_check("verified", outcome);
    }
}
