//! What a change to the cluster may have affected.

use super::{GroupId, NamespaceName, PodKey, PolicyKey, SandboxKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What one change may have affected: an upper bound, in the words of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Groups that came into being. They hold their addresses already.
    pub groups_born: Vec<GroupId>,
    /// Addresses that joined, left or changed groups; one may do so for several pods at once.
    pub moved: Vec<Moved>,
    /// Groups that lost their last pod. Their numbers are not reused before the next change.
    pub groups_gone: Vec<GroupId>,
    /// Pods of this node whose addresses, labels or presence changed.
    pub local_pods: BTreeSet<PodKey>,
    /// Sandboxes that became unknown or ceased to be, or whose places as unknown ones changed.
    pub sandboxes: BTreeSet<SandboxKey>,
    /// Ports of the bridge that came, changed or went, or that are somebody else's now.
    pub ports: BTreeSet<u32>,
    /// Whether the node itself changed on the bridge.
    pub bridge: bool,
    /// Namespaces whose labels changed.
    pub namespaces: Vec<NamespaceName>,
    /// Policies that came, changed or went.
    pub policies: BTreeSet<PolicyKey>,
}

impl Touched {
    /// Whether nothing was affected.
    pub fn is_empty(&self) -> bool {
        *self == Touched::default()
    }
}

/// One pod's hold on one address passed from a group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The address.
    pub address: IpAddr,
    /// The group it left.
    pub from: Option<GroupId>,
    /// The group it joined.
    pub to: Option<GroupId>,
}
