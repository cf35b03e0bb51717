//! The directory of manifests as a source: read now and whenever it changes, and what is wrong with it told.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Changed, Directory, DirectoryWatch, Loaded};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tokio::sync::mpsc;

/// The readiness check of this source.
pub(super) const CHECK: &str = "manifests";

/// Reads the directory now and whenever it changes. Ends only with an error, or when nobody listens any more.
pub(super) async fn deliver(
    manifests: PathBuf,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let watched = || format!("cannot watch {} for changes", manifests.display());
    let mut watch = DirectoryWatch::new(&manifests).with_context(watched)?;
    let mut directory = Directory::new(&manifests);
    let mut told = Told { error: None, skipped: BTreeMap::new() };
    let mut changed = Changed::Anything;
    loop {
        let seen = Instant::now();
        let parts = outbox.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let loaded = directory.look(&changed, |changes| {
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
        changed = watch.changed().await.with_context(watched)?;
    }
}

/// What was last told of the directory, so that it is told once.
struct Told {
    error: Option<String>,
    skipped: BTreeMap<String, usize>,
}

impl Told {
    fn tell(&mut self, loaded: &Loaded, metrics: &Metrics, health: &Health) {
        let error = loaded.error.as_ref().map(ToString::to_string);
        metrics.manifest_errors(loaded.error.as_ref().map_or(0, |error| error.problems.len()));
        match (&self.error, &error) {
            (told, Some(error)) if told.as_ref() != Some(error) => {
                tracing::error!(%error, "manifests cannot be read; what they last said stays in force");
            }
            (Some(_), None) => tracing::info!("all manifests can be read again"),
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
        if self.skipped != loaded.skipped {
            tracing::info!(skipped = ?loaded.skipped, "objects of other kinds are passed over");
            self.skipped.clone_from(&loaded.skipped);
        }
        health.set_check(CHECK, error.clone().map_or(Ok(()), Err));
        self.error = error;
    }
}
