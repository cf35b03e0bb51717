//! The chain that evaluates the traffic of all pods that the same policies isolate in one direction: the first policy that allows a
//! packet accepts it. Packets of a pod to itself are accepted by the chain that denies.

use super::entry::denied_chain;
use super::fields::invalid;
use crate::model::{Direction, PolicyKey};
use crate::netfilter::ChainName;
use crate::netfilter::nftables::{Rule, Verdict};

/// The most rules of a policy that are part of the chains of its profiles. A policy with more has its own chain, to which these jump:
/// it may have thousands of rules, and a hundred profiles. A namespace that gives each of its pods a profile of its own has at most this
/// many times the rules that it would have with jumps alone.
const MOST_INLINED: usize = 4;

/// Whether the rules of a policy are part of the chains of its profiles: a packet is then evaluated by one chain and not by one per
/// policy, and the kernel validates fewer chains in each transaction.
pub(super) fn is_inlined(rules: &[Rule]) -> bool {
    rules.len() <= MOST_INLINED
}

/// The rules before those of the policies.
pub(super) fn before_policies() -> Vec<Rule> {
    vec![invalid().drop()]
}

/// The jump to a policy that has its own chain.
pub(super) fn jump(policy: &PolicyKey, chain: &ChainName) -> Rule {
    Rule::when().jump(chain.as_str()).comment(&format!("policy {policy}"))
}

/// The last rule, for packets that no policy allows.
pub(super) fn after_policies(direction: Direction) -> Rule {
    Rule::verdict(Verdict::Goto(denied_chain(direction).into()))
}
