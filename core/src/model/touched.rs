//! What a change to the cluster may have affected.

use super::{GroupId, NamespaceName, PodKey, PolicyKey, SandboxKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What one change may have affected, as an upper bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Groups that were created. They already have their addresses.
    pub groups_born: Vec<GroupId>,
    /// Addresses that joined, left or changed groups; one address may be listed for several pods.
    pub moved: Vec<Moved>,
    /// Groups that lost their last pod. Their numbers are not reused before the next change.
    pub groups_gone: Vec<GroupId>,
    /// Pods of this node whose addresses, labels or presence changed.
    pub local_pods: BTreeSet<PodKey>,
    /// Sandboxes that became unknown or stopped being unknown, and unknown ones whose addresses changed.
    pub sandboxes: BTreeSet<SandboxKey>,
    /// Ports of the bridge that were added, changed or removed, or that belong to another sandbox now.
    pub ports: BTreeSet<u32>,
    /// Whether the node's own interface on the bridge changed.
    pub bridge: bool,
    /// Namespaces whose labels changed.
    pub namespaces: Vec<NamespaceName>,
    /// Policies that were added, changed or deleted.
    pub policies: BTreeSet<PolicyKey>,
}

impl Touched {
    /// Whether nothing was affected.
    pub fn is_empty(&self) -> bool {
        *self == Touched::default()
    }
}

/// An address of one pod that moved from one group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The address.
    pub address: IpAddr,
    /// The group it left.
    pub from: Option<GroupId>,
    /// The group it joined.
    pub to: Option<GroupId>,
}
