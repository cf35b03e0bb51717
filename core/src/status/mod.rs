//! What an agent says of itself: whether it is ready, what it holds, and which version of each policy is in force.
//!
//! Comes in: nothing. These are the answers, which agents write and commands read, also those of another version of the
//! program. Goes out: JSON, through serde.

mod policy;
mod question;

pub use policy::*;
pub use question::*;

use serde::{Deserialize, Serialize};

/// The status of the agent of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// When it was asked, in UTC.
    pub time: String,
    /// The name of its node, as in the pods' `spec.nodeName`.
    pub node: String,
    /// The version of the program.
    pub version: String,
    /// The commit that the program was built from, if that is known.
    pub revision: Option<String>,
    /// The packet filter that it writes to.
    pub backend: String,
    /// Whether all checks pass.
    pub ready: bool,
    /// The checks of `/readyz`, in their order.
    pub checks: Vec<CheckStatus>,
    /// When it last brought the kernel up to date, in UTC; absent if it has not yet.
    pub last_sync: Option<String>,
    /// When it last found that the kernel decides as policies say, in UTC; absent if it has not yet.
    pub last_verification: Option<String>,
    /// Numbers of objects; absent if `policies` is.
    pub counts: Option<AgentCounts>,
    /// The policies, by namespace and name: all, or the one that was asked about. Absent if the main loop does not answer, which it
    /// does once the first lists are complete.
    pub policies: Option<Vec<PolicyStatus>>,
}

impl AgentStatus {
    /// The checks that fail, each with its reason.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.checks.iter().filter_map(|check| Some((check.name.as_str(), check.problem.as_deref()?)))
    }
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its name, as in `/readyz`.
    pub name: String,
    /// Why it fails, if it does.
    pub problem: Option<String>,
    /// What else is to be said, which does not make it fail.
    pub remarks: Vec<String>,
}

/// How many objects an agent knows and has in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCounts {
    /// The policies of the cluster.
    pub policies: usize,
    /// Those that select a pod of this node.
    pub active_policies: usize,
    /// The policies that changed and are not in force as they are known.
    pub pending_policies: usize,
    /// The pods of this node that have an address.
    pub local_pods: usize,
    /// Those that policies isolate in one direction or both.
    pub isolated_pods: usize,
    /// What is in the kernel, by family.
    pub kernel: Vec<KernelCounts>,
}

/// How many objects of ours a packet filter has for one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelCounts {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Chains.
    pub chains: usize,
    /// Rules in them.
    pub rules: usize,
    /// Sets, and maps of nftables.
    pub sets: usize,
    /// The elements of these.
    pub elements: usize,
}
