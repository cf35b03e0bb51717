//! The API server as a source: each resource is watched by its own task, which also reports outages.

mod outage;
mod own_node;
mod readiness;

use super::object_source::Outlet;
use crate::controller::{Delivery, NamespaceWatch};
use crate::observe::{Health, Metrics, Warning};
use crate::source::{Liveness, Resource, UnreadableObject, Watch, WatchList, WatchTrouble, WatchUpdate};
use anyhow::{Context, Result};
use kube::Client;
use outage::Outage;
use own_node::OwnNode;
use readiness::Readiness;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check of this source.
pub(super) const CHECK: &str = "watch";

/// If nothing was decoded for this long, the data may be stale: a server sends a bookmark about every minute.
const STALE: Duration = Duration::from_secs(100);
/// If nothing was decoded for this long, readiness fails even without an error of the watch.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// How often a continuing outage is logged.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Watches the API server. Ends only with an error, or when the controller has ended.
pub(super) async fn deliver(
    client: &Client,
    node: &str,
    liveness: Liveness,
    list: WatchList,
    outlet: Outlet,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let readiness = Readiness::new(health.clone());
    let mut watchers = JoinSet::new();
    for resource in Resource::ALL {
        let watcher = ResourceWatcher {
            watch: Watch::new(client, resource, list, liveness.clone()),
            resource,
            liveness: liveness.clone(),
            outbox: outlet.outbox.clone(),
            namespaces: outlet.namespaces.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            readiness: readiness.clone(),
            listed: false,
            outage: None,
            unreadable_events: UnreadableEvents::default(),
            own_node: (resource == Resource::Pods).then(|| OwnNode {
                name: node.to_owned(),
                has_pods: false,
                others: false,
            }),
            unreadable_pods: outlet.unreadable_pods.clone(),
        };
        watchers.spawn(watcher.run());
    }
    drop(outlet);
    while let Some(ended) = watchers.join_next().await {
        ended.context("a watch of the API ended in a panic")?;
    }
    Ok(())
}

/// The watch of one resource and its state.
struct ResourceWatcher {
    watch: Watch,
    resource: Resource,
    liveness: Liveness,
    outbox: mpsc::Sender<Delivery>,
    /// Set by the watch of namespaces while it is cut off.
    namespaces: NamespaceWatch,
    metrics: Metrics,
    health: Health,
    readiness: Readiness,
    listed: bool,
    outage: Option<Outage>,
    unreadable_events: UnreadableEvents,
    /// In the watch of pods: whether any pod is on this node.
    own_node: Option<OwnNode>,
    /// Warnings about the pods of this node that cannot be read, from the watch of pods.
    unreadable_pods: watch::Sender<Vec<Warning>>,
}

/// Events that could not be read, not even which object they are about.
#[derive(Default)]
struct UnreadableEvents {
    counted: u64,
    logged: Option<Instant>,
}

impl ResourceWatcher {
    async fn run(mut self) {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.metrics.watching(self.resource.word(), &WatchTrouble::REASONS);
        loop {
            let until = self.outage.as_ref().map(|outage| outage.until).filter(|then| *then > Instant::now());
            let update = async {
                if let Some(until) = until {
                    tokio::time::sleep_until(until.into()).await;
                }
                self.watch.next().await
            };
            tokio::select! {
                update = update => match update {
                    Ok(update) => {
                        self.report(&update.unreadable);
                        self.look_for_own_node(&update);
                        let delivery = Delivery { changes: update.changes, seen: update.seen, complete: false };
                        if self.outbox.send(delivery).await.is_err() || !self.count_list(update.listed).await {
                            return;
                        }
                        self.end_outage(Instant::now());
                    }
                    Err(trouble) => self.on_failure(trouble, Instant::now()),
                },
                _ = tick.tick() => self.check(Instant::now()),
            }
        }
    }

