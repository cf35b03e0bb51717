//! The directory of CNI results as a second source: the addresses of this node's pods before the API server reports them.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Changed, CniResults, CniWatch, Found};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check of this source.
const CHECK: &str = "cni-results";

/// How often the directory is scanned while it cannot be watched.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the results are compared with the pods of this node.
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a node may have pods and no result: the API server may be faster than the runtime, or a pod may be terminating.
const MISSING_LIMIT: Duration = Duration::from_secs(30);

/// A directory of CNI results that was scanned at least once.
pub(super) struct CniResultsSource {
    directory: PathBuf,
    /// None while the directory cannot be watched.
    watch: Option<CniWatch>,
    results: CniResults,
    outbox: mpsc::Sender<Delivery>,
    reporter: CniResultsReporter,
    /// How often all is scanned, whatever the kernel reports: a file system may be mounted over the directory.
    rescan_interval: Duration,
    scanned: Instant,
}

impl CniResultsSource {
    /// Begins to watch, and sends the sandboxes that exist. To be awaited before the main source starts, so that this node's
    /// sandboxes are known when its first list completes.
    pub(super) async fn begin(
        directory: PathBuf,
        rescan_interval: Duration,
        outbox: mpsc::Sender<Delivery>,
        metrics: Metrics,
        health: Health,
    ) -> CniResultsSource {
        let results = CniResults::new(&directory);
        let reporter = CniResultsReporter {
            unwatched: None,
            unread: None,
            missing: None,
            problems: BTreeMap::new(),
            without_results: None,
            metrics,
            health,
        };
        let scanned = Instant::now();
        let mut source =
            CniResultsSource { directory, watch: None, results, outbox, reporter, rescan_interval, scanned };
        source.watch();
        source.scan(Changed::Anything).await;
        source
    }

    fn watch(&mut self) {
        let watch = CniWatch::new(&self.directory);
        self.reporter.watched(&self.directory, watch.as_ref().err());
        self.watch = watch.ok();
    }

    async fn changed(&mut self) -> Changed {
        match &mut self.watch {
            Some(watch) => {
                if let Ok(changed) = watch.changed().await {
                    return changed;
                }
            }
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
        self.watch();
        Changed::Anything
    }

    async fn scan(&mut self, at: Changed) {
        let seen = Instant::now();
        if at == Changed::Anything {
            self.scanned = seen;
        }
        let mut results = std::mem::replace(&mut self.results, CniResults::new(&self.directory));
        let scanned = tokio::task::spawn_blocking(move || (results.scan(&at), results)).await;
        let (found, results) = scanned.expect("a scan does not panic");
        self.results = results;
        self.reporter.found(&found, &self.directory);
        if !found.changes.is_empty() {
            let delivery = Delivery { changes: found.changes, seen, complete: false };
            // An error means that the controller has ended, which the caller sees.
            self.outbox.send(delivery).await.ok();
        }
    }
}

/// Sends each change at once. Ends when the controller has ended; without a directory, never.
pub(super) async fn deliver(source: Option<CniResultsSource>) {
    let Some(mut source) = source else { return std::future::pending().await };
    let mut compare = interval(COMPARE_INTERVAL);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !source.outbox.is_closed() {
        tokio::select! {
            changed = source.changed() => source.scan(changed).await,
            _ = compare.tick() => {
                let now = Instant::now();
                if now.duration_since(source.scanned) >= source.rescan_interval {
                    source.watch();
                    source.scan(Changed::Anything).await;
                }
                let (results, pods) = (source.results.sandbox_count(), source.reporter.metrics.local_pods());
                source.reporter.compare(results, pods, &source.directory, now);
            }
        }
    }
}

/// Reports problems of the directory, each once: what was last reported. Whatever is wrong, policies stay in force; only the first
/// instant of a new pod is unprotected.
struct CniResultsReporter {
    unwatched: Option<String>,
    unread: Option<String>,
    /// The problem that pods have no result.
    missing: Option<String>,
    problems: BTreeMap<String, String>,
    /// Since when this node has pods and no result.
    without_results: Option<Instant>,
    metrics: Metrics,
    health: Health,
}

impl CniResultsReporter {
    fn watched(&mut self, directory: &Path, error: Option<&io::Error>) {
        let problem = error.map(|error| {
            let cure = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches";
            format!("{} cannot be watched ({error}): {cure}", directory.display())
        });
        self.unwatched = self.log_once(problem, self.unwatched.as_ref());
    }

    fn found(&mut self, found: &Found, directory: &Path) {
        self.unread = self.log_once(found.problem.clone(), self.unread.as_ref());
        let remark = found.missing.then(|| {
            format!(
                "{} does not exist: this node has had no pod yet, or the runtime keeps its results elsewhere",
                directory.display()
            )
        });
        self.health.remark(CHECK, "directory", remark);
        self.check();
        self.metrics.cni_result_errors(found.problems.len());
        for (file, problem) in &found.problems {
            if self.problems.get(file) != Some(problem) {
                tracing::warn!(
                    file,
                    problem,
                    "cannot read a CNI result; its last readable content stays in force"
                );
            }
        }
        self.problems.clone_from(&found.problems);
    }

    fn check(&self) {
        let problem = self.unwatched.as_ref().or(self.unread.as_ref()).or(self.missing.as_ref());
        self.health.set_check(CHECK, problem.map_or(Ok(()), |problem| Err(problem.clone())));
    }

    /// Compares the number of results with that of this node's pods that have an address.
    fn compare(&mut self, results: usize, pods: usize, directory: &Path, now: Instant) {
        self.without_results = (results == 0 && pods > 0).then(|| self.without_results.unwrap_or(now));
        let long = self.without_results.is_some_and(|since| now.duration_since(since) >= MISSING_LIMIT);
        let problem = long.then(|| {
            format!(
                "no CNI result in {} belongs to a pod of this node: set --cni-results-dir to the directory in which the container \
                 runtime keeps them, or to nothing to work without them",
                directory.display()
            )
        });
        self.missing = self.log_once(problem, self.missing.as_ref());
        self.metrics.cni_results_missing(long);
        self.check();
    }

    fn log_once(&self, problem: Option<String>, logged: Option<&String>) -> Option<String> {
        if let Some(problem) = problem.as_ref().filter(|problem| logged != Some(problem)) {
            tracing::error!(
                problem,
                "CNI results may arrive late or not at all: new pods are open until the API reports their addresses"
            );
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_with_pods_and_no_result_is_not_ready_and_one_without_pods_is() {
        let (metrics, health) = (Metrics::default(), Health::new(&[CHECK]));
        let mut reporter = CniResultsReporter {
            unwatched: None,
            unread: None,
            missing: None,
            problems: BTreeMap::new(),
            without_results: None,
            metrics,
            health: health.clone(),
        };
        let directory = Path::new("/nowhere");
        let found = Found { changes: vec![], problem: None, missing: true, problems: BTreeMap::new() };
        reporter.found(&found, directory);
        assert_eq!((health.ready(), health.remarks(CHECK).len()), (Ok(()), 1), "no pod has run here yet");
        let start = Instant::now();
        let mut ready = |results, pods, seconds| {
            reporter.compare(results, pods, directory, start + Duration::from_secs(seconds));
            health.ready().is_ok()
        };
        assert!(ready(0, 3, 0) && ready(0, 3, 29));
        assert!(!ready(0, 3, 30) && !ready(0, 1, 99));
        assert!(ready(1, 3, 100), "one of them is known");
        assert!(ready(0, 3, 101), "the time begins again");
        assert!(ready(0, 0, 200) && ready(0, 3, 229));
    }
}
