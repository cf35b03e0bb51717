//! Methods that record the values of the metrics in `series`, by the conventions of Prometheus: one prefix, base units,
//! bounded labels.

use super::catalog::Catalog;
use super::kube_router::KubeRouter;
use super::series::Series;
use super::{Build, ChangeKind, Documentation, Inventory, KernelInventory, PerPolicy, Phase};
use crate::apply::{KernelError, Tally};
use crate::net::Family;
use prometheus::IntCounterVec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// How many namespaces have their own count of denied packets; the others are counted together.
const NAMESPACES: usize = 100;

/// The prefix of the names of our metrics.
pub const PREFIX: &str = "bridgewarden_";

/// The agent's metrics. Clones share them; there is nothing global.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Inner {
    catalog: Catalog,
    series: Series,
    kube_router: Option<KubeRouter>,
    tally: Mutex<Tally>,
    /// By reason: how many frames were dropped, as last reported.
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    reasons: Mutex<BTreeSet<&'static str>>,
    namespaces: Mutex<BTreeSet<String>>,
    per_policy: PerPolicy,
    asked: Notify,
}

impl Default for Metrics {
    /// Metrics of a build of which nothing is known.
    fn default() -> Metrics {
        Metrics::new(Build::default())
    }
}

impl Metrics {
    /// Metrics of this build with nothing counted.
    pub fn new(build: Build) -> Metrics {
        Metrics::make(build, None)
    }

    /// The same, and some also under kube-router's names.
    pub fn with_names_of_kube_router(build: Build) -> Metrics {
        Metrics::make(build, Some(KubeRouter::new()))
    }

    fn make(build: Build, kube_router: Option<KubeRouter>) -> Metrics {
        let mut catalog = Catalog::new(PREFIX);
        let series = Series::new(&mut catalog);
        catalog.process();
        let per_policy =
            PerPolicy::new(series.policy_allowed_packets.clone(), series.policy_allowed_bytes.clone());
        let metrics = Metrics {
            inner: Arc::new(Inner {
                catalog,
                series,
                kube_router,
                tally: Mutex::default(),
                dropped: Mutex::default(),
                reasons: Mutex::default(),
                namespaces: Mutex::default(),
                per_policy,
                asked: Notify::new(),
            }),
        };
        metrics.begin(build);
        metrics
    }

    /// A phase of a sync took this long.
    pub fn phase(&self, phase: Phase, took: Duration) {
        self.inner.series.sync_duration.with_label_values(&[phase.word()]).observe(took.as_secs_f64());
        if let Some(kube_router) = &self.inner.kube_router {
            kube_router.phase(phase, took);
        }
    }

    /// A sync ended at this time, successfully or with an error of this kind, a short fixed word.
    pub fn sync_ended(&self, at: SystemTime, result: Result<(), &'static str>) {
        self.inner.series.syncs.with_label_values(&[result.err().unwrap_or("ok")]).inc();
        if result.is_ok() {
            let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.inner.series.last_success.set(since_epoch.as_secs_f64());
        }
    }

    /// A change came into force this long after it was first seen.
    pub fn enforced(&self, after: Duration) {
        self.inner.series.seen_to_enforced.observe(after.as_secs_f64());
    }

    /// How many changes wait for a sync.
    pub fn pending_changes(&self, count: usize) {
        self.inner.series.pending_changes.set(whole(count));
    }

    /// This many changes of a kind were received.
    pub fn changed(&self, kind: ChangeKind, count: usize) {
        self.inner.series.changes.with_label_values(&[kind.word()]).inc_by(count as u64);
    }

    /// How many objects, rules and sets there are.
    pub fn inventory(&self, inventory: &Inventory) {
        if let Some(kube_router) = &self.inner.kube_router {
            kube_router.inventory(inventory);
        }
        let series = &self.inner.series;
        series.policies.set(whole(inventory.policies));
        series.active_policies.set(whole(inventory.active_policies));
        series.isolated_pods.with_label_values(&["ingress"]).set(whole(inventory.ingress_isolated_pods));
        series.isolated_pods.with_label_values(&["egress"]).set(whole(inventory.egress_isolated_pods));
        series.local_pods.set(whole(inventory.local_pods));
        series.pods.set(whole(inventory.pods));
        series.sandboxes.with_label_values(&["known"]).set(whole(inventory.known_sandboxes));
        series.sandboxes.with_label_values(&["unknown"]).set(whole(inventory.unknown_sandboxes));
        series.bound_ports.set(whole(inventory.bound_ports));
        series.unbound_pods.set(whole(inventory.unbound_pods));
        for (family, kernel) in &inventory.kernel {
            let label = [family_word(*family)];
            series.chains.with_label_values(&label).set(whole(kernel.chains));
            series.rules.with_label_values(&label).set(whole(kernel.rules));
            series.sets.with_label_values(&label).set(whole(kernel.sets));
            series.set_members.with_label_values(&label).set(whole(kernel.set_members));
        }
    }

