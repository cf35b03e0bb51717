//! The main loop: one task without locks that takes facts from the sources and keeps the kernel equal to them.
//!
//! It flushes at once when idle, and collects changes while the kernel is busy. Longer work is done by a thread.
//! Members of sets are written here, in some microseconds, concurrently with a change of rules if that permits it.
//! `Reconciler` decides what to do and when; the clock, the channels and the kernel are here. `early` decides what is
//! written before every source has delivered its first complete list.

mod audit;
mod backlog;
mod coexistence;
mod cuts;
mod deletions;
mod delivery;
mod early;
mod enforcer;
mod event;
mod in_flight;
mod intake;
mod inventory;
mod kernel_thread;
mod pace;
mod policy_status;
mod query;
mod reconciler;
mod revoked;
mod rollout;
mod shortfalls;
mod sync_log;
mod verifications;
mod verifier;
mod work;

pub use coexistence::{Standing, Takeover};
pub use cuts::{Failures, MarkChanges};
pub use deletions::*;
pub use delivery::*;
pub use enforcer::*;
pub use event::*;
pub use pace::*;
pub use query::Query;
pub use reconciler::*;
pub use verifications::VerificationTask;
pub use work::{Done, Work};

use crate::apply::{Kernel, PacketFilter, Step, Tally};
use crate::compile::Shortfall;
use crate::net::Family;
use crate::observe::{Health, Metrics, Phase};
use kernel_thread::{KernelThread, WorkResult};
use shortfalls::Shortfalls;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Interval;
use verifier::Verifier;

/// The longest time between two heartbeats of the loop.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Keeps a kernel equal to what the sources report.
pub struct Controller {
    reconciler: Reconciler,
    metrics: Metrics,
    health: Health,
    /// The thread for longer work in the kernel.
    kernel_thread: KernelThread,
    tally: Tally,
    /// Writes members of sets to the same kernel.
    set_writer: Box<dyn PacketFilter + Send>,
    verifier: Verifier,
    /// Notified when another program may have changed the kernel.
    external_changes: Arc<Notify>,
    shortfalls: Shortfalls,
    queries: Option<mpsc::Receiver<Query>>,
    /// Notified when the start is over.
    past_start: Option<oneshot::Sender<()>>,
}

impl Controller {
    /// A controller without state. `kernel` is for longer work, `set_writer` is for members of sets in the same kernel.
    pub fn new(
        enforcer: Enforcer,
        kernel: Box<dyn Kernel + Send>,
        set_writer: Box<dyn PacketFilter + Send>,
        metrics: Metrics,
        health: Health,
        audit_every: Duration,
    ) -> Controller {
        let now = Instant::now();
        Controller {
            reconciler: Reconciler::new(enforcer, metrics.clone(), health.clone(), audit_every, now),
            metrics,
            health,
            kernel_thread: KernelThread::new(kernel),
            tally: Tally::default(),
            set_writer,
            verifier: Verifier::default(),
            external_changes: Arc::default(),
            shortfalls: Shortfalls::default(),
            queries: None,
            past_start: None,
        }
    }

    /// Sends once, as soon as [`Reconciler::is_past_start`].
    pub fn report_end_of_start(&mut self, listener: oneshot::Sender<()>) {
        self.past_start = Some(listener);
    }

    /// Answers queries when there is nothing else to do.
    pub fn answer(&mut self, queries: mpsc::Receiver<Query>) {
        self.queries = Some(queries);
    }

    /// Reports to `listener` which parts of policies cannot be enforced on a node with these families.
    pub fn report_shortfalls(&mut self, families: Vec<Family>, listener: watch::Sender<Vec<Shortfall>>) {
        self.shortfalls = Shortfalls::new(families, listener);
    }

    /// Audits soon after a notification that another program may have changed the kernel.
    pub fn watch_external_changes(&mut self, external_changes: Arc<Notify>) {
        self.external_changes = external_changes;
    }

    /// Does not compare the kernel with what policies say.
    pub fn leave_unverified(&mut self) {
        self.reconciler.leave_unverified();
    }

    /// Treats a policy's deletion as a possible part of its namespace's deletion, which this watch reports.
    pub fn await_namespaces(&mut self, watch: NamespaceWatch) {
        self.reconciler.await_namespaces(watch);
    }

