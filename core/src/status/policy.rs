//! What an agent says of one policy.

use serde::{Deserialize, Serialize};

/// The status of a policy on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// metadata.uid, if the object has one.
    pub uid: Option<String>,
    /// Whether the kernel enforces what is known of it.
    pub state: PolicyState,
    /// Whether it is evaluated and reported, and not enforced.
    pub audited: bool,
    /// How many pods of this node it selects. If it selects none, there is nothing to enforce here.
    pub pods: usize,
    /// The version that was received last; absent if the policy was deleted.
    pub received: Option<StatedVersion>,
    /// The version that the kernel enforces; absent if it enforces none.
    pub in_force: Option<StatedVersion>,
    /// What it waits for, if that is known.
    pub waits_for: Option<String>,
    /// Its parts that allow nothing, with what to do; if there are many, the first.
    pub refused: Vec<String>,
}

/// Whether the kernel of a node enforces what is known of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyState {
    /// It does.
    InForce,
    /// Not yet: what is enforced is `in_force`.
    Pending,
    /// The policy was deleted, and the kernel may still enforce it.
    Deleting,
}

/// Which state of a policy's object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatedVersion {
    /// metadata.generation, which grows with each change of the specification.
    pub generation: Option<i64>,
    /// metadata.resourceVersion, which is another one after each change of the object.
    pub resource_version: Option<String>,
}
