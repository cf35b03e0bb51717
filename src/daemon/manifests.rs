//! The directory of manifests as a source: read at the start, whenever it changes and periodically; its problems are reported.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Changed, Directory, DirectoryWatch, Loaded, Problem};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The readiness check of this source.
pub(super) const CHECK: &str = "manifests";

/// Reads the directory now and whenever it changes. Ends only with an error, or when the controller has ended.
pub(super) async fn deliver(
    manifests: PathBuf,
    rescan_interval: Duration,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let watched = || format!("cannot watch {} for changes", manifests.display());
    let mut watch = DirectoryWatch::new(&manifests).with_context(watched)?.rescanning_every(rescan_interval);
    let mut directory = Directory::new(&manifests);
    let mut reporter = ManifestsReporter { error: None, skipped: BTreeMap::new(), duplicates: Vec::new() };
    let mut changed = Changed::Anything;
    loop {
        let seen = Instant::now();
        let parts = outbox.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            let loaded = directory.scan(&changed, |changes| {
                // An error means that the controller has ended, which the next send shows.
                parts.blocking_send(Delivery { changes, seen, complete: false }).ok();
            });
            (loaded, directory)
        })
        .await;
        let (loaded, back) = scanned.context("cannot read the manifests")?;
        directory = back;
        reporter.report(&loaded, &metrics, &health);
        let delivery = Delivery { changes: loaded.changes, seen, complete: loaded.complete };
        if outbox.send(delivery).await.is_err() {
            return Ok(());
        }
        changed = match watch.changed().await {
            Ok(changed) => changed,
            Err(error) => {
                // Without a watch, a scan every second finds changes.
                tracing::error!(%error, directory = %manifests.display(), "cannot watch for changes; polling every second");
                tokio::time::sleep(POLL_INTERVAL).await;
                Changed::Anything
            }
        };
    }
}

/// How often the directory is scanned while it cannot be watched.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Reports problems of the directory, each once: what was last reported.
struct ManifestsReporter {
    error: Option<String>,
    skipped: BTreeMap<String, usize>,
    /// Objects that a file defines twice.
    duplicates: Vec<Problem>,
}

impl ManifestsReporter {
    fn report(&mut self, loaded: &Loaded, metrics: &Metrics, health: &Health) {
        let error = loaded.error.as_ref().map(ToString::to_string);
        metrics.manifest_errors(loaded.error.as_ref().map_or(0, |error| error.problems.len()));
        match (&self.error, &error) {
            (logged, Some(error)) if logged.as_ref() != Some(error) => {
                tracing::error!(%error, "cannot read some manifests; their last readable content stays in force. One that was never readable and may be a policy isolates the pods that it may select");
            }
            (Some(_), None) => tracing::info!("all manifests are readable again"),
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
        if self.skipped != loaded.skipped {
            tracing::info!(skipped = ?loaded.skipped, "skipping objects of other kinds");
            self.skipped.clone_from(&loaded.skipped);
        }
        // Invalid parts of policies are reported by the controller.
        let duplicates: Vec<Problem> =
            loaded.invalid.iter().filter(|problem| problem.path.is_empty()).cloned().collect();
        for problem in duplicates.iter().filter(|problem| !self.duplicates.contains(problem)) {
            tracing::warn!(%problem, "two manifests define the same object");
        }
        self.duplicates = duplicates;
        health.set_check(CHECK, error.clone().map_or(Ok(()), Err));
        self.error = error;
    }
}
