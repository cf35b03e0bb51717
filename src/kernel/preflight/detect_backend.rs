//! Detects which packet filter the other programs on this host use: their rules and ours should be in the same one.

use super::Saved;
use super::facts::{nft_tables, usable};
use crate::kernel::exec::Runner;
use crate::kernel::ipset::Ipset;
use crate::netfilter::BackendName;
use crate::netfilter::iptables::Variant;
use std::collections::BTreeSet;

/// The chains by which the kubelet shows which iptables it uses.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];
/// The prefixes of the chains of kube-proxy, kubelet, flannel and the CNI plugins.
const PREFIXES: [&str; 3] = ["KUBE-", "FLANNEL-", "CNI-"];
/// The tables of kube-proxy in nftables mode.
const KUBE_PROXY_TABLES: [&str; 2] = ["ip kube-proxy", "ip6 kube-proxy"];

/// The backend that fits kubelet, kube-proxy and flannel on this host, and how it was detected.
pub fn detect_backend() -> (BackendName, String) {
    let tables = nft_tables();
    if let Some(table) = KUBE_PROXY_TABLES.into_iter().find(|table| tables.contains(*table)) {
        return (BackendName::Nftables, format!("kube-proxy uses nftables: table {table}"));
    }
    let usable: BTreeSet<Variant> = Variant::BOTH.into_iter().filter(|variant| usable(*variant)).collect();
    if usable.is_empty() {
        return (BackendName::Nftables, "iptables is not installed".to_owned());
    }
    if let Err(error) = Ipset::open() {
        return (BackendName::Nftables, format!("the kernel has no ipset: {error}"));
    }
    let (variant, reason) = choose(&usable, &Saved::gather(&mut Runner::new()));
    (variant.into(), reason)
}

fn choose(usable: &BTreeSet<Variant>, saved: &Saved) -> (Variant, String) {
    if let [only] = *usable.iter().copied().collect::<Vec<_>>() {
        return (only, format!("only iptables-{} is installed", only.name()));
    }
    let hinted: BTreeSet<Variant> = saved
        .foreign_chains()
        .filter(|(_, chain)| HINTS.contains(chain))
        .map(|(variant, _)| variant)
        .collect();
    if let [only] = *hinted.into_iter().collect::<Vec<_>>() {
        return (only, format!("kubelet uses iptables-{}", only.name()));
    }
    let is_theirs = |chain: &str| PREFIXES.iter().any(|prefix| chain.starts_with(prefix));
    let count = |wanted: Variant| {
        let rules = saved.foreign_rules().map(|rule| (rule.variant, rule.chain));
        rules
            .chain(saved.foreign_chains())
            .filter(|(variant, chain)| *variant == wanted && is_theirs(chain))
            .count()
    };
    let (nft, legacy) = (count(Variant::Nft), count(Variant::Legacy));
    let reason = format!(
        "kube-proxy, flannel and CNI plugins have {nft} chains and rules in nft, {legacy} in legacy tables"
    );
    (if legacy > nft { Variant::Legacy } else { Variant::Nft }, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::TableText;
    use crate::net::Family;

    fn saved(tables: &[(Variant, &[&str])]) -> Saved {
        let mut saved = Saved::default();
        for (variant, chains) in tables {
            let chains = chains.iter().map(|chain| ((*chain).to_owned(), vec!["-j RETURN".to_owned()]));
            let text = TableText { chains: chains.collect() };
            saved.tables.insert((*variant, Family::V4, "filter".to_owned()), text);
        }
        saved
    }

    fn chosen(tables: &[(Variant, &[&str])]) -> Variant {
        choose(&BTreeSet::from(Variant::BOTH), &saved(tables)).0
    }

    #[test]
    fn nft_is_chosen_unless_the_legacy_tables_hold_more_of_theirs() {
        assert_eq!(chosen(&[]), Variant::Nft);
        assert_eq!(chosen(&[(Variant::Legacy, &["DOCKER", "KUBE-NWPLCY-FORWARD"])]), Variant::Nft);
        assert_eq!(chosen(&[(Variant::Legacy, &["KUBE-SERVICES"])]), Variant::Legacy);
        let both: [(Variant, &[&str]); 2] =
            [(Variant::Legacy, &["FLANNEL-FWD"]), (Variant::Nft, &["KUBE-SERVICES", "KUBE-FORWARD"])];
        assert_eq!(chosen(&both), Variant::Nft);
    }

    #[test]
    fn kubelet_knows_best_unless_it_contradicts_itself() {
        let tables: [(Variant, &[&str]); 2] =
            [(Variant::Legacy, &["KUBE-KUBELET-CANARY"]), (Variant::Nft, &["KUBE-A", "KUBE-B"])];
        assert_eq!(chosen(&tables), Variant::Legacy);
        let tables: [(Variant, &[&str]); 2] =
            [(Variant::Legacy, &["KUBE-KUBELET-CANARY"]), (Variant::Nft, &["KUBE-IPTABLES-HINT", "KUBE-B"])];
        assert_eq!(chosen(&tables), Variant::Nft);
    }

    #[test]
    fn variant_that_is_not_installed_is_not_chosen() {
        let theirs = saved(&[(Variant::Nft, &["KUBE-SERVICES"])]);
        let (variant, reason) = choose(&BTreeSet::from([Variant::Legacy]), &theirs);
        assert_eq!((variant, reason.as_str()), (Variant::Legacy, "only iptables-legacy is installed"));
    }
}
