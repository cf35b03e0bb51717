//! Every metric: its name, its labels and what it means.

use super::catalog::Catalog;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

/// Upper bounds in seconds for the phases of a sync.
const SYNC_BUCKETS: [f64; 18] = [
    50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 1e-2, 25e-3, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Upper bounds in seconds for a change to come into force.
const ENFORCED_BUCKETS: [f64; 20] = [
    10e-6, 25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 1e-2, 25e-3, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// The handles of all metrics of ours.
pub(super) struct Series {
    pub(super) build_info: IntGaugeVec,
    pub(super) sync_duration: HistogramVec,
    pub(super) syncs: IntCounterVec,
    pub(super) last_success: Gauge,
    pub(super) seen_to_enforced: Histogram,
    pub(super) pending_changes: IntGauge,
    pub(super) watch_age: GaugeVec,
    pub(super) watch_lists: IntCounterVec,
    pub(super) watch_errors: IntCounterVec,
    pub(super) unreadable_objects: IntGaugeVec,
    pub(super) watch_events_lost: IntCounterVec,
    pub(super) changes: IntCounterVec,
    pub(super) policies: IntGauge,
    pub(super) active_policies: IntGauge,
    pub(super) isolated_pods: IntGaugeVec,
    pub(super) local_pods: IntGauge,
    pub(super) pods: IntGauge,
    pub(super) sandboxes: IntGaugeVec,
    pub(super) bound_ports: IntGauge,
    pub(super) unbound_pods: IntGauge,
    pub(super) dropped_frames: IntCounterVec,
    pub(super) chains: IntGaugeVec,
    pub(super) rules: IntGaugeVec,
    pub(super) sets: IntGaugeVec,
    pub(super) set_members: IntGaugeVec,
    pub(super) kernel_writes: IntCounterVec,
    pub(super) set_elements_written: IntCounter,
    pub(super) processes_started: IntCounter,
    pub(super) connections_cut: IntCounter,
    pub(super) drift_repairs: IntCounter,
    pub(super) denied_packets: IntCounterVec,
    pub(super) denied_lost: IntCounter,
    pub(super) denied_untold: IntCounter,
    pub(super) policy_allowed_packets: IntCounterVec,
    pub(super) policy_allowed_bytes: IntCounterVec,
    pub(super) refused_parts: IntGaugeVec,
    pub(super) manifest_errors: IntGauge,
    pub(super) cni_result_errors: IntGauge,
    pub(super) cni_results_missing: IntGauge,
    pub(super) preflight_ok: IntGaugeVec,
    pub(super) ready: IntGauge,
}

impl Series {
    /// Makes each of them, in the order in which they are best explained.
    pub(super) fn new(catalog: &mut Catalog) -> Series {
        Series {
            build_info: catalog.gauges(
                "build_info",
                &["version", "revision"],
                "Always 1; the labels tell which build this is, the revision being empty if it is not known.",
            ),
            ready: catalog
                .gauge("ready", "1 if the daemon enforces what it was told, 0 if not; see /readyz for why."),
            preflight_ok: catalog.gauges(
                "preflight_ok",
                &["check"],
                "1 if the node is as a preflight check demands, 0 if not: policies are then not enforced.",
            ),
            syncs: catalog.counters(
                "syncs_total",
                &["result"],
                "Syncs ended, by result: ok, or the kind of the error.",
            ),
            last_success: catalog.real_gauge(
                "last_success_timestamp_seconds",
                "When a sync last ended well, in seconds since the Unix epoch; 0 if none has yet.",
            ),
            sync_duration: catalog.histograms(
                "sync_duration_seconds",
                &["phase"],
                &SYNC_BUCKETS,
                "How long the phases of a sync took, and the whole of it.",
            ),
            seen_to_enforced: catalog.histogram(
                "seen_to_enforced_seconds",
                &ENFORCED_BUCKETS,
                "How long it took from seeing a change until the kernel enforced it.",
            ),
            changes: catalog.counters("changes_total", &["kind"], "Changes that came in, by kind of object."),
            pending_changes: catalog
                .gauge("pending_changes", "Changes seen that no sync has brought into force yet."),
            watch_age: catalog.real_gauges(
                "watch_age_seconds",
                &["resource"],
                "How long ago something the API server said of a resource was last understood; it sends a bookmark about every \
                 minute.",
            ),
            watch_lists: catalog.counters(
                "watch_lists_total",
                &["resource"],
                "Complete lists that the API server gave of a resource.",
            ),
            watch_errors: catalog.counters(
                "watch_errors_total",
                &["resource", "reason"],
                "Requests of a watch that failed: the server was unreachable, or refused.",
            ),
            unreadable_objects: catalog.gauges(
                "unreadable_objects",
                &["resource"],
                "Objects of the API that cannot be read: such a pod is unknown, such a policy isolates its namespace, and such a \
                 namespace has no labels.",
            ),
            watch_events_lost: catalog.counters(
                "watch_events_lost_total",
                &["resource"],
                "Events of the API that could not be read, not even which object they were about.",
            ),
            policies: catalog.gauge("policies", "NetworkPolicies known."),
            active_policies: catalog
                .gauge("active_policies", "NetworkPolicies that select a pod of this node."),
            refused_parts: catalog.gauges(
                "refused_parts",
                &["reason"],
                "Parts of NetworkPolicies that cannot be understood, or are beyond the limits of a policy, and so allow nothing, by reason.",
            ),
            manifest_errors: catalog.gauge("manifest_errors", "Manifests that cannot be read."),
            cni_result_errors: catalog.gauge(
                "cni_result_errors",
                "CNI results that cannot be read; the addresses of their pods are known only once the API tells.",
            ),
            cni_results_missing: catalog.gauge(
                "cni_results_missing",
                "1 if this node has pods and no CNI result says where any of them is: new pods are open until the API tells.",
            ),
            pods: catalog.gauge("pods", "Pods known."),
            local_pods: catalog.gauge("local_pods", "Pods of this node."),
            sandboxes: catalog.gauges(
                "sandboxes",
                &["state"],
                "Sandboxes of this node: known, or unknown because no Pod explains them.",
            ),
            bound_ports: catalog.gauge(
                "bound_ports",
                "Ports of the bridge that are bound to a pod: it sends under its own addresses alone.",
            ),
            unbound_pods: catalog.gauge(
                "unbound_pods",
                "Pods of this node that have an address of which no port of the bridge is known.",
            ),
            dropped_frames: catalog.counters(
                "dropped_frames_total",
                &["reason"],
                "Frames that were dropped at a port of the bridge, by reason, as they were counted at the last audit.",
            ),
            isolated_pods: catalog.gauges(
                "isolated_pods",
                &["direction"],
                "Pods of this node that a NetworkPolicy isolates, by direction.",
            ),
            chains: catalog.gauges(
                "chains",
                &["family"],
                "Chains of ours in the kernel, by address family; while syncs fail, as they were known last.",
            ),
            rules: catalog.gauges(
                "rules",
                &["family"],
                "Rules in our chains in the kernel, by address family.",
            ),
            sets: catalog.gauges("sets", &["family"], "Sets of ours in the kernel, by address family."),
            set_members: catalog.gauges(
                "set_members",
                &["family"],
                "Elements of our sets in the kernel, by address family.",
            ),
            kernel_writes: catalog.counters(
                "kernel_writes_total",
                &["kind"],
                "Transactions of rules, and netlink requests that change sets or cut connections.",
            ),
            set_elements_written: catalog
                .counter("set_elements_written_total", "Set elements added or removed."),
            processes_started: catalog
                .counter("processes_started_total", "Programs run to read or write the kernel."),
            connections_cut: catalog.counter(
                "connections_cut_total",
                "Live connections cut because no policy allows them any longer.",
            ),
            drift_repairs: catalog.counter(
                "drift_repairs_total",
                "Times the kernel was found changed by someone else and put right.",
            ),
            policy_allowed_packets: catalog.counters(
                "policy_allowed_packets_total",
                &["direction", "policy_namespace", "policy"],
                "With --metrics-per-policy=on: packets that a NetworkPolicy in force here has allowed, about one for each \
                 connection, as those that follow are not judged; of several that allow one, the first. Policies beyond five \
                 hundred are counted together, without a name.",
            ),
            policy_allowed_bytes: catalog.counters(
                "policy_allowed_bytes_total",
                &["direction", "policy_namespace", "policy"],
                "Bytes of those packets, IP headers included.",
            ),
            denied_packets: catalog.counters(
                "denied_packets_total",
                &["direction", "pod_namespace"],
                "Refused packets looked at, at most ten a second of each pod, direction and family; by the namespace of the \
                 pod, empty for all beyond the first hundred namespaces and for flows not looked at.",
            ),
            denied_lost: catalog.counter(
                "denied_packets_lost_total",
                "Refused packets whose copy was lost on the way from the kernel.",
            ),
            denied_untold: catalog.counter(
                "denied_flows_untold_total",
                "Denied flows that were counted and not looked at, for there were more than fifty a second.",
            ),
        }
    }
}
