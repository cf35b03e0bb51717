//! The Kubernetes API as a source: its resources watched, each by a task of its own, and how that fares told.

use crate::controller::Delivery;
use crate::observe::{Health, Metrics};
use crate::source::{Heard, Resource, Trouble, Watch, WatchList};
use anyhow::{Context, Result};
use kube::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check of this source.
pub(super) const CHECK: &str = "watch";

/// Without a word for this long, what is known may be old: a server sends a bookmark about every minute.
const STALE: Duration = Duration::from_secs(100);
/// How often an outage that goes on is logged.
const REMIND: Duration = Duration::from_secs(60);

/// Watches the API. Ends only with an error, or when nobody listens any more.
pub(super) async fn deliver(
    client: &Client,
    heard: Heard,
    list: WatchList,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let unlisted = Arc::new(AtomicUsize::new(Resource::ALL.len()));
    let mut watchers = JoinSet::new();
    for resource in Resource::ALL {
        let watcher = Watcher {
            watch: Watch::new(client, resource, list, heard.clone()),
            resource,
            heard: heard.clone(),
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            unlisted: Arc::clone(&unlisted),
            listed: false,
            outage: None,
        };
        watchers.spawn(watcher.run());
    }
    drop(outbox);
    health.set_check(CHECK, Err("waiting for the first complete lists".to_owned()));
    while let Some(ended) = watchers.join_next().await {
        ended.context("a watch of the API ended in a panic")?;
    }
    Ok(())
}

/// A watch, and how it fares.
struct Watcher {
    watch: Watch,
    resource: Resource,
    heard: Heard,
    outbox: mpsc::Sender<Delivery>,
    metrics: Metrics,
    health: Health,
    /// How many resources have not been listed yet.
    unlisted: Arc<AtomicUsize>,
    listed: bool,
    outage: Option<Outage>,
}

/// A server that cannot be reached, or refuses.
struct Outage {
    error: String,
    began: Instant,
    told: Instant,
    /// When to ask again.
    until: Instant,
}

impl Watcher {
    async fn run(mut self) {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.metrics.watching(self.resource.word(), &Trouble::REASONS);
        loop {
            let until = self.outage.as_ref().map(|outage| outage.until).filter(|then| *then > Instant::now());
            let news = async {
                if let Some(until) = until {
                    tokio::time::sleep_until(until.into()).await;
                }
                self.watch.next().await
            };
            tokio::select! {
                news = news => match news {
                    Ok(news) => {
                        let delivery = Delivery { changes: news.changes, seen: news.seen, complete: false };
                        if self.outbox.send(delivery).await.is_err() || !self.count_list(news.listed).await {
                            return;
                        }
                        self.end_outage(Instant::now());
                    }
                    Err(trouble) => self.suffer(trouble, Instant::now()),
                },
                _ = tick.tick() => self.look(Instant::now()),
            }
        }
    }

    /// Counts a list that ended; with the first of the last resource, the facts are complete. Says whether anybody
    /// still listens.
    async fn count_list(&mut self, listed: bool) -> bool {
        if !listed {
            return true;
        }
        self.metrics.watch_listed(self.resource.word());
        if std::mem::replace(&mut self.listed, true) || self.unlisted.fetch_sub(1, Ordering::AcqRel) > 1 {
            return true;
        }
        tracing::info!("the API server's first lists are complete");
        self.health.set_check(CHECK, Ok(()));
        self.outbox.send(Delivery { changes: Vec::new(), seen: Instant::now(), complete: true }).await.is_ok()
    }

    fn suffer(&mut self, trouble: Trouble, now: Instant) {
        let resource = self.resource.word();
        self.metrics.watch_failed(resource, trouble.reason);
        let outage = self.outage.take();
        let remind = outage.as_ref().is_none_or(|outage| now.duration_since(outage.told) >= REMIND);
        if remind {
            tracing::warn!(
                resource,
                reason = trouble.reason,
                error = trouble.error,
                "cannot watch; what is in force stays in force, and it is tried again"
            );
        }
        // What broke off just now was asked for long ago; all nodes would come back at once.
        let asked = outage.as_ref().map_or(now, |outage| outage.until.min(now));
        let until = trouble.ask_again(asked, now);
        self.outage = Some(Outage {
            error: trouble.error,
            began: outage.as_ref().map_or(now, |outage| outage.began),
            told: outage.filter(|_| !remind).map_or(now, |outage| outage.told),
            until,
        });
        self.remark(now);
    }

    /// Tells how old what is known may be.
    fn look(&mut self, now: Instant) {
        let heard_since =
            |outage: &Outage| self.heard.last(self.resource).is_some_and(|heard| heard > outage.until);
        if self.outage.as_ref().is_some_and(heard_since) {
            self.end_outage(now);
        }
        self.metrics.watch_age(self.resource.word(), self.heard.age(self.resource, now));
        self.remark(now);
    }

    fn end_outage(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            let seconds = now.duration_since(outage.began).as_secs_f64();
            tracing::info!(resource = self.resource.word(), seconds, "watching again");
            self.remark(now);
        }
    }

    fn remark(&self, now: Instant) {
        let age = self.heard.age(self.resource, now);
        let stale = self.outage.is_some() || age >= STALE;
        self.health.remark(
            CHECK,
            self.resource.word(),
            stale.then(|| {
                let error =
                    self.outage.as_ref().map(|outage| format!(": {}", outage.error)).unwrap_or_default();
                format!("{} last heard of {} s ago{error}", self.resource.word(), age.as_secs())
            }),
        );
    }
}
