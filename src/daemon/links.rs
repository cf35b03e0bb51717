//! The ports of the bridge as a source of changes, which show from which pod a frame arrives.

use crate::controller::Delivery;
use crate::model::Change;
use crate::observe::Health;
use crate::source::{LinkWatch, LinkWatchError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The readiness check of this source.
const CHECK: &str = "links";
/// How long to wait before the watch is opened again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A watched bridge.
pub(super) struct LinkSource {
    bridge: String,
    /// `None` while changes cannot be watched.
    watch: Option<LinkWatch>,
    outbox: mpsc::Sender<Delivery>,
    health: Health,
    failed: Option<String>,
}

impl LinkSource {
    /// Begins to watch, and sends the ports that exist. To be awaited before the main source starts, so that this node's ports are
    /// known when its first list completes.
    pub(super) async fn begin(bridge: String, outbox: mpsc::Sender<Delivery>, health: Health) -> LinkSource {
        let mut source = LinkSource { bridge, watch: None, outbox, health, failed: None };
        let first = source.changed().await;
        source.report(first).await;
        source
    }

    async fn changed(&mut self) -> Result<Vec<Change>, LinkWatchError> {
        let watch = match self.watch.take() {
            Some(watch) => self.watch.insert(watch),
            None => self.watch.insert(LinkWatch::new(&self.bridge)?),
        };
        Ok(watch.changed().await?.into_iter().map(Change::Link).collect())
    }

    async fn report(&mut self, changed: Result<Vec<Change>, LinkWatchError>) {
        let problem = match changed {
            Ok(changes) => {
                if !changes.is_empty() {
                    let delivery = Delivery { changes, seen: Instant::now(), complete: false };
                    // An error means that the controller has ended, which the caller sees.
                    self.outbox.send(delivery).await.ok();
                }
                None
            }
            Err(error) => {
                self.watch = None;
                Some(format!("{error}: ports of {} that are new are not bound to their pods", self.bridge))
            }
        };
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.failed) {
            tracing::error!(problem, "cannot watch the ports of the bridge");
        }
        self.health.set_check(CHECK, problem.clone().map_or(Ok(()), Err));
        self.failed = problem;
    }
}

/// Sends each change at once. Ends when the controller has ended; without a bridge to watch, never.
pub(super) async fn deliver(source: Option<LinkSource>) {
    let Some(mut source) = source else { return std::future::pending().await };
    while !source.outbox.is_closed() {
        let changed = source.changed().await;
        let failed = changed.is_err();
        source.report(changed).await;
        if failed {
            sleep(RETRY_AFTER).await;
        }
    }
}
