//! Work in the kernel that is in progress: the changes that it brings into force, and what may be written concurrently.

use super::backlog::Changes;
use crate::backend::ConcurrentEdits;
use crate::observe::Phase;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A piece of work that has begun.
pub(super) struct Job {
    pub(super) what: Stage,
    /// The changes that it brings into force, and the number of its steps.
    pub(super) carries: Changes,
    /// The number of the commit by which the enforcer knows which policies those are; 0 for none.
    pub(super) policies: u64,
    pub(super) steps: usize,
    /// Whether it changes policies or rules.
    pub(super) structure: bool,
    /// Addresses whose connections it affects, checks or cuts; they are checked again if it fails.
    pub(super) revoked: BTreeSet<IpAddr>,
    /// Addresses of pods that have ended, whose connections it lists to delete them.
    pub(super) left: BTreeSet<IpAddr>,
}

impl Job {
    /// A job that has just begun and brings no changes into force.
    pub(super) fn new(what: Stage, revoked: BTreeSet<IpAddr>) -> Job {
        let carries = Changes::default();
        Job { what, carries, policies: 0, steps: 0, structure: false, revoked, left: BTreeSet::new() }
    }
}

/// A job that the kernel's thread is doing.
pub(super) struct InFlight {
    pub(super) job: Job,
    /// What may be carried out concurrently; `None` for nothing.
    pub(super) concurrent: Option<ConcurrentEdits>,
}

impl InFlight {
    /// A job during which everything may be written concurrently.
    pub(super) fn new(job: Job) -> InFlight {
        InFlight { job, concurrent: Some(ConcurrentEdits::default()) }
    }
}

/// The kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Commit,
    /// A commit that isolates sandboxes before the first lists are complete, without policies.
    Early,
    /// A commit while the kernel's thread does something else.
    Concurrent,
    List,
    Cut,
}

impl Stage {
    /// The phase of a sync to which it belongs.
    pub(super) fn phase(self) -> Phase {
        match self {
            Stage::Read => Phase::Read,
            Stage::Commit | Stage::Early | Stage::Concurrent => Phase::Apply,
            Stage::List | Stage::Cut => Phase::Revoke,
        }
    }
}
