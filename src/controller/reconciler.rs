//! Decides what the main loop does next. Events and the time are passed in, actions are returned. There is no clock,
//! channel, thread or kernel here, so a test can run any schedule.

use super::audit::Audit;
use super::backlog::Backlog;
use super::cuts::{Cuts, Failures, verdict};
use super::in_flight::{InFlight, Job, Stage};
use super::revoked::Revoked;
use super::sync_log::{self, Ended, SyncLog};
use super::verifications::Verifications;
use super::{Deletions, Done, Enforcer, Event, Flush, Pace, VerificationTask, Work, WorkOutcome, inventory};
use crate::apply::{Actual, KernelError, Step};
use crate::observe::{Health, Metrics, Phase};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// An action of the main loop.
#[derive(Debug)]
pub enum Action {
    /// Start this work and report its end as [`Event::Returned`]. Other events may be reported meanwhile.
    Start(Work),
    /// Write members of sets at once, concurrently with the work in flight if there is any. The next event must be
    /// [`Event::Written`].
    Write(Vec<Step>),
    /// Compare the kernel with policies, while all else goes on, and report the end as [`Event::Verified`].
    Verify(Box<VerificationTask>),
    /// Wait for an event, at most until this time; `None` for no limit.
    Wait(Option<Instant>),
    /// The sources have ended, and their last changes are in force or were tried.
    Stop,
}

/// Keeps a kernel equal to what the sources report, by deciding what to write and when.
pub struct Reconciler {
    pub(super) enforcer: Enforcer,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Whether every source has delivered its first complete list.
    pub(super) complete: bool,
    ended: bool,
    /// Isolates this node's sandboxes until the first lists are complete; `None` if that is not, or no longer, needed.
    pub(super) early: Option<Enforcer>,
    /// Whether it is decided which rules protect pods from now on.
    pub(super) past_start: bool,
    pub(super) deletions: Deletions,
    pub(super) pace: Pace,
    pub(super) backlog: Backlog,
    sync: u64,
    audit: Audit,
    pub(super) log: SyncLog,
    auditing: bool,
    /// Addresses with connections that may no longer be allowed.
    pub(super) revoked: Revoked,
    /// Connections to cut, and connections that are allowed again.
    pub(super) cuts: Cuts,
    /// Whether policies or rules changed since the last commit of rules.
    pub(super) structure_changed: bool,
    /// Whether anything changed since the last count.
    pub(super) uncounted: bool,
    pub(super) counts: u64,
    /// Work that was started and has not returned.
    in_flight: Option<InFlight>,
    /// A write whose result is the next event.
    writing: Option<Job>,
    /// What was read but not adopted yet, and whether members of sets were written since that read began.
    read: Option<Box<Actual>>,
    wrote_since_read: bool,
    pub(super) verifications: Verifications,
}

impl Reconciler {
    /// A reconciler that knows nothing of the kernel yet, and audits it at this interval from `now` on.
    pub fn new(
        enforcer: Enforcer,
        metrics: Metrics,
        health: Health,
        audit_every: Duration,
        now: Instant,
    ) -> Reconciler {
        Reconciler {
            early: enforcer.of_sandboxes_alone(),
            past_start: false,
            enforcer,
            deletions: Deletions::default(),
            backlog: Backlog::new(metrics.clone()),
            metrics,
            health,
            complete: false,
            ended: false,
            pace: Pace::default(),
            sync: 0,
            audit: Audit::every(audit_every, now),
            log: SyncLog::default(),
            auditing: false,
            revoked: Revoked::default(),
            cuts: Cuts::default(),
            structure_changed: true,
            uncounted: true,
            counts: 0,
            in_flight: None,
            writing: None,
            read: None,
            wrote_since_read: false,
            verifications: Verifications::default(),
        }
    }

    /// What is known, what must be enforced, and what the kernel holds.
    pub fn enforcer(&self) -> &Enforcer {
        &self.enforcer
    }

    /// Whether every source has delivered its first complete list.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the start is over: the rules of all policies are in force, or rules of an earlier run or of another controller stay in
    /// force for now. Until then, all traffic of pods may be denied.
    pub fn is_past_start(&self) -> bool {
        self.past_start
    }

    /// How often objects, rules and sets were counted. They are counted only after something changed.
    pub fn counts(&self) -> u64 {
        self.counts
    }

