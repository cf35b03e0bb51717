//! A piece of work that one of the kernel's threads is at.

use super::backlog::Changes;
use super::work::Returned;
use crate::apply::Lane;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;
use tokio::sync::oneshot;

/// A sync on its way.
pub(super) struct Underway {
    pub(super) answer: oneshot::Receiver<Returned>,
    pub(super) what: Stage,
    /// The changes that it brings into force, and in how many steps.
    pub(super) carries: Changes,
    pub(super) steps: usize,
    /// Whether it changes policies or rules.
    pub(super) structure: bool,
    /// What may be carried out meanwhile; `None` for nothing.
    pub(super) lane: Option<Lane>,
    /// Addresses that it revokes, or whose connections it looks at or cuts; they are owed another look if it fails.
    pub(super) revoked: BTreeSet<IpAddr>,
    pub(super) started: Instant,
}

impl Underway {
    /// Work that has just begun, that carries nothing into force and that others need not wait for.
    pub(super) fn new(
        answer: oneshot::Receiver<Returned>,
        what: Stage,
        revoked: BTreeSet<IpAddr>,
    ) -> Underway {
        let (carries, lane) = (Changes::default(), Some(Lane::default()));
        Underway { answer, what, carries, steps: 0, structure: false, lane, revoked, started: Instant::now() }
    }
}

/// What such a thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Commit,
    /// A commit of the second thread, beside what the first is at.
    Beside,
    List,
    Cut,
}

/// Waits for its end; for ever, if nothing is under way.
pub(super) async fn ended(underway: &mut Option<Underway>) -> Returned {
    match underway {
        Some(underway) => (&mut underway.answer).await.expect("the kernel's thread does not panic"),
        None => std::future::pending().await,
    }
}
