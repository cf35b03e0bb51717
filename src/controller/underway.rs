//! A piece of work that the kernel's thread is at.

use super::waiting::Waiting;
use super::work::Returned;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;
use tokio::sync::oneshot;

/// A sync on its way.
pub(super) struct Underway {
    pub(super) answer: oneshot::Receiver<Returned>,
    pub(super) what: Stage,
    /// The changes that it brings into force, and in how many steps.
    pub(super) carries: Waiting,
    pub(super) steps: usize,
    /// Addresses that it revokes, or whose connections it looks at or cuts; they are owed another look if it fails.
    pub(super) revoked: BTreeSet<IpAddr>,
    pub(super) started: Instant,
}

/// What the kernel's thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Commit,
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