    /// Counts a completed list. With the first list of the last resource, the data is complete, and the controller is notified.
    /// Returns whether the controller still runs.
    async fn count_list(&mut self, listed: bool) -> bool {
        if !listed {
            return true;
        }
        self.metrics.watch_listed(self.resource.word());
        if std::mem::replace(&mut self.listed, true) || !self.readiness.listed(self.resource) {
            return true;
        }
        tracing::info!("the first lists from the API server are complete");
        self.outbox.send(Delivery { changes: Vec::new(), seen: Instant::now(), complete: true }).await.is_ok()
    }

    /// Reports a node without pods: its name may be wrong.
    fn look_for_own_node(&mut self, update: &WatchUpdate) {
        let Some(own) = &mut self.own_node else { return };
        let found = own.take_in(&update.changes);
        if !found && !update.listed {
            return;
        }
        let doubt = own.doubt();
        if let Some(doubt) = &doubt {
            tracing::error!(doubt, "this node has no pods");
        }
        self.health.remark(CHECK, "node name", doubt);
    }

    /// Reports objects that cannot be read.
    fn report(&self, unreadable: &[UnreadableObject]) {
        let consequence = match self.resource {
            Resource::Namespaces => "no selector of namespaces selects it but by its name",
            Resource::NetworkPolicies => "it isolates its whole namespace and allows nothing",
            Resource::Pods => "no policy selects it as a peer, and on its own node it is an unknown pod",
        };
        for UnreadableObject { object, fault, .. } in unreadable {
            tracing::error!(object, fault, consequence, "cannot read an API object; correct or delete it");
        }
        if let Some(own) = &self.own_node {
            let here = self.watch.unreadable().filter_map(|object| own.unreadable(object, consequence));
            let here: Vec<Warning> = here.collect();
            self.unreadable_pods.send_if_modified(|before| std::mem::replace(before, here.clone()) != here);
        }
        let all = self.watch.unreadable();
        self.metrics.unreadable_objects(self.resource.word(), all.len());
        let others = all.len().saturating_sub(1);
        let remark =
            self.watch.unreadable().next().map(|UnreadableObject { object, fault, .. }| match others {
                0 => format!("{object} cannot be read ({fault}): {consequence}"),
                _ => format!("{object} cannot be read ({fault}), nor can {others} more: {consequence}"),
            });
        self.health.remark(CHECK, self.resource.unreadable(), remark);
    }

