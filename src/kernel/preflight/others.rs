//! Checks whether rules of other programs conflict with ours.

use super::Wanted;
use super::facts::Facts;
use super::judge::{CheckResult, missing};
use super::saved::SavedRule;
use crate::apply::OtherController;
use crate::kernel::iptables::TABLE;
use crate::ownership::owns_chain;
use std::collections::{BTreeMap, BTreeSet};

const BUILT_IN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// The bits with which kube-proxy marks packets, even if it has not begun to.
const KUBE_PROXY_MARKS: u32 = 0x4000 | 0x8000;

/// Whether all existing rules can be read.
pub(super) fn rules(facts: &Facts) -> CheckResult {
    match facts.saved.unreadable.first() {
        None => Ok("existing rules can be read".to_owned()),
        Some(complaint) => missing(
            format!("existing rules cannot be read: {complaint}"),
            "iptables-nft-save; iptables-legacy-save (make both work, or uninstall the unused one)",
        ),
    }
}

/// The hooks of other NetworkPolicy controllers.
fn hooks(facts: &Facts) -> Vec<(OtherController, SavedRule<'_>)> {
    let in_filter = |rule: &SavedRule<'_>| rule.table == TABLE && BUILT_IN.contains(&rule.chain);
    let hooks = facts.saved.foreign_rules().filter(in_filter);
    hooks.filter_map(|rule| Some((OtherController::of_hook(rule.rule)?, rule))).collect()
}

/// Whether another NetworkPolicy controller filters packets here.
pub(super) fn has_controller(facts: &Facts) -> bool {
    !hooks(facts).is_empty()
        || facts.nft_tables.iter().any(|table| OtherController::of_table(table).is_some())
}

