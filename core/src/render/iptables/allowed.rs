//! How much policies have allowed, read from the counts of rules.

use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Count, CountedChains, Match, Target};

/// How many packets of each calling chain a policy has allowed: the calling chain, the policy's chain, and the count.
///
/// The rule after the jump to the policy's chain has counted them. The rules of the policy's chain would count a packet
/// once for each rule that it matches.
pub fn allowed(chains: &CountedChains) -> impl Iterator<Item = (&ChainName, &ChainName, Count)> {
    chains.iter().flat_map(|(asking, rules)| {
        rules.windows(2).filter_map(move |pair| {
            let [(jump, _), (answer, count)] = pair else { return None };
            let says_yes =
                answer.target == Target::Return && matches!(answer.matches[..], [Match::Mark { .. }]);
            match &jump.target {
                Target::Jump(policy) if says_yes => Some((asking, policy, *count)),
                Target::Jump(_)
                | Target::Goto(_)
                | Target::Return
                | Target::Accept
                | Target::Drop
                | Target::SetMark { .. }
                | Target::Log { .. }
                | Target::Reject(_) => None,
            }
        })
    })
}
