//! Which chains of a filter table are ours: by their names, and for those of version 0.1.0 also by their jumps.

use super::TableText;
use crate::netfilter::iptables::{asked_sets, target};
use crate::ownership::{may_be_of_0_1_0, owns_chain, owns_set};
use std::collections::BTreeSet;

/// The names of our chains.
///
/// The names of chains of 0.1.0 look like those of kube-router, but one of our chains jumps to them, they jump to one,
/// or they refer to one of our sets. kube-router's chains never do.
pub fn own_chains(table: &TableText) -> BTreeSet<&str> {
    let names = || table.chains.keys().map(String::as_str);
    let mut own: BTreeSet<&str> = names().filter(|name| owns_chain(name)).collect();
    let mut open: BTreeSet<&str> = names().filter(|name| may_be_of_0_1_0(name)).collect();
    let rules = |chain: &str| table.chains.get(chain).into_iter().flatten().map(String::as_str);
    let mut found: Vec<&str> = own.iter().copied().collect();
    while !open.is_empty() {
        while let Some(chain) = found.pop() {
            let reached: Vec<&str> =
                rules(chain).filter_map(target).filter_map(|name| open.take(name)).collect();
            own.extend(&reached);
            found.extend(reached);
        }
        let says_ours = |rule: &str| {
            target(rule).is_some_and(|name| own.contains(name)) || asked_sets(rule).any(owns_set)
        };
        let Some(chain) = open.iter().copied().find(|chain| rules(chain).any(says_ours)) else { break };
        open.remove(chain);
        own.insert(chain);
        found.push(chain);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(chains: &[(&str, &[&str])]) -> Vec<String> {
        let text = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
        let chains = chains.iter().map(|(name, rules)| ((*name).to_owned(), text(rules))).collect();
        own_chains(&TableText { chains }).into_iter().map(str::to_owned).collect()
    }

    const POLICY: &str = "KUBE-NWPLCY-AAAAAAAAAAAAAAAA";
    const POD: &str = "KUBE-POD-SPECIFIC-FW-BBBBBBB";
    const THEIRS: &str = "KUBE-NWPLCY-CCCCCCCCCCCCCCCC";

    #[test]
    fn chains_of_the_first_version_are_ours_by_the_way_that_leads_to_them() {
        let jump_to_pod = format!("-s 10.0.0.1/32 -g {POD}");
        let jump_to_policy = format!("-m comment --comment \"policy a/b\" -j {POLICY}");
        let of_kube_router =
            "-m set --match-set KUBE-SRC-AAAAAAAAAAAAAAAA src -j MARK --set-xmark 0x10000/0x10000";
        let jump_of_kube_router = format!("-d 10.0.0.1/32 -j {THEIRS}");
        let chains: &[(&str, &[&str])] = &[
            ("FORWARD", &["-j KUBE-NWPLCY-FORWARD"]),
            ("KUBE-NWPLCY-FORWARD", &["-j KUBE-NWPLCY-EGRESS"]),
            ("KUBE-NWPLCY-EGRESS", &["-j KUBE-NWPLCY-EGRESS-00"]),
            ("KUBE-NWPLCY-EGRESS-00", &[&jump_to_pod]),
            (POD, &[&jump_to_policy]),
            (POLICY, &["-j MARK --set-xmark 0x10000/0x10000"]),
            ("KUBE-POD-FW-CCCCCCCCCCCCCCCC", &[&jump_of_kube_router]),
            (THEIRS, &[of_kube_router]),
            ("KUBE-NWPLCY-DEFAULT", &["-j MARK --set-xmark 0x10000/0x10000"]),
        ];
        let ours = ["KUBE-NWPLCY-EGRESS", "KUBE-NWPLCY-EGRESS-00", "KUBE-NWPLCY-FORWARD"];
        let mut wanted = [&[POLICY][..], &ours, &[POD]].concat();
        wanted.sort_unstable();
        assert_eq!(own(chains), wanted);
    }

    #[test]
    fn chain_of_the_first_version_that_nothing_leads_to_is_ours_by_the_set_that_it_asks() {
        let asks =
            "-m set --match-set KUBE-NWPLCY-P4-AAAAAAAAAAAAAAAA src -j MARK --set-xmark 0x10000/0x10000";
        let leads = format!("-j {POLICY}");
        assert_eq!(own(&[(POLICY, &[asks]), (POD, &[&leads]), (THEIRS, &[])]), [POLICY, POD]);
    }

    #[test]
    fn chain_that_leads_to_itself_ends_the_search() {
        let leads = format!("-j {THEIRS}");
        assert_eq!(own(&[(THEIRS, &[&leads])]), [""; 0]);
    }
}