    /// How many requests the kernel was sent since it was opened. Totals below the last ones mean that it was opened again, and
    /// count from 0.
    pub fn tally(&self, tally: Tally) {
        let series = &self.inner.series;
        let mut last = self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let sets = grown(tally.netlink_writes, last.netlink_writes);
        series.kernel_writes.with_label_values(&["set"]).inc_by(sets);
        series.kernel_writes.with_label_values(&["rules"]).inc_by(grown(tally.restores, last.restores));
        let transactions = grown(tally.transactions, last.transactions);
        series.kernel_writes.with_label_values(&["table"]).inc_by(transactions);
        series.set_elements_written.inc_by(grown(tally.elements, last.elements));
        series.processes_started.inc_by(grown(tally.processes, last.processes));
        series.connections_cut.inc_by(grown(tally.cut, last.cut));
        *last = tally;
    }

    /// How many frames were dropped at ports of the bridge, by reason, since the table that counts them was written. Totals below
    /// the last ones mean that it was written again.
    pub fn dropped_frames(&self, totals: &BTreeMap<&'static str, u64>) {
        let mut last = self.inner.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, total) in totals {
            let before = last.insert(reason, *total).unwrap_or_default();
            let grown = total.checked_sub(before).unwrap_or(*total);
            self.inner.series.dropped_frames.with_label_values(&[*reason]).inc_by(grown);
        }
    }

    /// The kernel differed from what was written, and was repaired.
    pub fn drift_repaired(&self) {
        self.inner.series.drift_repairs.inc();
    }

    /// The kernel was compared with what policies say, and so many decisions agreed.
    pub fn verified(&self, at: SystemTime, decisions: u64) {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.inner.series.verified_timestamp.set(since_epoch.as_secs_f64());
        self.inner.series.verified_decisions.set(i64::try_from(decisions).unwrap_or(i64::MAX));
    }

    /// How many parts of policies are invalid, by reason: a short fixed word. A reason that is missing has none.
    pub fn refused_parts(&self, counts: &BTreeMap<&'static str, usize>) {
        let mut known = self.inner.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(counts.keys());
        for reason in known.iter() {
            let count = counts.get(reason).copied().unwrap_or_default();
            self.inner.series.refused_parts.with_label_values(&[reason]).set(whole(count));
        }
    }

    /// A resource is watched from now on, whose requests may fail for these reasons: short fixed words.
    pub fn watching(&self, resource: &'static str, reasons: &[&'static str]) {
        let _ = self.inner.series.watch_lists.with_label_values(&[resource]);
        let _ = self.inner.series.unreadable_objects.with_label_values(&[resource]);
        let _ = self.inner.series.watch_events_lost.with_label_values(&[resource]);
        for reason in reasons {
            let _ = self.inner.series.watch_errors.with_label_values(&[resource, reason]);
        }
    }

    /// The last update of a resource arrived this long ago.
    pub fn watch_age(&self, resource: &'static str, age: Duration) {
        self.inner.series.watch_age.with_label_values(&[resource]).set(age.as_secs_f64());
    }

    /// A complete list of a resource was received.
    pub fn watch_listed(&self, resource: &'static str) {
        self.inner.series.watch_lists.with_label_values(&[resource]).inc();
    }

    /// A request of a watch failed, for a reason that is a short fixed word.
    pub fn watch_failed(&self, resource: &'static str, reason: &'static str) {
        self.inner.series.watch_errors.with_label_values(&[resource, reason]).inc();
    }

    /// How many objects of a resource cannot be read.
    pub fn unreadable_objects(&self, resource: &'static str, count: usize) {
        self.inner.series.unreadable_objects.with_label_values(&[resource]).set(whole(count));
    }

    /// This many events of a resource could not be read, not even which object they were about.
    pub fn watch_events_lost(&self, resource: &'static str, count: u64) {
        self.inner.series.watch_events_lost.with_label_values(&[resource]).inc_by(count);
    }

    /// How many manifests cannot be read.
    pub fn manifest_errors(&self, count: usize) {
        self.inner.series.manifest_errors.set(whole(count));
    }

    /// How many CNI results cannot be read.
    pub fn cni_result_errors(&self, count: usize) {
        self.inner.series.cni_result_errors.set(whole(count));
    }

    /// Whether this node has pods, and no CNI result says where any of them is.
    pub fn cni_results_missing(&self, missing: bool) {
        self.inner.series.cni_results_missing.set(i64::from(missing));
    }

    /// How many pods of this node have an address, as it was last counted.
    pub fn local_pods(&self) -> usize {
        usize::try_from(self.inner.series.local_pods.get()).unwrap_or_default()
    }

    /// When the last sync ended that succeeded, if there was one.
    pub fn last_sync(&self) -> Option<SystemTime> {
        time_of(self.inner.series.last_success.get())
    }

    /// When the kernel was last found to decide as policies say, if it was.
    pub fn last_verification(&self) -> Option<SystemTime> {
        time_of(self.inner.series.verified_timestamp.get())
    }

    /// The outcome of a preflight check, whose name is a short fixed word.
    pub fn preflight<E>(&self, check: &'static str, outcome: &Result<(), E>) {
        self.inner.series.preflight_ok.with_label_values(&[check]).set(i64::from(outcome.is_ok()));
    }

    /// Whether the agent is ready.
    pub fn ready<E>(&self, outcome: &Result<(), E>) {
        self.inner.series.ready.set(i64::from(outcome.is_ok()));
    }

    /// This many packets were denied in a direction (`ingress` or `egress`) for a pod of this namespace; `None` if the pod was not
    /// looked up.
    pub fn denied(&self, direction: &str, namespace: Option<&str>, count: u64) {
        self.count_packets(&self.inner.series.denied_packets, direction, namespace, count);
    }

    /// The same for packets that were allowed and that audited policies would have denied.
    pub fn would_be_denied(&self, direction: &str, namespace: Option<&str>, count: u64) {
        self.count_packets(&self.inner.series.audited_packets, direction, namespace, count);
    }

    fn count_packets(&self, of: &IntCounterVec, direction: &str, namespace: Option<&str>, count: u64) {
        let mut known = self.inner.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |name: &&str| known.contains(*name) || known.len() < NAMESPACES;
        let namespace = namespace.filter(fits);
        known.extend(namespace.map(str::to_owned));
        let labels = [direction, namespace.unwrap_or_default()];
        of.with_label_values(&labels).inc_by(count);
    }

    /// This many messages about denied packets were lost between the kernel and the agent.
    pub fn denied_lost(&self, count: u64) {
        self.inner.series.denied_lost.inc_by(count);
    }

    /// A denied flow was counted but not analysed, because there were too many.
    pub fn denied_unreported(&self) {
        self.inner.series.denied_untold.inc();
    }

    /// Programs were run to read the kernel, besides those of a tally.
    pub fn programs_run(&self, count: u64) {
        self.inner.series.processes_started.inc_by(count);
    }

    /// The series of single policies.
    pub fn per_policy(&self) -> &PerPolicy {
        &self.inner.per_policy
    }

    /// Waits until the text was requested since the last time that this returned.
    pub async fn asked(&self) {
        self.inner.asked.notified().await;
    }

    /// The documentation of each metric, those of the process included, in the order of `docs/metrics.md`.
    pub fn documentation(&self) -> Vec<Documentation> {
        self.inner.catalog.entries().to_vec()
    }

    /// The same for those under kube-router's names; none unless they were requested.
    pub fn documentation_of_kube_router(&self) -> Vec<Documentation> {
        self.inner.kube_router.as_ref().map(KubeRouter::documentation).unwrap_or_default()
    }

    /// Every metric with its value, in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        self.inner.asked.notify_one();
        let more = self.inner.kube_router.as_ref().map(KubeRouter::text).unwrap_or_default();
        self.inner.catalog.text() + &more
    }

    /// Creates the series whose labels are known beforehand, so that a rate over the first event is not lost.
    fn begin(&self, build: Build) {
        let series = &self.inner.series;
        let Build { version, revision, date } = build;
        let labels = [version, revision.unwrap_or_default(), date.unwrap_or_default()];
        series.build_info.with_label_values(&labels).set(1);
        let kernel = Family::BOTH.map(|family| (family, KernelInventory::default())).into();
        self.inventory(&Inventory { kernel, ..Inventory::default() });
        self.tally(Tally::default());
        for result in std::iter::once("ok").chain(KernelError::KINDS) {
            let _ = series.syncs.with_label_values(&[result]);
        }
        for phase in Phase::ALL {
            let _ = series.sync_duration.with_label_values(&[phase.word()]);
        }
        for kind in ChangeKind::ALL {
            self.changed(kind, 0);
        }
    }
}