    /// Runs until the sources have ended, and returns once their last changes are in force or were tried.
    pub async fn run(mut self, inbox: mpsc::Receiver<Delivery>) {
        let mut inbox = Some(inbox);
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            let start = Instant::now();
            let action = self.reconciler.next(start);
            // What isolates sandboxes before the first lists are complete is no phase of a sync.
            let renders = self.reconciler.is_complete()
                && matches!(action, Action::Start(Work::Commit { .. }) | Action::Write(_));
            if renders {
                self.metrics.phase(Phase::Render, start.elapsed());
            }
            if self.reconciler.is_past_start()
                && let Some(listener) = self.past_start.take()
            {
                // An error means that nobody waits for it any more.
                listener.send(()).ok();
            }
            match action {
                Action::Start(work) => self.kernel_thread.start(work),
                Action::Write(steps) => self.write(&steps),
                Action::Verify(comparison) => self.verifier.start(comparison),
                Action::Wait(until) => self.wait(until, &mut inbox, &mut beat).await,
                Action::Stop => return,
            }
        }
    }

    /// Waits for the next event.
    async fn wait(
        &mut self,
        until: Option<Instant>,
        inbox: &mut Option<mpsc::Receiver<Delivery>>,
        beat: &mut Interval,
    ) {
        self.health.beat();
        let complete = self.reconciler.is_complete();
        tokio::select! {
            biased;
            returned = self.kernel_thread.returned() => self.end(returned),
            delivery = next_delivery(inbox) => match delivery {
                Some(delivery) => {
                    self.take_in(delivery);
                    self.take_in_the_rest(inbox);
                }
                None => {
                    *inbox = None;
                    self.on(Event::SourcesEnded);
                }
            },
            (verification, took) = self.verifier.returned() => {
                self.on(Event::Verified { verification, took, at: SystemTime::now() });
            }
            () = self.external_changes.notified() => self.on(Event::ExternalChange),
            () = reached(until) => self.on(Event::TimePassed),
            query = query::next(&mut self.queries), if complete => query.answer(self.reconciler.enforcer()),
            _ = beat.tick() => {
                self.on(Event::Heartbeat);
                if complete {
                    let counts = self.reconciler.counts();
                    self.shortfalls.look(self.reconciler.enforcer(), counts, Instant::now());
                }
            }
        }
        self.health.work();
    }

    /// Takes in what has been delivered by now, and notices if it was the last: nothing more is begun then.
    fn take_in_the_rest(&mut self, inbox: &mut Option<mpsc::Receiver<Delivery>>) {
        loop {
            match inbox.as_mut().map(mpsc::Receiver::try_recv) {
                Some(Ok(more)) => self.take_in(more),
                Some(Err(TryRecvError::Disconnected)) => {
                    *inbox = None;
                    return self.on(Event::SourcesEnded);
                }
                Some(Err(TryRecvError::Empty)) | None => return,
            }
        }
    }

    fn on(&mut self, event: Event) {
        self.reconciler.on(event, Instant::now());
    }

    fn take_in(&mut self, delivery: Delivery) {
        let start = Instant::now();
        self.reconciler.on(Event::Delivery(delivery), start);
        self.metrics.phase(Phase::Compile, start.elapsed());
    }

    /// Writes members of sets at once.
    fn write(&mut self, steps: &[Step]) {
        let started = Instant::now();
        let done = self.set_writer.commit_all(steps);
        let took = started.elapsed();
        self.report_tally();
        self.on(Event::Written(WorkOutcome { done, started, took, at: SystemTime::now() }));
    }

    /// Handles the end of a piece of work of the kernel's thread.
    fn end(&mut self, (started, WorkResult { done, took, tally }): (Instant, WorkResult)) {
        self.health.work();
        self.tally = tally;
        self.report_tally();
        self.on(Event::Returned(WorkOutcome { done, started, took, at: SystemTime::now() }));
    }

    fn report_tally(&self) {
        self.metrics.tally(self.tally + self.set_writer.tally());
    }
}

/// The next delivery; `None` once the sources have ended. Waits forever without an inbox.
async fn next_delivery(inbox: &mut Option<mpsc::Receiver<Delivery>>) -> Option<Delivery> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until this time; forever for `None`.
async fn reached(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}
