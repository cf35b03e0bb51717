//! Pieces of work on the kernel, and one that the kernel's thread is at.

use super::backlog::Changes;
use super::work::Returned;
use crate::apply::Lane;
use crate::observe::Phase;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;
use tokio::sync::oneshot;

/// A piece of work that was begun.
pub(super) struct Job {
    pub(super) what: Stage,
    /// The changes that it brings into force, and in how many steps.
    pub(super) carries: Changes,
    pub(super) steps: usize,
    /// Whether it changes policies or rules.
    pub(super) structure: bool,
    /// Addresses that it revokes, or whose connections it looks at or cuts; they are owed another look if it fails.
    pub(super) revoked: BTreeSet<IpAddr>,
    pub(super) started: Instant,
}

impl Job {
    /// One that has just begun and carries nothing into force.
    pub(super) fn new(what: Stage, revoked: BTreeSet<IpAddr>) -> Job {
        let carries = Changes::default();
        Job { what, carries, steps: 0, structure: false, revoked, started: Instant::now() }
    }
}

/// A job that the kernel's thread is at.
pub(super) struct Underway {
    pub(super) answer: oneshot::Receiver<Returned>,
    pub(super) job: Job,
    /// What may be carried out meanwhile; `None` for nothing.
    pub(super) lane: Option<Lane>,
}

impl Underway {
    /// A job that others need not wait for.
    pub(super) fn new(answer: oneshot::Receiver<Returned>, job: Job) -> Underway {
        Underway { answer, job, lane: Some(Lane::default()) }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Commit,
    /// A commit of what closes sandboxes before the first lists are complete: not yet what policies say.
    Early,
    /// A commit beside what the kernel's thread is at.
    Beside,
    List,
    Cut,
}

impl Stage {
    /// The phase of a sync that it belongs to.
    pub(super) fn phase(self) -> Phase {
        match self {
            Stage::Read => Phase::Read,
            Stage::Commit | Stage::Early | Stage::Beside => Phase::Apply,
            Stage::List | Stage::Cut => Phase::Revoke,
        }
    }
}

/// Waits for its end; for ever, if nothing is under way.
pub(super) async fn ended(underway: &mut Option<Underway>) -> Returned {
    match underway {
        Some(underway) => (&mut underway.answer).await.expect("the kernel's thread does not panic"),
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever, if that is never.
pub(super) async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}