/// Whether another NetworkPolicy controller has rules here or runs.
pub(super) fn controller(facts: &Facts) -> CheckResult {
    let mut found: BTreeMap<OtherController, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    for (controller, rule) in hooks(facts) {
        let (places, removal) = found.entry(controller).or_default();
        places.insert(format!("{} in {}", rule.target().unwrap_or_default(), rule.chain));
        removal.push(rule.removal());
    }
    for table in &facts.nft_tables {
        let Some(controller) = OtherController::of_table(table) else { continue };
        let (places, removal) = found.entry(controller).or_default();
        places.insert(format!("nftables table {table}"));
        removal.push(format!("nft delete table {table}"));
    }
    if found.is_empty() {
        return Ok("no other NetworkPolicy controller filters packets here".to_owned());
    }
    let (mut problems, mut cures, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    for (controller, (places, removal)) in found {
        let places = places.into_iter().collect::<Vec<_>>().join(", ");
        let runs = if facts.running.contains(&controller) { ", and its process runs" } else { "" };
        problems.push(format!("{} filters packets too, by {places}{runs}", controller.name()));
        cures.push(controller.cure(facts.is_k3s));
        removals.extend(removal);
    }
    let takeover = "then start Bridgewarden with --takeover, or remove what is left";
    missing(
        format!(
            "{}: packets pass only if both allow them, and the agent writes nothing",
            problems.join(", and ")
        ),
        std::iter::once(format!("{}, {takeover}", cures.join(", ")))
            .chain(removals)
            .collect::<Vec<_>>()
            .join("; "),
    )
}

/// Whether our chains are still in use in the other variant.
pub(super) fn variant(facts: &Facts, wanted: &Wanted) -> CheckResult {
    let ours = |rule: &SavedRule<'_>| rule.target().is_some_and(owns_chain);
    let stale: Vec<_> = facts
        .saved
        .foreign_rules()
        .filter(|rule| {
            Some(rule.variant) != wanted.backend.variant() && BUILT_IN.contains(&rule.chain) && ours(rule)
        })
        .collect();
    let Some(first) = stale.first() else {
        return Ok(format!("no chain of Bridgewarden is in use outside {}", wanted.backend.name()));
    };
    missing(
        format!(
            "packets still pass {} of iptables-{}, which no agent updates",
            first.target().unwrap_or_default(),
            first.variant.name()
        ),
        stale.iter().map(SavedRule::removal).collect::<Vec<_>>().join("; "),
    )
}

/// Whether other programs use our bit of the mark.
pub(super) fn mark(facts: &Facts, wanted: &Wanted) -> CheckResult {
    let used = facts.saved.rules_that_stay().fold(KUBE_PROXY_MARKS, |bits, rule| bits | rule.mark_bits());
    if used & wanted.mark == 0 {
        return Ok(format!("no other program uses mark {:#x}", wanted.mark));
    }
    let user = facts.saved.rules_that_stay().find(|rule| rule.mark_bits() & wanted.mark != 0);
    let user = user.map_or_else(
        || "kube-proxy".to_owned(),
        |rule| {
            let program = rule.variant.edit(rule.family);
            format!("{program} -t {} -A {} {}", rule.table, rule.chain, rule.rule)
        },
    );
    let free = (16..32).chain(0..16).map(|bit| 1u32 << bit).find(|bit| used & bit == 0);
    missing(
        format!("mark {:#x} is also used by: {user}", wanted.mark),
        free.map_or_else(|| "free a bit of the packet mark".to_owned(), |bit| format!("--mark {bit:#x}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::TableText;
    use crate::kernel::preflight::fixture::{failing, healthy, wanted};
    use crate::kernel::preflight::judge;
    use crate::net::Family;
    use crate::netfilter::iptables::Variant;

    fn with_rule(variant: Variant, table: &str, chain: &str, rule: &str) -> Facts {
        let mut facts = healthy();
        let chains = [(chain.to_owned(), vec![rule.to_owned()])].into();
        facts.saved.tables.insert((variant, Family::V4, table.to_owned()), TableText { chains });
        facts
    }

    #[test]
    fn controller_that_filters_packets_too_is_named_with_its_removal() {
        let rule = "-m comment --comment \"kube-router netpol\" -j KUBE-ROUTER-INPUT";
        let mut facts = with_rule(Variant::Legacy, "filter", "INPUT", rule);
        let (names, problem, cure) = failing(&facts);
        assert_eq!(names, ["other-controller"]);
        assert!(
            problem.starts_with("kube-router filters packets too, by KUBE-ROUTER-INPUT in INPUT"),
            "{problem}"
        );
        assert!(cure.starts_with("kubectl -n kube-system delete daemonset kube-router"), "{cure}");
        assert!(cure.contains("--disable-network-policy") && cure.contains("--takeover"), "{cure}");
        assert!(cure.ends_with(&format!("; iptables-legacy -t filter -D INPUT {rule}")), "{cure}");
        facts.is_k3s = true;
        let (_, _, cure) = failing(&facts);
        assert!(cure.starts_with("k3s runs it") && !cure.contains("delete daemonset"), "{cure}");
        let unused = with_rule(Variant::Legacy, "filter", "KUBE-ROUTER-FORWARD", "-j RETURN");
        assert_eq!(failing(&unused).0, Vec::<&str>::new());
    }

    #[test]
    fn each_controller_is_named_with_a_cure_of_its_own() {
        for (target, name, cure) in [
            ("cali-FORWARD", "Calico", "canal"),
            ("WEAVE-NPC", "Weave Net", "EXPECT_NPC=0"),
            ("CILIUM_FORWARD", "Cilium", "enable-policy"),
            ("ANTREA-FORWARD", "Antrea", "antrea-agent"),
        ] {
            let (names, problem, advice) =
                failing(&with_rule(Variant::Nft, "filter", "FORWARD", &format!("-j {target}")));
            assert!(
                names == ["other-controller"] && problem.contains(name) && advice.contains(cure),
                "{problem} {advice}"
            );
        }
        let facts = Facts {
            nft_tables: ["inet kube-network-policies".to_owned(), "inet f".to_owned()].into(),
            ..healthy()
        };
        let (names, problem, cure) = failing(&facts);
        assert_eq!(names, ["other-controller"]);
        assert!(problem.starts_with("kube-network-policies filters packets too"), "{problem}");
        assert!(cure.ends_with("; nft delete table inet kube-network-policies"), "{cure}");
    }

    #[test]
    fn rules_that_cannot_be_read_are_not_taken_for_none() {
        let mut facts = healthy();
        facts.saved.unreadable.push("iptables-nft-save failed".to_owned());
        assert_eq!(failing(&facts).0, ["rules"]);
    }

    #[test]
    fn our_own_chain_left_in_the_other_variant_is_reported() {
        let hook = "-j KUBE-NWPLCY-FORWARD";
        let (names, _, cure) = failing(&with_rule(Variant::Legacy, "filter", "FORWARD", hook));
        assert_eq!(names, ["other-variant"]);
        assert_eq!(cure, "iptables-legacy -t filter -D FORWARD -j KUBE-NWPLCY-FORWARD");
        assert_eq!(failing(&with_rule(Variant::Nft, "filter", "FORWARD", hook)).0, Vec::<&str>::new());
    }

    #[test]
    fn mark_that_others_use_is_reported_with_a_free_one() {
        let theirs = with_rule(Variant::Nft, "mangle", "PREROUTING", "-j MARK --set-xmark 0x30000/0x30000");
        let (names, problem, cure) = failing(&theirs);
        assert_eq!((names, cure.as_str()), (vec!["mark"], "--mark 0x40000"));
        assert!(problem.contains("iptables-nft -t mangle -A PREROUTING"), "{problem}");
        let ours =
            with_rule(Variant::Nft, "filter", "KUBE-NWPLCY-INGRESS", "-j MARK --set-xmark 0x10000/0x10000");
        assert_eq!(failing(&ours).0, Vec::<&str>::new());
        let unreached = with_rule(Variant::Nft, "mangle", "LEFT", "-j MARK --set-xmark 0x10000/0x10000");
        assert_eq!(failing(&unreached).0, Vec::<&str>::new(), "no packet comes to it");
        let checks = judge(&healthy(), &Wanted { mark: 0x4000, ..wanted() });
        assert!(checks.iter().any(|check| check.name == "mark" && check.result.is_err()));
    }
}
