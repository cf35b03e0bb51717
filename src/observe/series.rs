//! Every metric: its name, its labels and its meaning. To add one, add it here and a method that records it in
//! `metrics`.

use super::catalog::Catalog;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

/// Upper bounds in seconds for the phases of a sync.
const SYNC_BUCKETS: [f64; 18] = [
    50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 1e-2, 25e-3, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Upper bounds in seconds for the time until a change is in force.
const ENFORCED_BUCKETS: [f64; 20] = [
    10e-6, 25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 1e-2, 25e-3, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// The handles of all our metrics.
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
    pub(super) verified_timestamp: Gauge,
    pub(super) verified_decisions: IntGauge,
    pub(super) denied_packets: IntCounterVec,
    pub(super) audited_packets: IntCounterVec,
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
    /// Creates each of them, in the order of `docs/metrics.md`.
    pub(super) fn new(catalog: &mut Catalog) -> Series {
        Series {
            build_info: catalog.gauges(
                "build_info",
                &["version", "revision", "date"],
                "Always 1. The labels name the version, the commit and its date; revision and date are empty if the commit is unknown.",
            ),
            ready: catalog
                .gauge("ready", "1 if the agent enforces all policies it knows, 0 if not; /readyz gives the reason."),
            preflight_ok: catalog.gauges(
                "preflight_ok",
                &["check"],
                "1 if the node passes this preflight check. If 0, policies are not enforced.",
            ),
            syncs: catalog.counters(
                "syncs_total",
                &["result"],
                "Completed syncs, by result: ok or the kind of error.",
            ),
            last_success: catalog.real_gauge(
                "last_success_timestamp_seconds",
                "Time of the last successful sync, in seconds since the Unix epoch; 0 if there has been none.",
            ),
            sync_duration: catalog.histograms(
                "sync_duration_seconds",
                &["phase"],
                &SYNC_BUCKETS,
                "Duration of a sync, by phase; the phase total is the whole sync.",
            ),
            seen_to_enforced: catalog.histogram(
                "seen_to_enforced_seconds",
                &ENFORCED_BUCKETS,
                "Time from receiving a change until the kernel enforced it.",
            ),
            changes: catalog.counters("changes_total", &["kind"], "Changes received, by kind of object."),
            pending_changes: catalog
                .gauge("pending_changes", "Changes received that are not in force yet."),
            watch_age: catalog.real_gauges(
                "watch_age_seconds",
                &["resource"],
                "Time since the agent last read a message of this watch; the API server sends a bookmark about once a minute.",
            ),
            watch_lists: catalog.counters(
                "watch_lists_total",
                &["resource"],
                "Complete lists received from the API server.",
            ),
            watch_errors: catalog.counters(
                "watch_errors_total",
                &["resource", "reason"],
                "Failed requests of a watch, by reason: the API server was unreachable or returned an error.",
            ),
            unreadable_objects: catalog.gauges(
                "unreadable_objects",
                &["resource"],
                "API objects that cannot be read. Such a pod is treated as unknown, such a policy isolates all pods of its \
                 namespace, and such a namespace has no labels.",
            ),
            watch_events_lost: catalog.counters(
                "watch_events_lost_total",
                &["resource"],
                "Watch events that could not be read at all, so that the object they concern is unknown.",
            ),
            policies: catalog.gauge("policies", "NetworkPolicies known to the agent."),
            active_policies: catalog
                .gauge("active_policies", "NetworkPolicies that select at least one pod of this node."),
            refused_parts: catalog.gauges(
                "refused_parts",
                &["reason"],
                "Parts of NetworkPolicies that allow nothing because they are not understood or exceed a limit, by reason.",
            ),
            manifest_errors: catalog.gauge("manifest_errors", "Manifests that cannot be read."),
            cni_result_errors: catalog.gauge(
                "cni_result_errors",
                "CNI results that cannot be read; the agent learns the addresses of their pods only from the API.",
            ),
            cni_results_missing: catalog.gauge(
                "cni_results_missing",
                "1 if this node has pods but no CNI result for any of them. New pods are then open until the API reports their addresses.",
            ),
            pods: catalog.gauge("pods", "Pods known to the agent."),
            local_pods: catalog.gauge("local_pods", "Pods of this node."),
            sandboxes: catalog.gauges(
                "sandboxes",
                &["state"],
                "Pod sandboxes of this node, by state: known, or unknown if no Pod object belongs to it.",
            ),
            bound_ports: catalog.gauge(
                "bound_ports",
                "Bridge ports bound to a pod; the pod can send only from its own addresses.",
            ),
            unbound_pods: catalog.gauge(
                "unbound_pods",
                "Pods of this node that have an address but no known bridge port.",
            ),
            dropped_frames: catalog.counters(
                "dropped_frames_total",
                &["reason"],
                "Frames dropped at bridge ports, by reason; updated at each audit.",
            ),
            isolated_pods: catalog.gauges(
                "isolated_pods",
                &["direction"],
                "Pods of this node that are isolated by a NetworkPolicy, by direction.",
            ),
            chains: catalog.gauges(
                "chains",
                &["family"],
                "Chains of the agent in the kernel, by address family; not updated while syncs fail.",
            ),
            rules: catalog.gauges(
                "rules",
                &["family"],
                "Rules in the agent's chains, by address family.",
            ),
            sets: catalog.gauges("sets", &["family"], "Sets of the agent in the kernel, by address family."),
            set_members: catalog.gauges(
                "set_members",
                &["family"],
                "Elements in the agent's sets, by address family.",
            ),
            kernel_writes: catalog.counters(
                "kernel_writes_total",
                &["kind"],
                "Writes to the kernel, by kind: rule transactions, and netlink requests that change sets or tables or cut connections.",
            ),
            set_elements_written: catalog
                .counter("set_elements_written_total", "Set elements added or removed."),
            processes_started: catalog
                .counter("processes_started_total", "Processes started to read or write kernel rules."),
            connections_cut: catalog.counter(
                "connections_cut_total",
                "Established connections cut because no policy allows them any longer.",
            ),
            drift_repairs: catalog.counter(
                "drift_repairs_total",
                "Audits that found rules or sets changed by another program and repaired them.",
            ),
            verified_timestamp: catalog.real_gauge(
                "verified_timestamp_seconds",
                "Time at which the kernel's rules were last found to decide as policies do, in seconds since the Unix epoch; 0 if \
                 they never were. /readyz gives the first difference.",
            ),
            verified_decisions: catalog.gauge(
                "verified_decisions",
                "Decisions about packets and frames that were compared then.",
            ),
            policy_allowed_packets: catalog.counters(
                "policy_allowed_packets_total",
                &["direction", "policy_namespace", "policy"],
                "With --metrics-per-policy=on: packets allowed by this NetworkPolicy. Only the first packets of a connection are \
                 evaluated, so this is about one per connection. If several policies allow a packet, the first one counts it. \
                 Policies beyond the first 500 are counted together, without a name.",
            ),
            policy_allowed_bytes: catalog.counters(
                "policy_allowed_bytes_total",
                &["direction", "policy_namespace", "policy"],
                "Bytes of the packets in bridgewarden_policy_allowed_packets_total, including IP headers.",
            ),
            denied_packets: catalog.counters(
                "denied_packets_total",
                &["direction", "pod_namespace"],
                "Denied packets of which the kernel sent a copy: at most ten a second for each pod, direction and family. \
                 pod_namespace is empty for namespaces beyond the first 100 and for flows that were only counted.",
            ),
            audited_packets: catalog.counters(
                "audited_packets_total",
                &["direction", "pod_namespace"],
                "Allowed packets that audited policies would have denied, of which the kernel sent a copy: at most ten a second \
                 for each pod, direction and family. pod_namespace is empty as for bridgewarden_denied_packets_total.",
            ),
            denied_lost: catalog.counter(
                "denied_packets_lost_total",
                "Denied packets whose copy was lost between the kernel and the agent.",
            ),
            denied_untold: catalog.counter(
                "denied_flows_untold_total",
                "Denied flows that were only counted, because there were more than 50 a second, or too many of one pod.",
            ),
        }
    }
}
