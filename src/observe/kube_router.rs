//! Some metrics under the names that kube-router uses, for its dashboards.

use super::catalog::Catalog;
use super::{Documentation, Inventory, Phase};
use prometheus::{DEFAULT_BUCKETS, Histogram, IntGauge};
use std::time::Duration;

/// The prefix of their names.
const PREFIX: &str = "kube_router_";

/// The metrics that have the same meaning here. kube-router's others are about services, routes, or steps that the agent does not have.
pub(super) struct KubeRouter {
    catalog: Catalog,
    iptables_sync_time: Histogram,
    policy_chains_sync_time: Histogram,
    policy_chains: IntGauge,
    policy_ipsets: IntGauge,
}

impl KubeRouter {
    pub(super) fn new() -> KubeRouter {
        let mut catalog = Catalog::new(PREFIX);
        KubeRouter {
            iptables_sync_time: catalog.histogram(
                "controller_iptables_sync_time",
                DEFAULT_BUCKETS,
                "Duration of a sync; same as bridgewarden_sync_duration_seconds, phase total.",
            ),
            policy_chains_sync_time: catalog.histogram(
                "controller_policy_chains_sync_time",
                DEFAULT_BUCKETS,
                "Time to compute chains and sets; same as bridgewarden_sync_duration_seconds, phase render.",
            ),
            policy_chains: catalog.gauge(
                "controller_policy_chains",
                "Chains in the kernel, including those of pods; the sum of bridgewarden_chains.",
            ),
            policy_ipsets: catalog
                .gauge("controller_policy_ipsets", "Sets in the kernel; the sum of bridgewarden_sets."),
            catalog,
        }
    }

    pub(super) fn phase(&self, phase: Phase, took: Duration) {
        match phase {
            Phase::Total => self.iptables_sync_time.observe(took.as_secs_f64()),
            Phase::Render => self.policy_chains_sync_time.observe(took.as_secs_f64()),
            Phase::Compile | Phase::Read | Phase::Apply | Phase::Revoke => {}
        }
    }

    pub(super) fn inventory(&self, inventory: &Inventory) {
        if inventory.kernel.is_empty() {
            return;
        }
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.policy_chains.set(whole(inventory.kernel.values().map(|kernel| kernel.chains).sum()));
        self.policy_ipsets.set(whole(inventory.kernel.values().map(|kernel| kernel.sets).sum()));
    }

    pub(super) fn documentation(&self) -> Vec<Documentation> {
        self.catalog.entries().to_vec()
    }

    pub(super) fn text(&self) -> String {
        self.catalog.text()
    }
}
