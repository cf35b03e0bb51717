//! Work on the kernel: what a piece of it carries into force, and what may be written while it is done.

use super::backlog::Changes;
use crate::backend::ConcurrentEdits;
use crate::observe::Phase;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A piece of work that has begun.
pub(super) struct Job {
    pub(super) what: Stage,
    /// The changes that it brings into force, and in how many steps.
    pub(super) carries: Changes,
    pub(super) steps: usize,
    /// Whether it changes policies or rules.
    pub(super) structure: bool,
    /// Addresses that it revokes, or whose connections it looks at or cuts; they are checked again if it fails.
    pub(super) revoked: BTreeSet<IpAddr>,
}

impl Job {
    /// One that has just begun and carries nothing into force.
    pub(super) fn new(what: Stage, revoked: BTreeSet<IpAddr>) -> Job {
        let carries = Changes::default();
        Job { what, carries, steps: 0, structure: false, revoked }
    }
}

/// A job that the kernel's thread does at the moment.
pub(super) struct InFlight {
    pub(super) job: Job,
    /// What may be carried out meanwhile; `None` for nothing.
    pub(super) concurrent: Option<ConcurrentEdits>,
}

impl InFlight {
    /// A job that others need not wait for.
    pub(super) fn new(job: Job) -> InFlight {
        InFlight { job, concurrent: Some(ConcurrentEdits::default()) }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Commit,
    /// A commit of what closes sandboxes before the first lists are complete: not yet what policies say.
    Early,
    /// A commit while the kernel's thread does something else.
    Concurrent,
    List,
    Cut,
}

impl Stage {
    /// The phase of a sync that it belongs to.
    pub(super) fn phase(self) -> Phase {
        match self {
            Stage::Read => Phase::Read,
            Stage::Commit | Stage::Early | Stage::Concurrent => Phase::Apply,
            Stage::List | Stage::Cut => Phase::Revoke,
        }
    }
}
