//! The bridge and its ports as another source: they say by which port a pod's frames come.

use crate::controller::Delivery;
use crate::model::Change;
use crate::observe::Health;
use crate::source::{LinkWatch, LinkWatchError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The readiness check that tells how it fares.
const CHECK: &str = "links";
/// How long to wait before the kernel is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// A bridge that is watched.
pub(super) struct Deliverer {
    bridge: String,
    /// `None` while the kernel cannot be had to report changes.
    watch: Option<LinkWatch>,
    outbox: mpsc::Sender<Delivery>,
    health: Health,
    failed: Option<String>,
}

impl Deliverer {
    /// Begins to watch, and delivers what is there. To be awaited before the main source begins, so that its first complete list
    /// finds this node's ports known.
    pub(super) async fn begin(bridge: String, outbox: mpsc::Sender<Delivery>, health: Health) -> Deliverer {
        let mut deliverer = Deliverer { bridge, watch: None, outbox, health, failed: None };
        let first = deliverer.changed().await;
        deliverer.report(first).await;
        deliverer
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

/// Delivers whatever changes, at once. Ends when the controller has; without a bridge to watch, never.
pub(super) async fn deliver(deliverer: Option<Deliverer>) {
    let Some(mut deliverer) = deliverer else { return std::future::pending().await };
    while !deliverer.outbox.is_closed() {
        let changed = deliverer.changed().await;
        let failed = changed.is_err();
        deliverer.report(changed).await;
        if failed {
            sleep(AGAIN).await;
        }
    }
}
