//! What policies have allowed, found in what rules have counted.

use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Count, CountedChains, Match, Target};

/// How much each chain that asks policies was answered with yes: the asking chain, the policy's, and the count.
///
/// It is the rule behind the jump that has counted it. The rules of a policy's own chain count a packet once for each that
/// takes it.
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
