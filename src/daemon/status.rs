//! Answers `bridgewarden status`: what other parts of the agent report anyway, and what the main loop knows of policies.

use super::socket::SocketUse;
use crate::controller::{Enforcer, Query};
use crate::model::PolicyKey;
use crate::netfilter::BackendName;
use crate::observe::{Build, Health, Metrics, StatusAnswer, serve_status};
use crate::status::{AgentCounts, AgentStatus, CheckStatus, PolicyStatus, StatusQuestion};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// The readiness check of the status; it never fails.
const CHECK: &str = "status";
/// How long the main loop may take for an answer. It answers nothing before the first lists are complete.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many policies one query contains at most: some hundred microseconds of the main loop.
const POLICIES_PER_QUERY: usize = 256;

/// How many policies that are not in force are named where not all are asked for.
const UNFINISHED_SHOWN: usize = 50;

/// What is reported, and of which agent.
#[derive(Clone)]
pub(super) struct StatusReporter {
    node: String,
    backend: BackendName,
    metrics: Metrics,
    health: Health,
    queries: mpsc::Sender<Query>,
    /// One query at a time. One that nobody waits for any more keeps the turn until the main loop has dropped it.
    turn: Arc<Semaphore>,
    /// One list of connections at a time.
    listing: Arc<Semaphore>,
}

/// What the main loop knows.
struct MainLoopAnswer {
    counts: AgentCounts,
    policies: Vec<PolicyStatus>,
}

impl StatusReporter {
    /// Reports the status of the agent of this node. `queries` has room for one query of this sender.
    pub(super) fn new(
        node: String,
        backend: BackendName,
        metrics: Metrics,
        health: Health,
        queries: mpsc::Sender<Query>,
    ) -> StatusReporter {
        let [turn, listing] = [(); 2].map(|()| Arc::new(Semaphore::new(1)));
        StatusReporter { node, backend, metrics, health, queries, turn, listing }
    }

    /// Answers at a path for as long as the agent runs.
    pub(super) async fn serve_at(self, path: PathBuf) {
        self.health.set_check(CHECK, Ok(()));
        let place = SocketUse { check: CHECK, command: "bridgewarden status", flag: "--status-socket" };
        let listener = place.listen(&path, &self.health).await;
        let answer = move |question| {
            let own = self.clone();
            async move { own.answer(question).await }
        };
        serve_status(listener, answer).await;
    }

    /// The status with those policies alone that are not in force as they are known, and of these the first few.
    pub(super) async fn unfinished(&self) -> AgentStatus {
        let read = |enforcer: &Enforcer| MainLoopAnswer {
            counts: enforcer.agent_counts(),
            policies: enforcer.unfinished_policy_statuses(UNFINISHED_SHOWN),
        };
        self.report(timeout(PATIENCE, self.ask(read)).await.ok().flatten())
    }

    async fn answer(&self, question: StatusQuestion) -> StatusAnswer {
        let known = match question {
            StatusQuestion::Connections => return StatusAnswer::Connections(self.connections().await),
            StatusQuestion::All => timeout(PATIENCE, self.everything_known()).await,
            StatusQuestion::Policy { namespace, name } => {
                timeout(PATIENCE, self.known_of(PolicyKey::new(&namespace, &name))).await
            }
        };
        StatusAnswer::Status(Box::new(self.report(known.ok().flatten())))
    }

    /// The name of this node.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The turn of one list of connections. `None` if the agent is about to end.
    pub(super) async fn listing(&self) -> Option<OwnedSemaphorePermit> {
        self.listing.clone().acquire_owned().await.ok()
    }

    fn report(&self, known: Option<MainLoopAnswer>) -> AgentStatus {
        let (counts, policies) = known.map(|known| (known.counts, known.policies)).unzip();
        let checks = self.health.checks().into_iter().map(|(name, outcome)| CheckStatus {
            name: name.to_owned(),
            problem: outcome.err(),
            remarks: self.health.remarks(name),
        });
        let checks: Vec<CheckStatus> = checks.collect();
        let Build { version, revision, .. } = Build::THIS;
        AgentStatus {
            time: clock(SystemTime::now()).unwrap_or_default(),
            node: self.node.clone(),
            version: version.to_owned(),
            revision: revision.map(str::to_owned),
            backend: self.backend.name().to_owned(),
            ready: checks.iter().all(|check| check.problem.is_none()),
            checks,
            last_sync: self.metrics.last_sync().and_then(clock),
            last_verification: self.metrics.last_verification().and_then(clock),
            counts,
            policies,
        }
    }

    /// What the main loop knows of one policy. `None` if the agent is about to end.
    async fn known_of(&self, key: PolicyKey) -> Option<MainLoopAnswer> {
        self.ask(move |enforcer| MainLoopAnswer {
            counts: enforcer.agent_counts(),
            policies: enforcer.policy_status(&key).into_iter().collect(),
        })
        .await
    }

    /// The same of all policies, in parts.
    async fn everything_known(&self) -> Option<MainLoopAnswer> {
        let read = |enforcer: &Enforcer| (enforcer.agent_counts(), enforcer.deleted_policy_statuses());
        let (counts, mut policies) = self.ask(read).await?;
        let mut last: Option<PolicyKey> = None;
        loop {
            let after = last.take();
            let part =
                self.ask(move |enforcer| enforcer.policy_statuses_after(after.as_ref(), POLICIES_PER_QUERY));
            let part = part.await?;
            last = part.last().map(|policy| PolicyKey::new(&policy.namespace, &policy.name));
            let is_last = part.len() < POLICIES_PER_QUERY;
            policies.extend(part);
            if is_last {
                break;
            }
        }
        // A policy may have been deleted, or made again, between two parts.
        policies.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        policies.dedup_by(|one, other| (&one.namespace, &one.name) == (&other.namespace, &other.name));
        Some(MainLoopAnswer { counts, policies })
    }

    /// Asks the main loop, one query at a time. `None` if the agent is about to end.
    pub(super) async fn ask<A: Send + 'static>(
        &self,
        read: impl FnOnce(&Enforcer) -> A + Send + 'static,
    ) -> Option<A> {
        let turn = self.turn.clone().acquire_owned().await.ok()?;
        let (query, answer) = Query::new(move |enforcer| {
            let answer = read(enforcer);
            drop(turn);
            answer
        });
        self.queries.send(query).await.ok()?;
        answer.await.ok()
    }
}

/// A time in UTC, to the millisecond (RFC 3339).
pub(super) fn clock(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}
