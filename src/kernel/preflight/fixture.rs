//! A host that meets all requirements, from which tests remove some.

use super::facts::{CALL_IP6TABLES, CALL_IPTABLES, FORWARD_V4, FORWARD_V6, Facts};
use super::{Missing, Wanted, judge};
use crate::netfilter::BackendName;

/// The requirements in the tests.
pub(super) fn wanted() -> Wanted {
    Wanted {
        backend: BackendName::IptablesNft,
        bridge: "cni0".to_owned(),
        mark: 0x10000,
        log_group: Some(101),
        try_bridge_table: true,
        may_load_tables: true,
    }
}

/// A host that meets all requirements.
pub(super) fn healthy() -> Facts {
    let on = [CALL_IPTABLES, CALL_IP6TABLES, FORWARD_V4, FORWARD_V6].map(|name| (name, "1".to_owned()));
    Facts {
        capabilities: 0x3000,
        bridge_netfilter: true,
        ipv6: true,
        sysctls: on.into(),
        devices: ["cni0".to_owned()].into(),
        bridge_has_ipv6: true,
        tried_rules: true,
        bridge_table: Some(Ok(())),
        ..Facts::default()
    }
}

/// The names of the checks that fail, and the problem and cure of the first.
pub(super) fn failing(facts: &Facts) -> (Vec<&'static str>, String, String) {
    let checks = judge(facts, &wanted());
    let failed: Vec<_> =
        checks.into_iter().filter_map(|check| Some((check.name, check.result.err()?))).collect();
    let first = failed.first().map(|(_, missing)| missing.clone());
    let first = first.unwrap_or(Missing { problem: String::new(), cure: String::new() });
    (failed.into_iter().map(|(name, _)| name).collect(), first.problem, first.cure)
}
