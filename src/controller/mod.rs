//! One task, one loop, no locks: takes facts from the sources and keeps the kernel equal to them.
//!
//! Flushes at once when idle, and gathers while the kernel works. What takes long is a thread's; members of sets are written
//! here, in some microseconds, concurrently with a change of rules where that permits it. What is written before
//! every source has delivered its first complete list, `early` decides.

mod audit;
mod backlog;
mod coexistence;
mod cuts;
mod deletions;
mod delivery;
mod early;
mod enforcer;
mod in_flight;
mod intake;
mod inventory;
mod kernel_thread;
mod pace;
mod query;
mod revoked;
mod shortfalls;
mod sync_log;
mod work;

pub use coexistence::{Standing, Takeover};
pub use cuts::{Failures, MarkChanges};
pub use deletions::*;
pub use delivery::*;
pub use enforcer::*;
pub use pace::*;
pub use query::Query;
pub use work::{Done, Work};

use crate::apply::{Actual, Kernel, KernelError, PacketFilter, Step, Tally};
use crate::compile::Shortfall;
use crate::net::Family;
use crate::observe::{Health, Metrics, Phase};
use crate::render::OnRevoke;
use audit::Audit;
use backlog::Backlog;
use cuts::{Cuts, verdict};
use in_flight::{InFlight, Job, Stage, ended, until};
use kernel_thread::{KernelThread, WorkResult};
use revoked::Revoked;
use shortfalls::Shortfalls;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use sync_log::{Ended, SyncLog};
use tokio::sync::{Notify, mpsc, watch};

/// How often the loop shows that it is alive, at least.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Keeps a kernel equal to what the sources say.
pub struct Controller {
    enforcer: Enforcer,
    metrics: Metrics,
    health: Health,
    /// The thread for what takes long in the kernel, and what it has done.
    kernel_thread: KernelThread,
    tally: Tally,
    /// Writes members of sets in the same kernel.
    set_writer: Box<dyn PacketFilter + Send>,
    complete: bool,
    /// What closes this node's sandboxes until the first lists are complete; `None` if nothing is to, or no longer.
    early: Option<Enforcer>,
    deletions: Deletions,
    pace: Pace,
    backlog: Backlog,
    sync: u64,
    audit: Audit,
    log: SyncLog,
    auditing: bool,
    /// Notified when another program may have changed the kernel.
    external_changes: Arc<Notify>,
    /// Addresses some of whose connections may have lost what allowed them.
    revoked: Revoked,
    /// Connections that have, or have it again.
    cuts: Cuts,
    /// Whether policies or rules changed since the last commit of rules.
    structure_changed: bool,
    /// Whether anything changed since the last count.
    uncounted: bool,
    shortfalls: Shortfalls,
    queries: Option<mpsc::Receiver<Query>>,
}

impl Controller {
    /// A controller without any state yet. `kernel` is for what takes long, `set_writer`, of the same kernel, for members of sets.
    pub fn new(
        enforcer: Enforcer,
        kernel: Box<dyn Kernel + Send>,
        set_writer: Box<dyn PacketFilter + Send>,
        metrics: Metrics,
        health: Health,
        audit_every: Duration,
    ) -> Controller {
        Controller {
            early: enforcer.of_sandboxes_alone(),
            enforcer,
            deletions: Deletions::default(),
            backlog: Backlog::new(metrics.clone()),
            metrics,
            health,
            kernel_thread: KernelThread::new(kernel),
            tally: Tally::default(),
            set_writer,
            complete: false,
            pace: Pace::default(),
            sync: 0,
            audit: Audit::every(audit_every, Instant::now()),
            log: SyncLog::default(),
            auditing: false,
            external_changes: Arc::default(),
            revoked: Revoked::default(),
            cuts: Cuts::default(),
            structure_changed: true,
            uncounted: true,
            shortfalls: Shortfalls::default(),
            queries: None,
        }
    }

    /// Also answers queries, when there is nothing else to do.
    pub fn answer(&mut self, queries: mpsc::Receiver<Query>) {
        self.queries = Some(queries);
    }

    /// Also reports to `listener` which parts of policies cannot be enforced on a node that has these families.
    pub fn report_shortfalls(&mut self, families: Vec<Family>, listener: watch::Sender<Vec<Shortfall>>) {
        self.shortfalls = Shortfalls::new(families, listener);
    }

    /// Also audits soon after a notification: another program may have changed the kernel.
    pub fn watch_external_changes(&mut self, external_changes: Arc<Notify>) {
        self.external_changes = external_changes;
    }

