//! The directory of manifests as a source: read now, whenever it changes, and every now and then, and what is wrong with it told.

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

/// Reads the directory now and whenever it changes. Ends only with an error, or when nobody listens any more.
pub(super) async fn deliver(
    manifests: PathBuf,
    look_again: Duration,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let watched = || format!("cannot watch {} for changes", manifests.display());
    let mut watch = DirectoryWatch::new(&manifests).with_context(watched)?.rescanning_every(look_again);
    let mut directory = Directory::new(&manifests);
    let mut told = Told { error: None, skipped: BTreeMap::new(), twice: Vec::new() };
    let mut changed = Changed::Anything;
    loop {
        let seen = Instant::now();
        let parts = outbox.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let loaded = directory.scan(&changed, |changes| {
                // An error means that nobody listens any more, which shows below.
                parts.blocking_send(Delivery { changes, seen, complete: false }).ok();
            });
            (loaded, directory)
        })
        .await;
        let (loaded, back) = looked.context("cannot read the manifests")?;
        directory = back;
        told.tell(&loaded, &metrics, &health);
        let delivery = Delivery { changes: loaded.changes, seen, complete: loaded.complete };
        if outbox.send(delivery).await.is_err() {
            return Ok(());
        }
        changed = match watch.changed().await {
            Ok(changed) => changed,
            Err(error) => {
                // Without a watch, a look every second sees what changes.
                tracing::error!(%error, directory = %manifests.display(), "cannot watch for changes; polling every second");
                tokio::time::sleep(UNWATCHED).await;
                Changed::Anything
            }
        };
    }
}

/// How often the directory is looked at while it cannot be watched.
const UNWATCHED: Duration = Duration::from_secs(1);

/// What was last told of the directory, so that it is told once.
struct Told {
    error: Option<String>,
    skipped: BTreeMap<String, usize>,
    /// Objects that are written twice in a file.
    twice: Vec<Problem>,
}

impl Told {
    fn tell(&mut self, loaded: &Loaded, metrics: &Metrics, health: &Health) {
        let error = loaded.error.as_ref().map(ToString::to_string);
        metrics.manifest_errors(loaded.error.as_ref().map_or(0, |error| error.problems.len()));
        match (&self.error, &error) {
            (told, Some(error)) if told.as_ref() != Some(error) => {
                tracing::error!(%error, "cannot read some manifests; their last readable content stays in force. One that was never readable and may be a policy isolates the pods that it may select");
            }
            (Some(_), None) => tracing::info!("all manifests are readable again"),
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
        if self.skipped != loaded.skipped {
            tracing::info!(skipped = ?loaded.skipped, "skipping objects of other kinds");
            self.skipped.clone_from(&loaded.skipped);
        }
        // What of a policy is refused is told by those who enforce it.
        let twice: Vec<Problem> =
            loaded.refused.iter().filter(|problem| problem.path.is_empty()).cloned().collect();
        for problem in twice.iter().filter(|problem| !self.twice.contains(problem)) {
            tracing::warn!(%problem, "two manifests define the same object");
        }
        self.twice = twice;
        health.set_check(CHECK, error.clone().map_or(Ok(()), Err));
        self.error = error;
    }
}
