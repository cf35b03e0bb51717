//! All of a cluster at one time, for commands that answer questions and enforce nothing.
//!
//! Comes in: files and directories of manifests, the output of `kubectl get -o yaml`, or an API server, asked once. Goes out: a
//! `model::Snapshot`, with the place that each policy comes from, and what was skipped. Here, and nowhere else, a Deployment
//! stands for its pods: the agent enforces on pods that exist.

mod manifests;
mod other_kinds;
mod server;
mod snapshot_builder;
mod workloads;

pub use manifests::{ManifestInput, read_snapshot};
pub use server::{ClusterAccess, ClusterError, fetch_snapshot};

use crate::model::Snapshot;
use std::collections::BTreeMap;

/// A cluster that was read, and what its reader should know about it.
#[derive(Clone, Debug, Default)]
pub struct SnapshotInput {
    /// The cluster.
    pub snapshot: Snapshot,
    /// What may be wrong: invalid parts of policies, and objects that could not be read.
    pub warnings: Vec<String>,
    /// How many objects of other kinds were skipped, by kind.
    pub skipped: BTreeMap<String, usize>,
}