    /// Runs until the sources have ended, and returns once their last changes are enforced or were tried.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Delivery>) {
        let mut in_flight: Option<InFlight> = None;
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut open = true;
        let external_changes = self.external_changes.clone();
        loop {
            match &mut in_flight {
                None => in_flight = self.begin(),
                Some(in_flight) => self.write_concurrently(in_flight),
            }
            let rests = in_flight.is_none();
            if !open && rests && !self.has_check_ahead() {
                return;
            }
            let retry = self.next_try().filter(|_| rests);
            self.health.beat();
            let settles = self.deletions.due();
            tokio::select! {
                biased;
                returned = ended(&mut in_flight) => self.end(returned, &mut in_flight),
                delivery = inbox.recv(), if open => match delivery {
                    Some(delivery) => {
                        self.take_in(delivery);
                        while let Ok(more) = inbox.try_recv() {
                            self.take_in(more);
                        }
                    }
                    None => {
                        open = false;
                        self.close_no_more();
                    }
                },
                () = external_changes.notified(), if self.complete => self.audit.changed(Instant::now()),
                () = until(retry), if retry.is_some() => {}
                () = until(settles), if settles.is_some() => self.settle(Instant::now()),
                query = query::next(&mut self.queries), if self.complete => query.answer(&self.enforcer),
                _ = beat.tick() => {
                    self.settle(Instant::now());
                    self.count();
                    self.log.write(Instant::now());
                    if self.complete {
                        self.shortfalls.look(&self.enforcer, Instant::now());
                    }
                }
            }
            self.health.work();
        }
    }

    /// Starts the next piece of work, if there is any and its time has come.
    fn begin(&mut self) -> Option<InFlight> {
        let now = Instant::now();
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
            self.auditing = true;
            self.enforcer.audit();
        }
        if self.enforcer.must_read() {
            self.audit.looks(now);
            return Some(self.start(Work::Read, Job::new(Stage::Read, BTreeSet::new())));
        }
        if idle {
            self.backlog.settle(now);
        }
        if self.revoked.is_due(now, idle) {
            let addresses = self.revoked.take(now);
            let work = Work::List { addresses: addresses.clone() };
            return Some(self.start(work, Job::new(Stage::List, addresses)));
        }
        if idle {
            return None;
        }
        let flush = self.enforcer.flush();
        self.metrics.phase(Phase::Render, now.elapsed());
        if !flush.steps.iter().all(Step::is_of_members) {
            return Some(self.commit(flush));
        }
        self.write(flush, Stage::Commit);
        self.begin()
    }

    /// Writes what may be written concurrently with the work in flight, if there is any.
    fn write_concurrently(&mut self, in_flight: &mut InFlight) {
        if !self.enforcer.plan().has_changed() {
            return;
        }
        let start = Instant::now();
        let flush =
            in_flight.concurrent.as_ref().and_then(|concurrent| self.enforcer.flush_concurrently(concurrent));
        let Some(flush) = flush else {
            // What follows waits, too: it is never in force before what it came after.
            in_flight.concurrent = None;
            return;
        };
        self.metrics.phase(Phase::Render, start.elapsed());
        if in_flight.job.what == Stage::Read {
            // What is read may lack what is written now: a difference would be no drift.
            self.auditing = false;
        }
        self.write(flush, Stage::Concurrent);
    }

    /// Writes members of sets, here and now.
    fn write(&mut self, flush: Flush, what: Stage) {
        let job = self.job(what, &flush);
        let done = self.set_writer.commit_all(&flush.steps);
        self.record_kernel_time(job.started.elapsed(), what.phase());
        match done {
            Ok(()) => self.committed(job),
            Err(error) => self.failed(&error, job),
        }
    }

    /// Has the kernel's thread carry out what takes longer.
    fn commit(&mut self, flush: Flush) -> InFlight {
        self.structure_changed |= flush.steps.iter().any(Step::changes_rules);
        let job = self.job(Stage::Commit, &flush);
        InFlight { concurrent: flush.concurrent, ..self.start(Work::Commit { steps: flush.steps }, job) }
    }

    /// A commit of these steps, which brings all that waits into force.
    fn job(&mut self, what: Stage, Flush { steps, revoked, granted, .. }: &Flush) -> Job {
        let mut revoked = revoked.clone();
        revoked.extend(self.cuts.may_return(granted));
        let (carries, revoked) = (self.backlog.carry(), self.unless_kept(revoked));
        let structure = what == Stage::Commit && std::mem::take(&mut self.structure_changed);
        Job { carries, steps: steps.len(), structure, ..Job::new(what, revoked) }
    }

    fn start(&mut self, work: Work, job: Job) -> InFlight {
        InFlight::new(self.kernel_thread.start(work), job)
    }

    /// The addresses whose connections are to be looked at.
    fn unless_kept(&self, revoked: BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        match self.enforcer.options().on_revoke {
            OnRevoke::Cut => revoked,
            OnRevoke::Keep => BTreeSet::new(),
        }
    }

    /// Whether connections will be looked at soon, if nothing fails.
    fn has_check_ahead(&self) -> bool {
        self.pace.not_before().is_none() && self.revoked.pressing().is_some()
    }

    /// When there may be something to do although nothing happens; `None` for never.
    fn next_try(&self) -> Option<Instant> {
        match self.pace.not_before() {
            Some(then) => Some(then),
            None => [self.revoked.due(), self.audit.due(), self.cuts.due()].into_iter().flatten().min(),
        }
    }

    /// A piece of work has ended; `place` is where it was under way.
    fn end(&mut self, returned: WorkResult, place: &mut Option<InFlight>) {
        let Some(InFlight { job, .. }) = place.take() else { return };
        self.health.work();
        self.tally = returned.tally;
        self.record_kernel_time(returned.took, job.what.phase());
        match returned.done {
            Ok(Done::Read(actual)) => *place = self.adopt_read(&actual),
            Ok(Done::Committed) => self.committed(job),
            Ok(Done::Listed(connections)) => {
                self.revoked.looked(returned.took);
                let (enforcer, mark) = (&self.enforcer, self.enforcer.options().mark);
                self.cuts.decide(&job.revoked, connections, mark, |own| verdict(enforcer, own));
            }
            Ok(Done::Cut(failures)) => self.cut(&failures),
            Err(error) => self.failed(&error, job),
        }
    }

    /// The kernel was spoken to for so long.
    fn record_kernel_time(&self, took: Duration, phase: Phase) {
        self.metrics.tally(self.tally + self.set_writer.tally());
        self.metrics.phase(phase, took);
    }

    fn adopt(&mut self, actual: &Actual) -> Option<InFlight> {
        let start = Instant::now();
        self.metrics.dropped_frames(&inventory::dropped_frames(actual));
        sync_log::leftovers(actual, self.enforcer.options().backend);
        let expected = self.enforcer.plan().has_changed();
        let flush = self.enforcer.adopt(actual);
        if let Some(why) = self.log.other_controllers(self.enforcer.standing()) {
            self.health.set_check("sync", Err(why));
            return self.pace.waits(start);
        }
        self.metrics.phase(Phase::Render, start.elapsed());
        let drifted = self.auditing && !expected && !self.enforcer.removes() && !flush.steps.is_empty();
        self.auditing = false;
        if drifted {
            self.metrics.drift_repaired();
            sync_log::drifted(flush.steps.len());
        }
        Some(self.commit(flush))
    }

    fn committed(&mut self, Job { what, carries, steps, structure, revoked, started }: Job) {
        let now = Instant::now();
        self.schedule_check(revoked, now);
        if matches!(what, Stage::Commit | Stage::Early) {
            self.pace.succeeded();
        }
        if what == Stage::Commit {
            self.health.set_check("sync", Ok(()));
        }
        self.sync += 1;
        let took = now.duration_since(started);
        self.metrics.sync_ended(SystemTime::now(), Ok(()));
        self.metrics.phase(Phase::Total, took);
        self.backlog.arrived(carries, now);
        // What the kernel holds is known from now on, even if nothing was to be written.
        self.uncounted = true;
        if structure {
            self.count();
        }
        let ended = Ended { id: self.sync, changes: carries.count, steps, took, at: SystemTime::now() };
        if structure { self.log.info(ended, now) } else { self.log.debug(ended) }
    }

    /// The connections of these addresses are to be looked at.
    fn schedule_check(&mut self, revoked: BTreeSet<IpAddr>, now: Instant) {
        self.revoked.add(revoked, |address| self.enforcer.cluster().is_held(address), now);
    }

    /// Connections were cut and pardoned, but for these.
    fn cut(&mut self, failures: &Failures) {
        self.cuts.done(failures, Instant::now());
        let problem = cuts::problem(failures);
        if let Some((kind, _)) = &problem {
            self.metrics.sync_ended(SystemTime::now(), Err(kind));
        }
        self.health.set_check("connections", problem.map_or(Ok(()), |(_, problem)| Err(problem)));
    }

    fn failed(&mut self, error: &KernelError, failed: Job) {
        let now = Instant::now();
        self.schedule_check(failed.revoked, now);
        self.structure_changed |= failed.structure;
        self.pace.failed(now);
        self.enforcer.invalidate();
        self.early.iter_mut().for_each(Enforcer::invalidate);
        self.backlog.give_back(failed.carries);
        self.metrics.sync_ended(SystemTime::now(), Err(error.kind()));
        self.health.set_check("sync", Err(error.to_string()));
        sync_log::failed(error, self.pace.not_before().map(|then| then.duration_since(now)));
    }
}
