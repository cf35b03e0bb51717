//! The chain that evaluates the traffic of all pods that the same policies isolate in one direction.

use super::entry::denied_chain;
use super::fields::invalid;
use crate::compile::Profile;
use crate::netfilter::nftables::{Rule, Verdict};
use crate::render::Names;

/// Its rules: the first policy that allows a packet accepts it. Packets of a pod to itself are accepted by the chain
/// that denies.
pub(super) fn chain(names: &mut Names, profile: &Profile) -> Vec<Rule> {
    let mut rules = vec![invalid().drop()];
    rules.extend(profile.judgement.policies().map(|policy| {
        let chain = names.policy(policy, profile.direction);
        Rule::when().jump(chain.as_str()).comment(&format!("policy {policy}"))
    }));
    rules.push(Rule::verdict(Verdict::Goto(denied_chain(profile.direction).into())));
    rules
}
