//! A node whose reconciler a test drives: the kernel is in memory, and the time is a number. It asserts at each action what must
//! hold at any time.

use super::NODE;
use super::kernel::{Shared, rejected};
use bridgewarden::apply::{Actual, Fake, KernelError, PacketFilter, Step};
use bridgewarden::controller::{
    Action, Delivery, Done, Enforcer, Event, NamespaceWatch, Reconciler, VerificationTask, Work, WorkOutcome,
};
use bridgewarden::model::Change;
use bridgewarden::observe::{Health, Metrics};
use bridgewarden::render::Options;
use bridgewarden::verify::VerificationOutcome;
use std::time::{Duration, Instant, SystemTime};
use support::outcome::{allowed, assert_same_content, sample};
use support::worlds::{Random, Scene};

/// How often the kernel is audited.
const AUDIT: Duration = Duration::from_secs(60);
/// How many actions may follow each other without an event or the time passing.
const ACTIONS: usize = 100;
/// The pause after a first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Work that was started.
struct UnderWay {
    /// What is left of it, or how it went.
    state: Progress,
    started: Instant,
    /// Whether its success shows that the kernel takes what is written.
    writes: bool,
}

enum Progress {
    Left(Work),
    Done(Result<Done, KernelError>),
}

/// A node at a moment of a schedule.
pub(super) struct DrivenNode {
    pub(super) kernel: Shared,
    pub(super) reconciler: Reconciler,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) now: Instant,
    under_way: Option<UnderWay>,
    has_stopped: bool,
    /// How many times in a row the kernel has rejected something, and until when nothing may be tried after that.
    failures: u32,
    not_before: Instant,
    /// Whether another program has changed the kernel.
    pub(super) was_edited: bool,
    /// What the kernel held when it was last as facts say, and what it would hold by each state of facts since then.
    in_force: Vec<Fake>,
    pub(super) seen: Seen,
}

/// How often something happened that the schedules are there for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) concurrent_writes: usize,
    pub(super) failures: usize,
    pub(super) settled: usize,
    pub(super) judged: usize,
    pub(super) verified: usize,
}