/// A time of a metric; 0 stands for never.
fn time_of(since_epoch: f64) -> Option<SystemTime> {
    let since_epoch = Duration::try_from_secs_f64(since_epoch).ok().filter(|since| !since.is_zero())?;
    UNIX_EPOCH.checked_add(since_epoch)
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{MetricKind, PolicyLabels};

    /// Metrics in which every possible series has a value.
    fn full() -> Metrics {
        let metrics =
            Metrics::new(Build { version: "1.2.3", revision: Some("abc"), date: Some("2026-01-02") });
        for phase in Phase::ALL {
            metrics.phase(phase, Duration::from_micros(70));
        }
        metrics.enforced(Duration::from_secs(60));
        metrics.sync_ended(UNIX_EPOCH + Duration::from_secs(1_000_000_000), Ok(()));
        metrics.sync_ended(UNIX_EPOCH, Err("program"));
        metrics.refused_parts(&BTreeMap::from([("port", 2)]));
        metrics.preflight("bridge_netfilter", &Ok::<(), ()>(()));
        metrics.watch_age("pods", Duration::from_secs(3));
        metrics.watching("pods", &["refused"]);
        metrics.watch_listed("pods");
        metrics.watch_failed("pods", "refused");
        metrics.denied("ingress", Some("shop"), 1);
        metrics.would_be_denied("ingress", Some("shop"), 1);
        let policy = |name: &str| PolicyLabels {
            direction: "ingress".into(),
            namespace: "shop".into(),
            policy: name.into(),
        };
        metrics.per_policy().in_force(&BTreeSet::from([policy("web")]));
        metrics.dropped_frames(&BTreeMap::from([("spoofed", 2)]));
        metrics
    }

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(PREFIX)?.strip_prefix(series))?;
        Some(line.trim().parse().unwrap())
    }

    /// A family of series, read from the text format as strictly as Prometheus does.
    #[derive(Default)]
    struct Family {
        help: String,
        kind: String,
        samples: Vec<(String, BTreeMap<String, String>, f64)>,
    }

    fn parse(text: &str) -> BTreeMap<String, Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!families.contains_key(name), "{name} comes twice");
                current = name.to_owned();
                families.entry(current.clone()).or_default().help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current);
                families.get_mut(name).unwrap().kind = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = match series.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                    None => (series, ""),
                };
                let family = families.get_mut(&current).unwrap();
                let suffix = name.strip_prefix(current.as_str()).unwrap();
                let suffixes: &[&str] =
                    if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
                    let (name, value) = label.split_once('=').unwrap();
                    let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
                    (name.to_owned(), value.to_owned())
                });
                family.samples.push((suffix.to_owned(), labels.collect(), value.parse().unwrap()));
            }
        }
        families
    }

    #[test]
    fn names_end_as_the_conventions_of_prometheus_demand() {
        for Documentation { name, kind, labels, help } in full().documentation() {
            assert!(name.starts_with(PREFIX) || name.starts_with("process_"), "{name}");
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(legal) && labels.iter().all(|label| label.chars().all(legal)), "{name}");
            assert_eq!(kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            assert!(kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
            for of_time in ["timestamp", "duration", "_to_", "start_time"] {
                assert!(!name.contains(of_time) || name.ends_with("_seconds"), "{name}");
            }
            for reserved in ["_count", "_sum", "_bucket", "_ms", "_milliseconds", "_kilobytes", "_percent"] {
                assert!(!name.ends_with(reserved), "{name}");
            }
            for reserved in ["le", "quantile", "job", "instance", "pod", "namespace"] {
                assert!(!labels.iter().any(|label| label == reserved), "{name} has the label {reserved}");
            }
            assert!(help.ends_with('.') && help.starts_with(|c: char| c.is_ascii_uppercase() || c == '1'));
        }
    }

    #[test]
    fn the_text_is_what_the_documentation_says() {
        let metrics = full();
        let mut families = parse(&metrics.text());
        for Documentation { name, kind, labels, help } in metrics.documentation() {
            let family = families.remove(&name).unwrap_or_else(|| panic!("{name} is not in the text"));
            assert_eq!((family.kind.as_str(), &family.help), (kind.word(), &help), "{name}");
            assert!(!family.samples.is_empty(), "{name}");
            for (_, own, _) in &family.samples {
                let own: BTreeSet<&String> = own.keys().filter(|label| *label != "le").collect();
                assert_eq!(own, labels.iter().collect(), "{name}");
            }
        }
        assert!(families.is_empty(), "not documented: {:?}", families.keys());
    }

    #[test]
    fn namespaces_of_denied_packets_have_own_series_up_to_a_bound() {
        let metrics = Metrics::default();
        for number in 0..2 * NAMESPACES {
            metrics.denied("egress", Some(&format!("n{number}")), 1);
            metrics.would_be_denied("egress", Some(&format!("n{number}")), 1);
        }
        metrics.denied("egress", Some("n0"), 2);
        metrics.denied("egress", None, 5);
        let of = |namespace: &str| {
            value(
                &metrics,
                &format!("denied_packets_total{{direction=\"egress\",pod_namespace=\"{namespace}\"}}"),
            )
        };
        assert_eq!((of("n0"), of("n99"), of("n100")), (Some(3.0), Some(1.0), None));
        assert_eq!(of(""), Some(NAMESPACES as f64 + 5.0));
    }

    #[test]
    fn buckets_are_cumulative_and_the_last_one_holds_all() {
        let families = parse(&full().text());
        let family = &families["bridgewarden_seen_to_enforced_seconds"];
        let of = |name: &'static str| family.samples.iter().filter(move |(suffix, ..)| suffix == name);
        let buckets: Vec<(f64, f64)> =
            of("_bucket").map(|(_, labels, value)| (labels["le"].parse().unwrap(), *value)).collect();
        assert!(buckets.is_sorted());
        assert_eq!(buckets.first().unwrap().0, 10e-6);
        assert_eq!(buckets[buckets.len() - 2], (30.0, 0.0));
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 1.0));
        assert_eq!(of("_count").next().unwrap().2, 1.0);
        assert_eq!(of("_sum").next().unwrap().2, 60.0);
    }

    #[test]
    fn names_of_kube_router_are_there_if_asked_for_and_say_the_same() {
        assert!(!full().text().contains("kube_router"));
        assert_eq!(full().documentation_of_kube_router(), []);
        let metrics = Metrics::with_names_of_kube_router(Build::default());
        metrics.phase(Phase::Total, Duration::from_secs(2));
        metrics.phase(Phase::Apply, Duration::from_secs(1));
        let kernel = KernelInventory { chains: 4, rules: 40, sets: 3, set_members: 300 };
        let kernel = BTreeMap::from(crate::net::Family::BOTH.map(|family| (family, kernel)));
        metrics.inventory(&Inventory { kernel, ..Inventory::default() });
        let mut families = parse(&metrics.text());
        let mut value = |name: &str, suffix: &str| {
            let family = families.entry(format!("kube_router_controller_{name}")).or_default();
            family.samples.iter().find(|(own, ..)| own == suffix).map(|(_, _, value)| *value)
        };
        assert_eq!(value("iptables_sync_time", "_sum"), Some(2.0));
        assert_eq!(value("iptables_sync_time", "_count"), Some(1.0));
        assert_eq!(value("policy_chains_sync_time", "_count"), Some(0.0));
        assert_eq!(value("policy_chains", ""), Some(8.0));
        assert_eq!(value("policy_ipsets", ""), Some(6.0));
        let documented = metrics.documentation_of_kube_router();
        assert_eq!(documented.len(), 4);
        assert!(documented.iter().all(|metric| families.contains_key(&metric.name)));
    }

    #[test]
    fn a_failed_sync_counts_under_its_kind_and_leaves_the_last_success() {
        let metrics = full();
        assert_eq!(value(&metrics, "syncs_total{result=\"ok\"}"), Some(1.0));
        assert_eq!(value(&metrics, "syncs_total{result=\"program\"}"), Some(1.0));
        assert_eq!(value(&metrics, "last_success_timestamp_seconds"), Some(1e9));
    }

    #[test]
    fn series_known_beforehand_begin_at_nought() {
        let metrics = Metrics::new(Build { version: "1.2.3", ..Build::default() });
        for series in [
            "syncs_total{result=\"ok\"}",
            "syncs_total{result=\"netlink\"}",
            "changes_total{kind=\"namespace\"}",
            "kernel_writes_total{kind=\"rules\"}",
            "sync_duration_seconds_count{phase=\"revoke\"}",
            "rules{family=\"ipv6\"}",
            "isolated_pods{direction=\"egress\"}",
        ] {
            assert_eq!(value(&metrics, series), Some(0.0), "{series}");
        }
        assert_eq!(value(&metrics, "build_info{date=\"\",revision=\"\",version=\"1.2.3\"}"), Some(1.0));
        let of_a_release = "build_info{date=\"2026-01-02\",revision=\"abc\",version=\"1.2.3\"}";
        assert_eq!(value(&full(), of_a_release), Some(1.0));
    }

    #[test]
    fn running_totals_become_counters_that_never_fall() {
        let metrics = Metrics::default();
        let tally =
            Tally { processes: 3, netlink_writes: 5, elements: 100, restores: 2, transactions: 4, cut: 1 };
        metrics.tally(tally);
        metrics.tally(tally);
        assert_eq!(value(&metrics, "kernel_writes_total{kind=\"set\"}"), Some(5.0));
        metrics.tally(Tally { elements: 140, ..tally });
        assert_eq!(value(&metrics, "set_elements_written_total"), Some(140.0));
        metrics.tally(Tally { elements: 10, ..Tally::default() });
        assert_eq!(value(&metrics, "set_elements_written_total"), Some(150.0));
        assert_eq!(value(&metrics, "kernel_writes_total{kind=\"rules\"}"), Some(2.0));
        assert_eq!(value(&metrics, "kernel_writes_total{kind=\"table\"}"), Some(4.0));
        assert_eq!(value(&metrics, "processes_started_total"), Some(3.0));
        assert_eq!(value(&metrics, "connections_cut_total"), Some(1.0));
    }

    #[test]
    fn a_reason_that_is_gone_falls_to_nought() {
        let metrics = full();
        assert_eq!(value(&metrics, "refused_parts{reason=\"port\"}"), Some(2.0));
        metrics.refused_parts(&BTreeMap::from([("selector", 1)]));
        assert_eq!(value(&metrics, "refused_parts{reason=\"port\"}"), Some(0.0));
        assert_eq!(value(&metrics, "refused_parts{reason=\"selector\"}"), Some(1.0));
    }

    #[test]
    fn an_inventory_replaces_the_one_before() {
        let metrics = Metrics::default();
        let kernel = KernelInventory { chains: 4, rules: 40, sets: 3, set_members: 300 };
        let kernel = BTreeMap::from([(crate::net::Family::V4, kernel)]);
        metrics.inventory(&Inventory { pods: 7, kernel, ..Inventory::default() });
        assert_eq!(value(&metrics, "pods"), Some(7.0));
        assert_eq!(value(&metrics, "set_members{family=\"ipv4\"}"), Some(300.0));
        assert_eq!(value(&metrics, "set_members{family=\"ipv6\"}"), Some(0.0));
        metrics.inventory(&Inventory::default());
        assert_eq!(value(&metrics, "pods"), Some(0.0));
        assert_eq!(
            value(&metrics, "set_members{family=\"ipv4\"}"),
            Some(300.0),
            "the value stays until the next one is set"
        );
    }

    #[test]
    fn two_daemons_in_one_process_do_not_share_numbers() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.clone().manifest_errors(1);
        assert_eq!(
            (value(&one, "manifest_errors"), value(&other, "manifest_errors")),
            (Some(1.0), Some(0.0))
        );
    }
}
