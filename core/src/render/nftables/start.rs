//! The table that is in force while an agent starts on a kernel without rules.

use super::entry::NEIGHBOUR_DISCOVERY;
use super::fields::{by_device, established, icmpv6};
use crate::netfilter::nftables::{Chain, Hook, HookPoint, Meta, Rule, Table, TableFamily};
use crate::ownership::START_TABLE;

/// Before the chains that evaluate policies, so that it decides alone while both are there.
const PRIORITY: i32 = -20;

/// Denies new connections to and from the pods of this bridge, routed and bridged. Packets between a pod and its node do not pass the
/// forward hook.
pub fn start_table(bridge: &str) -> Table {
    let mut rules = vec![established().accept()];
    rules.extend(NEIGHBOUR_DISCOVERY.map(|number| icmpv6(number).accept()));
    rules
        .extend([Meta::InputName, Meta::OutputName].map(|side| by_device(Rule::when(), side, bridge).drop()));
    let mut table = Table::new(TableFamily::Inet, START_TABLE);
    let base = Some(Hook { point: HookPoint::Forward, priority: PRIORITY });
    table.chains.insert("forward".into(), Chain { base, rules });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_at_the_start_denies_what_enters_or_leaves_by_the_bridge() {
        let text = start_table("cni0").to_string();
        for rule in ["iifname \"cni0\" drop", "oifname \"cni0\" drop"] {
            assert!(text.contains(rule), "{text}");
        }
    }
}
