//! The directory of CNI results as a second source: where this node's pods are, before the main source says so.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Changed, CniResults, CniWatch, Found};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The readiness check that tells how it fares.
const CHECK: &str = "cni-results";

/// How often the directory is looked at while the kernel does not tell of changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A directory of CNI results that was looked at once.
pub(super) struct Deliverer {
    directory: PathBuf,
    /// None while the kernel cannot be had to tell of changes.
    watch: Option<CniWatch>,
    results: CniResults,
    outbox: mpsc::Sender<Delivery>,
    told: Told,
}

impl Deliverer {
    /// Begins to watch, and hands over what is there. To be awaited before the main source begins, so that its first
    /// complete list finds this node's sandboxes known.
    pub(super) async fn begin(
        directory: PathBuf,
        outbox: mpsc::Sender<Delivery>,
        metrics: Metrics,
        health: Health,
    ) -> Deliverer {
        let results = CniResults::new(&directory);
        let told = Told { unwatched: None, unread: None, problems: BTreeMap::new(), metrics, health };
        let mut deliverer = Deliverer { directory, watch: None, results, outbox, told };
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
        let mut results = std::mem::replace(&mut self.results, CniResults::new(&self.directory));
        let looked = tokio::task::spawn_blocking(move || (results.look(&at), results)).await;
        let (found, results) = looked.expect("a look does not panic");
        self.results = results;
        self.told.found(&found);
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
    while !deliverer.outbox.is_closed() {
        let changed = deliverer.changed().await;
        deliverer.look(changed).await;
    }
}

/// What was last told of the directory, so that it is told once. Whatever is wrong, policies stay in force: what is lost
/// is a new pod's first instant.
struct Told {
    unwatched: Option<String>,
    unread: Option<String>,
    problems: BTreeMap<String, String>,
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

    fn found(&mut self, found: &Found) {
        self.unread = self.tell(found.problem.clone(), self.unread.as_ref());
        let problem = self.unwatched.as_ref().or(self.unread.as_ref());
        self.health.set_check(CHECK, problem.map_or(Ok(()), |problem| Err(problem.clone())));
        self.metrics.cni_result_errors(found.problems.len());
        for (file, problem) in &found.problems {
            if self.problems.get(file) != Some(problem) {
                tracing::warn!(file, problem, "a result of CNI cannot be read; what it last said stays");
            }
        }
        self.problems.clone_from(&found.problems);
    }

    fn tell(&self, problem: Option<String>, told: Option<&String>) -> Option<String> {
        if let Some(problem) = problem.as_ref().filter(|problem| told != Some(problem)) {
            tracing::error!(
                problem,
                "the results of CNI come late or not at all: until the API tells, new pods are open"
            );
        }
        problem
    }
}