impl DrivenNode {
    /// A node that knows nothing and has just started on a kernel.
    pub(super) fn new(kernel: Shared, now: Instant, watch: Option<&NamespaceWatch>) -> DrivenNode {
        let (metrics, health) = (Metrics::default(), Health::new(&["sync"]));
        let enforcer = Enforcer::new(NODE, Options::default());
        let mut reconciler = Reconciler::new(enforcer, metrics.clone(), health.clone(), AUDIT, now);
        watch.into_iter().for_each(|watch| reconciler.await_namespaces(watch.clone()));
        DrivenNode {
            kernel,
            reconciler,
            metrics,
            health,
            now,
            under_way: None,
            has_stopped: false,
            failures: 0,
            not_before: now,
            was_edited: false,
            in_force: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// The program is killed in the middle of what it does, and starts again.
    pub(super) fn restart(&mut self, watch: Option<&NamespaceWatch>) {
        let new = DrivenNode::new(self.kernel.clone(), self.now, watch);
        let old = std::mem::replace(self, new);
        (self.was_edited, self.in_force, self.seen) = (old.was_edited, old.in_force, old.seen);
    }

    /// Something happens, and the node does what it can do at once.
    pub(super) fn on(&mut self, event: Event) {
        let policies = |node: &DrivenNode| node.reconciler.enforcer().cluster().policies().count();
        // Deletions of policies may wait for a time.
        let (is_delivery, before) = (matches!(event, Event::Delivery(_)), policies(self));
        self.reconciler.on(event, self.now);
        let may_differ = is_delivery || policies(self) != before;
        if self.reconciler.is_complete() && may_differ && !self.in_force.is_empty() {
            let mut enforcer = self.reconciler.enforcer().clone();
            enforcer.settle();
            if enforcer.plan().has_changed() {
                self.in_force.push(rendered(&enforcer));
            }
        }
        self.run();
    }

    pub(super) fn deliver(&mut self, changes: Vec<Change>, complete: bool) {
        self.on(Event::Delivery(Delivery { changes, seen: self.now, complete }));
    }

    pub(super) fn passes(&mut self, time: Duration) {
        self.now += time;
        self.on(Event::TimePassed);
    }

    /// Whether work is under way.
    pub(super) fn is_at_work(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// Does what the reconciler says until it waits.
    fn run(&mut self) {
        for _ in 0..ACTIONS {
            match self.reconciler.next(self.now) {
                Action::Start(work) => {
                    assert!(self.under_way.is_none(), "{work:?} is started while other work is under way");
                    self.assert_patience();
                    let writes = matches!(work, Work::Commit { .. });
                    self.under_way =
                        Some(UnderWay { state: Progress::Left(work), started: self.now, writes });
                }
                Action::Write(steps) => self.write(&steps),
                Action::Verify(comparison) => self.verify(&comparison),
                Action::Wait(Some(until)) if until <= self.now => {
                    self.reconciler.on(Event::TimePassed, self.now);
                }
                Action::Wait(_) => return self.settled(),
                Action::Stop => {
                    assert!(self.under_way.is_none(), "it stops before its work has ended");
                    self.has_stopped = true;
                    return;
                }
            }
        }
        panic!("it never waits");
    }

    /// What holds what was written decides as policies do.
    fn verify(&mut self, comparison: &VerificationTask) {
        let verification = comparison.perform();
        assert_eq!(verification.finding, VerificationOutcome::Verified);
        self.seen.verified += 1;
        let took = Duration::from_secs(1);
        self.reconciler.on(Event::Verified { verification, took, at: SystemTime::UNIX_EPOCH }, self.now);
    }

    fn assert_patience(&self) {
        let early = self.not_before.saturating_duration_since(self.now);
        assert!(early.is_zero(), "it tries again {early:?} too early after {} failures", self.failures);
    }

    fn write(&mut self, steps: &[Step]) {
        assert!(steps.iter().all(Step::is_of_members), "{steps:?} take too long for the loop");
        self.assert_patience();
        self.seen.concurrent_writes += usize::from(self.is_at_work());
        let done = self.kernel.commit_all(steps);
        let outcome = self.outcome(done, self.now);
        let succeeds = !self.is_at_work();
        let failed = outcome.done.is_err();
        self.reconciler.on(Event::Written(outcome), self.now);
        self.tried(failed, succeeds);
    }

    /// Does some of the steps that are under way, or all of other work, which does not return yet.
    pub(super) fn proceed(&mut self, steps: usize) {
        let Some(UnderWay { state, .. }) = &mut self.under_way else { return };
        let left = std::mem::replace(state, Progress::Done(Ok(Done::Committed)));
        *state = match left {
            Progress::Left(Work::Commit { steps: mut ahead }) => {
                let now: Vec<Step> = ahead.drain(..steps.min(ahead.len())).collect();
                match self.kernel.commit_all(&now) {
                    Ok(()) => Progress::Left(Work::Commit { steps: ahead }),
                    Err(error) => Progress::Done(Err(error)),
                }
            }
            Progress::Left(work) => Progress::Done(work.perform(&mut self.kernel)),
            Progress::Done(done) => Progress::Done(done),
        };
    }

    /// The work under way returns; `fails` for without having been done.
    pub(super) fn finish(&mut self, fails: bool) {
        let Some(UnderWay { state, started, writes }) = self.under_way.take() else { return };
        let done = match state {
            Progress::Done(done) => done,
            // Of cuts each fails on its own.
            Progress::Left(work) if fails && !matches!(work, Work::Cut { .. }) => Err(rejected()),
            Progress::Left(work) => work.perform(&mut self.kernel),
        };
        let failed = done.is_err();
        let outcome = self.outcome(done, started);
        self.reconciler.on(Event::Returned(outcome), self.now);
        self.tried(failed, writes);
        self.run();
    }

    /// All work returns, and what it leads to.
    pub(super) fn finish_all(&mut self) {
        for _ in 0..ACTIONS {
            if !self.is_at_work() {
                return;
            }
            self.finish(false);
        }
        panic!("its work never ends");
    }

    fn outcome<D>(&self, done: Result<D, KernelError>, started: Instant) -> WorkOutcome<D> {
        WorkOutcome { done, started, took: self.now - started, at: SystemTime::UNIX_EPOCH }
    }

    /// Notes how a try ended; a success of some ends the pauses.
    fn tried(&mut self, failed: bool, succeeds: bool) {
        if failed {
            self.seen.failures += 1;
            self.failures += 1;
            let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_PAUSE);
            self.not_before = self.now + pause;
            let reasons = self.health.ready().expect_err("a failure is no readiness");
            assert!(reasons.iter().any(|(check, _)| *check == "sync"), "{reasons:?}");
        } else if succeeds {
            (self.failures, self.not_before) = (0, self.now);
        }
    }

    /// If there is nothing to do, the kernel holds what the plan renders.
    fn settled(&mut self) {
        let rests = self.under_way.is_none() && self.reconciler.is_complete() && self.failures == 0;
        if !rests || self.was_edited || self.reconciler.enforcer().is_behind() {
            return;
        }
        let counts = self.reconciler.enforcer().agent_counts();
        assert_eq!(counts.pending_policies, 0, "it rests, so every policy is in force as it is known");
        if self.in_force.len() != 1 {
            self.seen.settled += 1;
            let held = self.kernel.state().fake.clone();
            assert_same_content(&held, &rendered(self.reconciler.enforcer()), "it rests");
            self.in_force = vec![held];
        }
    }

    /// Asserts of some flows that nothing is open which is closed by what was in force, and by every state of facts since.
    pub(super) fn judge(&mut self, scene: &Scene, random: &mut Random) {
        if self.was_edited || self.in_force.is_empty() {
            return;
        }
        let flows = sample(random, scene);
        let open = allowed(scene, &self.kernel.state().fake, &flows);
        let states: Vec<Vec<bool>> =
            self.in_force.iter().map(|kernel| allowed(scene, kernel, &flows)).collect();
        for (at, flow) in flows.iter().enumerate().filter(|(at, _)| open[*at]) {
            self.seen.judged += 1;
            assert!(
                states.iter().any(|state| state[at]),
                "{flow:?} is open, and no state of facts allows it"
            );
        }
    }
}

/// What a kernel would hold by what is known.
fn rendered(enforcer: &Enforcer) -> Fake {
    let mut kernel = Fake::default();
    let mut enforcer = enforcer.clone();
    let actual = Actual::read(&mut kernel).expect("it is read");
    kernel.commit_all(&enforcer.adopt(&actual).steps).expect("it is written");
    kernel
}
