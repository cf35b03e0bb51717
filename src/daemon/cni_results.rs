//! The directory of CNI results as a second source: where this node's pods are, before the main source says so.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Changed, CniResults, CniWatch, Found};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check that tells how it fares.
const CHECK: &str = "cni-results";

/// How often the directory is looked at while the kernel does not tell of changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the results are held against the pods of this node.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// For how long a node may have pods and no result: the API may be faster than the runtime, or a pod be on its way out.
const MISSING_LIMIT: Duration = Duration::from_secs(30);

/// A directory of CNI results that was looked at once.
pub(super) struct Deliverer {
    directory: PathBuf,
    /// None while the kernel cannot be had to tell of changes.
    watch: Option<CniWatch>,
    results: CniResults,
    outbox: mpsc::Sender<Delivery>,
    told: Told,
    /// After how long all is looked at again, whatever the kernel tells: a file system may be mounted over the directory.
    look_again: Duration,
    looked: Instant,
}

impl Deliverer {
    /// Begins to watch, and hands over what is there. To be awaited before the main source begins, so that its first
    /// complete list finds this node's sandboxes known.
    pub(super) async fn begin(
        directory: PathBuf,
        look_again: Duration,
        outbox: mpsc::Sender<Delivery>,
        metrics: Metrics,
        health: Health,
    ) -> Deliverer {
        let results = CniResults::new(&directory);
        let told = Told {
            unwatched: None,
            unread: None,
            missing: None,
            problems: BTreeMap::new(),
            without_results: None,
            metrics,
            health,
        };
        let looked = Instant::now();
        let mut deliverer = Deliverer { directory, watch: None, results, outbox, told, look_again, looked };
        deliverer.watch();
        deliverer.look(Changed::Anything).await;
        deliverer
    }

    fn watch(&mut self) {
        let watch = CniWatch::new(&self.directory);
        self.told.watched(&self.directory, watch.as_ref().err());
        self.watch = watch.ok();
    }

    async fn changed(&mut self) -> Changed {
        match &mut self.watch {
            Some(watch) => {
                if let Ok(changed) = watch.changed().await {
                    return changed;
                }
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
        self.watch();
        Changed::Anything
    }

    async fn look(&mut self, at: Changed) {
        let seen = Instant::now();
        if at == Changed::Anything {
            self.looked = seen;
        }
        let mut results = std::mem::replace(&mut self.results, CniResults::new(&self.directory));
        let looked = tokio::task::spawn_blocking(move || (results.look(&at), results)).await;
        let (found, results) = looked.expect("a look does not panic");
        self.results = results;
        self.told.found(&found, &self.directory);
        if !found.changes.is_empty() {
            let delivery = Delivery { changes: found.changes, seen, complete: false };
            // An error means that nobody listens any more, which whoever calls will see.
            self.outbox.send(delivery).await.ok();
        }
    }
}

/// Hands over whatever changes, at once. Ends when nobody listens any more; without a directory, never.
pub(super) async fn deliver(deliverer: Option<Deliverer>) {
    let Some(mut deliverer) = deliverer else { return std::future::pending().await };
    let mut compare = interval(COMPARE_EVERY);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !deliverer.outbox.is_closed() {
        tokio::select! {
            changed = deliverer.changed() => deliverer.look(changed).await,
            _ = compare.tick() => {
                let now = Instant::now();
                if now.duration_since(deliverer.looked) >= deliverer.look_again {
                    deliverer.watch();
                    deliverer.look(Changed::Anything).await;
                }
                let (results, pods) = (deliverer.results.sandbox_count(), deliverer.told.metrics.local_pods());
                deliverer.told.compare(results, pods, &deliverer.directory, now);
            }
        }
    }
}

/// What was last told of the directory, so that it is told once. Whatever is wrong, policies stay in force: what is lost
/// is a new pod's first instant.
struct Told {
    unwatched: Option<String>,
    unread: Option<String>,
    /// What to say of pods that no result tells of.
    missing: Option<String>,
    problems: BTreeMap<String, String>,
    /// Since when this node has pods and no result.
    without_results: Option<Instant>,
    metrics: Metrics,
    health: Health,
}

impl Told {
    fn watched(&mut self, directory: &Path, error: Option<&io::Error>) {
        let problem = error.map(|error| {
            let cure = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches";
            format!("{} cannot be watched ({error}): {cure}", directory.display())
        });
        self.unwatched = self.tell(problem, self.unwatched.as_ref());
    }

    fn found(&mut self, found: &Found, directory: &Path) {
        self.unread = self.tell(found.problem.clone(), self.unread.as_ref());
        let remark = found.missing.then(|| {
            format!(
                "{} is not there: no pod has been here yet, or the runtime keeps its results elsewhere",
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

    /// Holds the number of results against that of pods of this node with an address.
    fn compare(&mut self, results: usize, pods: usize, directory: &Path, now: Instant) {
        self.without_results = (results == 0 && pods > 0).then(|| self.without_results.unwrap_or(now));
        let long = self.without_results.is_some_and(|since| now.duration_since(since) >= MISSING_LIMIT);
        let problem = long.then(|| {
            format!(
                "no result of CNI in {} says where any of this node's pods is: name the directory in which the container runtime \
                 keeps them with --cni-results-dir, or none to do without",
                directory.display()
            )
        });
        self.missing = self.tell(problem, self.missing.as_ref());
        self.metrics.cni_results_missing(long);
        self.check();
    }

    fn tell(&self, problem: Option<String>, told: Option<&String>) -> Option<String> {
        if let Some(problem) = problem.as_ref().filter(|problem| told != Some(problem)) {
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
        let (metrics, health) = (Metrics::new("", None), Health::new(&[CHECK]));
        let mut told = Told {
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
        told.found(&found, directory);
        assert_eq!((health.ready(), health.remarks(CHECK).len()), (Ok(()), 1), "no pod has been here yet");
        let start = Instant::now();
        let mut ready = |results, pods, seconds| {
            told.compare(results, pods, directory, start + Duration::from_secs(seconds));
            health.ready().is_ok()
        };
        assert!(ready(0, 3, 0) && ready(0, 3, 29));
        assert!(!ready(0, 3, 30) && !ready(0, 1, 99));
        assert!(ready(1, 3, 100), "one of them is known");
        assert!(ready(0, 3, 101), "the time begins again");
        assert!(ready(0, 0, 200) && ready(0, 3, 229));
    }
}