    /// Handles an event.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Delivery(delivery) => self.take_in(delivery, now),
            Event::SourcesEnded => {
                self.ended = true;
                self.close_no_more();
            }
            Event::Returned(outcome) => self.end(outcome, now),
            Event::Written(outcome) => self.written(outcome, now),
            Event::Verified { verification, took, at } => self.verified(&verification, took, at, now),
            // The kernel will be read anyway once the first lists are complete.
            Event::ExternalChange if !self.complete => {}
            Event::ExternalChange => self.audit.changed(now),
            Event::TimePassed => {
                if self.deletions.due().is_some_and(|due| due <= now) {
                    self.settle(now);
                }
            }
            Event::Heartbeat => {
                self.settle(now);
                self.count();
                self.log.write(now);
            }
        }
    }

    /// What to do now. Must be called again after each action and each event.
    pub fn next(&mut self, now: Instant) -> Action {
        self.settle_facts();
        if let Some(task) = self.verifications.start() {
            return Action::Verify(task);
        }
        let action = match self.in_flight.take() {
            None => self.begin(now),
            Some(in_flight) => self.write_concurrently(in_flight),
        };
        action.unwrap_or_else(|| self.rest(now))
    }

    fn rest(&self, now: Instant) -> Action {
        let rests = self.in_flight.is_none();
        if self.ended && rests && !self.has_check_ahead() {
            return Action::Stop;
        }
        let retry = self.next_try(now).filter(|_| rests);
        Action::Wait(retry.into_iter().chain(self.deletions.due()).min())
    }

    /// Starts the next piece of work, if there is any and it is due.
    fn begin(&mut self, now: Instant) -> Option<Action> {
        if let Some(actual) = self.read.take()
            && !self.is_outdated()
            && let Some(action) = self.adopt_read(*actual, now)
        {
            return Some(action);
        }
        if !self.pace.may_try(now) {
            return None;
        }
        if !self.complete {
            return self.begin_early();
        }
        if let Some(changes) = self.cuts.take() {
            let mark = self.enforcer.options().mark;
            return Some(self.start(Work::Cut { changes, mark }, Job::new(Stage::Cut, BTreeSet::new())));
        }
        let again = self.cuts.again(now);
        self.schedule_check(again, now);
        let idle = !self.enforcer.is_behind();
        if self.audit.is_due(now, idle) {
            // After a failed step, the kernel is expected to differ.
            self.auditing = !self.enforcer.is_unread();
            self.enforcer.audit();
        }
        if self.enforcer.must_read() {
            self.audit.looks(now);
            self.wrote_since_read = false;
            return Some(self.start(Work::Read, Job::new(Stage::Read, BTreeSet::new())));
        }
        if idle {
            self.backlog.settle(now);
            self.enforcer.policies_settled();
        }
        if self.revoked.is_due(now, idle) {
            let [revoked, left] = self.revoked.take(now);
            let work = Work::List { addresses: &revoked | &left };
            return Some(self.start(work, Job { left, ..Job::new(Stage::List, revoked) }));
        }
        if idle {
            return None;
        }
        let flush = self.enforcer.flush();
        let of_members = flush.steps.iter().all(Step::is_of_members);
        Some(if of_members { self.write(flush, Stage::Commit) } else { self.commit(flush) })
    }

    /// Whether what was read may lack something that was written meanwhile and is no longer wanted, or the reverse.
    /// Then it must be read again. If nothing changed since then, what was written is still wanted, and is written once
    /// more.
    fn is_outdated(&self) -> bool {
        self.wrote_since_read && (self.enforcer.plan().has_changed() || self.enforcer.is_unread())
    }

    /// Writes what may be written concurrently with the work in progress.
    fn write_concurrently(&mut self, mut in_flight: InFlight) -> Option<Action> {
        let mut flush = None;
        if self.complete && self.enforcer.plan().has_changed() {
            let permitted = in_flight.concurrent.as_ref();
            flush = permitted.and_then(|concurrent| self.enforcer.flush_concurrently(concurrent));
            if flush.is_none() {
                // Later changes wait, too: a change never comes into force before an earlier one.
                in_flight.concurrent = None;
            } else if in_flight.job.what == Stage::Read {
                // The read may lack what is written now, so a difference would not be drift.
                self.auditing = false;
            }
        }
        self.in_flight = Some(in_flight);
        flush.map(|flush| self.write(flush, Stage::Concurrent))
    }

    /// Writes members of sets at once.
    fn write(&mut self, flush: Flush, what: Stage) -> Action {
        let Flush { steps, revoked, granted, concurrent: _ } = flush;
        self.writing = Some(self.job(what, revoked, &granted, &steps));
        self.wrote_since_read = true;
        Action::Write(steps)
    }

    /// Starts a commit that takes longer.
    fn commit(&mut self, flush: Flush) -> Action {
        let Flush { steps, revoked, granted, concurrent } = flush;
        self.structure_changed |= steps.iter().any(Step::changes_rules);
        let job = self.job(Stage::Commit, revoked, &granted, &steps);
        self.in_flight = Some(InFlight { job, concurrent });
        Action::Start(Work::Commit { steps })
    }

    /// A commit of these steps, which brings all waiting changes into force.
    fn job(
        &mut self,
        what: Stage,
        mut revoked: BTreeSet<IpAddr>,
        granted: &BTreeSet<IpAddr>,
        steps: &[Step],
    ) -> Job {
        revoked.extend(self.cuts.may_return(granted));
        let (carries, revoked) = (self.backlog.carry(), self.unless_kept(revoked));
        let structure = what == Stage::Commit && std::mem::take(&mut self.structure_changed);
        let policies = self.enforcer.carry_policies();
        Job { carries, policies, steps: steps.len(), structure, ..Job::new(what, revoked) }
    }

    /// Starts work during which members of sets may be written.
    pub(super) fn start(&mut self, work: Work, job: Job) -> Action {
        self.in_flight = Some(InFlight::new(job));
        Action::Start(work)
    }

    /// Whether connections will be looked at soon, if nothing fails.
    fn has_check_ahead(&self) -> bool {
        self.pace.not_before().is_none() && self.revoked.pressing().is_some()
    }

    /// When there may be something to do without an event; `None` for never.
    fn next_try(&self, now: Instant) -> Option<Instant> {
        // A pause that is over is no reason to wake up, because there was nothing to retry.
        match self.pace.not_before().filter(|then| *then > now) {
            Some(then) => Some(then),
            None => [self.revoked.due(), self.audit.due(), self.cuts.due()].into_iter().flatten().min(),
        }
    }

    /// Handles the end of the work in progress.
    fn end(&mut self, WorkOutcome { done, started, took, at }: WorkOutcome<Done>, now: Instant) {
        let Some(InFlight { job, .. }) = self.in_flight.take() else { return };
        self.metrics.phase(job.what.phase(), took);
        match done {
            Ok(Done::Read(actual)) => self.read = Some(actual),
            Ok(Done::Committed) => self.committed(job, started, at, now),
            Ok(Done::Listed(connections)) => {
                self.revoked.looked(took);
                let connections = self.cuts.forget(&job.left, connections);
                let (enforcer, mark) = (&self.enforcer, self.enforcer.options().mark);
                self.cuts.decide(&job.revoked, connections, mark, |own| verdict(enforcer, own));
                if self.cuts.are_resolved() {
                    self.cut(&Failures::new(), at, now);
                }
            }
            Ok(Done::Cut(failures)) => self.cut(&failures, at, now),
            Err(error) => self.failed(&error, job, at, now),
        }
    }

    /// Handles the end of a write of members of sets.
    fn written(&mut self, WorkOutcome { done, started, took, at }: WorkOutcome<()>, now: Instant) {
        let Some(job) = self.writing.take() else { return };
        self.metrics.phase(job.what.phase(), took);
        match done {
            Ok(()) => self.committed(job, started, at, now),
            Err(error) => self.failed(&error, job, at, now),
        }
    }

    /// Compares what was read from the kernel with what must hold.
    pub(super) fn adopt(&mut self, actual: &Actual, now: Instant) -> Option<Action> {
        self.metrics.dropped_frames(&inventory::dropped_frames(actual));
        sync_log::leftovers(actual, self.enforcer.options().backend);
        let expected = self.enforcer.plan().has_changed();
        let flush = self.enforcer.adopt(actual);
        if let Some(why) = self.log.other_controllers(self.enforcer.standing()) {
            self.past_start = true;
            self.health.set_check("sync", Err(why));
            return self.pace.waits(now);
        }
        let drifted = self.auditing && !expected && !self.enforcer.removes() && !flush.steps.is_empty();
        self.auditing = false;
        if drifted {
            self.repairs(flush.steps.len());
        }
        self.verifications.read(flush.steps.is_empty());
        Some(self.commit(flush))
    }

    fn committed(&mut self, job: Job, started: Instant, at: SystemTime, now: Instant) {
        let Job { what, carries, policies, steps, structure, revoked, left: _ } = job;
        self.enforcer.policies_arrived(policies);
        self.schedule_check(revoked, now);
        if matches!(what, Stage::Commit | Stage::Early) {
            self.pace.succeeded();
        }
        if what == Stage::Commit {
            self.past_start = true;
            self.health.set_check("sync", Ok(()));
        }
        self.sync += 1;
        let took = now.duration_since(started);
        self.metrics.sync_ended(at, Ok(()));
        self.metrics.phase(Phase::Total, took);
        self.backlog.arrived(carries, now);
        // The content of the kernel is known from now on, even if nothing had to be written.
        self.uncounted = true;
        if structure {
            self.count();
        }
        let ended = Ended { id: self.sync, changes: carries.count, steps, took, at };
        if structure { self.log.info(ended, now) } else { self.log.debug(ended) }
    }

    fn failed(&mut self, error: &KernelError, failed: Job, at: SystemTime, now: Instant) {
        self.revoked.reuse_unlisted(failed.left, now);
        self.schedule_check(failed.revoked, now);
        self.structure_changed |= failed.structure;
        self.pace.failed(now);
        self.enforcer.invalidate();
        self.early.iter_mut().for_each(Enforcer::invalidate);
        self.backlog.give_back(failed.carries);
        self.enforcer.policies_failed(failed.policies);
        self.metrics.sync_ended(at, Err(error.kind()));
        self.health.set_check("sync", Err(error.to_string()));
        sync_log::failed(error, self.pace.not_before().map(|then| then.duration_since(now)));
    }
}