    /// Reports events that cannot be read, not even which object they are about.
    fn report_unreadable_events(&mut self, now: Instant) {
        let lost = self.liveness.unreadable_events(self.resource);
        let more = lost.saturating_sub(self.unreadable_events.counted);
        if more == 0 {
            return;
        }
        self.unreadable_events.counted = lost;
        self.metrics.watch_events_lost(self.resource.word(), more);
        if self.unreadable_events.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_AGAIN_AFTER) {
            self.unreadable_events.logged = Some(now);
            let resource = self.resource.word();
            tracing::error!(
                resource,
                lost,
                "cannot read watch events, not even which object they concern; they are skipped"
            );
        }
    }

    fn on_failure(&mut self, trouble: WatchTrouble, now: Instant) {
        let resource = self.resource.word();
        self.metrics.watch_failed(resource, trouble.reason);
        let outage = self.outage.take();
        let remind =
            outage.as_ref().is_none_or(|outage| now.duration_since(outage.logged) >= LOG_AGAIN_AFTER);
        if remind {
            tracing::warn!(
                resource,
                reason = trouble.reason,
                error = trouble.error,
                "the watch failed; the rules in force stay in force, and the agent tries again"
            );
        }
        // The request of a watch that broke off now is long ago: without this, all nodes would retry at once.
        let asked = outage.as_ref().map_or(now, |outage| outage.until.min(now));
        let until = trouble.retry_at(asked, now);
        self.set_namespaces_cut_off(true);
        self.outage = Some(Outage {
            error: trouble.error,
            began: outage.as_ref().map_or(now, |outage| outage.began),
            logged: outage.filter(|_| !remind).map_or(now, |outage| outage.logged),
            until,
        });
        self.remark(now);
    }

    /// Reports how old the data may be.
    fn check(&mut self, now: Instant) {
        let (last_bytes, resource) = (self.liveness.last_bytes(self.resource), self.resource.word());
        if self.outage.as_ref().is_some_and(|outage| outage.is_over(last_bytes, now)) {
            self.end_outage(now);
        }
        self.metrics.watch_age(resource, self.liveness.age(self.resource, now));
        self.report_unreadable_events(now);
        self.remark(now);
    }

    fn end_outage(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            self.set_namespaces_cut_off(false);
            let seconds = now.duration_since(outage.began).as_secs_f64();
            tracing::info!(resource = self.resource.word(), seconds, "watching again");
            self.remark(now);
        }
    }

    fn set_namespaces_cut_off(&self, cut_off: bool) {
        if self.resource == Resource::Namespaces {
            self.namespaces.set_cut_off(cut_off);
        }
    }

    fn remark(&self, now: Instant) {
        let age = self.liveness.age(self.resource, now);
        let stale = self.outage.is_some() || age >= STALE;
        let words = stale.then(|| {
            let error = self.outage.as_ref().map(|outage| format!(": {}", outage.error)).unwrap_or_default();
            format!("{}: last update {} s ago{error}", self.resource.word(), age.as_secs())
        });
        let fails = age >= SILENCE_LIMIT || self.outage.as_ref().is_some_and(|outage| outage.is_long(now));
        self.readiness.set(self.resource, words.clone().filter(|_| fails));
        self.health.remark(CHECK, self.resource.word(), words.filter(|_| !fails));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watcher of each resource, without requests. Nothing was received since `start`.
    fn watchers(health: &Health, start: Instant) -> (Vec<ResourceWatcher>, mpsc::Receiver<Delivery>) {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = Client::try_from(config).expect("a client");
        let (liveness, readiness) = (Liveness::new(start), Readiness::new(health.clone()));
        let (outbox, inbox) = mpsc::channel(8);
        let watcher = |resource| ResourceWatcher {
            watch: Watch::new(&client, resource, WatchList::On, liveness.clone()),
            resource,
            liveness: liveness.clone(),
            outbox: outbox.clone(),
            namespaces: NamespaceWatch::default(),
            metrics: Metrics::default(),
            health: health.clone(),
            readiness: readiness.clone(),
            listed: false,
            outage: None,
            unreadable_events: UnreadableEvents::default(),
            own_node: None,
            unreadable_pods: watch::channel(Vec::new()).0,
        };
        (Resource::ALL.map(watcher).into(), inbox)
    }

    #[tokio::test]
    async fn data_is_complete_with_the_first_list_of_the_last_resource_and_no_earlier() {
        let (mut watchers, mut inbox) = watchers(&Health::new(&[CHECK]), Instant::now());
        let mut complete = Vec::new();
        for watcher in &mut watchers {
            for listed in [false, true, true] {
                assert!(watcher.count_list(listed).await, "the controller runs");
                complete.push(inbox.try_recv().is_ok_and(|delivery| delivery.complete));
            }
        }
        let [nothing, with_the_first] = [[false; 3], [false, true, false]];
        assert_eq!(complete, [nothing, nothing, with_the_first].concat());
    }

    #[tokio::test]
    async fn readiness_fails_when_nothing_was_decoded_for_five_minutes() {
        let (health, start) = (Health::new(&[CHECK]), Instant::now());
        let (mut watchers, _inbox) = watchers(&health, start);
        for watcher in &mut watchers {
            assert!(watcher.count_list(true).await, "the controller runs");
        }
        let pods = watchers.last_mut().expect("one for each resource");
        pods.check(start + Duration::from_secs(299));
        assert_eq!(health.ready(), Ok(()));
        assert_eq!(health.remarks(CHECK), ["pods: last update 299 s ago"]);
        pods.check(start + Duration::from_secs(300));
        assert_eq!(health.ready(), Err(vec![(CHECK, "pods: last update 300 s ago".to_owned())]));
    }
}
