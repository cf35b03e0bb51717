//! The Kubernetes API as a source: its resources watched, each by a task of its own, and how that fares told.

mod outage;
mod own_node;
mod readiness;

use super::object_source::Outlet;
use crate::controller::{Delivery, NamespaceWatch};
use crate::observe::{Health, Metrics};
use crate::source::{Liveness, Resource, UnreadableObject, Watch, WatchList, WatchTrouble, WatchUpdate};
use anyhow::{Context, Result};
use kube::Client;
use outage::Outage;
use own_node::OwnNode;
use readiness::Readiness;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check of this source.
pub(super) const CHECK: &str = "watch";

/// If nothing was understood for this long, what is known may be old: a server sends a bookmark about every minute.
const STALE: Duration = Duration::from_secs(100);
/// If nothing was understood for this long, readiness fails, too, whether or not the watch itself knows of trouble.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// How often an outage that goes on is logged.
const REMIND: Duration = Duration::from_secs(60);

/// Watches the API. Ends only with an error, or when nobody listens any more.
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
        let watcher = Watcher {
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
            lost: Lost::default(),
            own_node: (resource == Resource::Pods).then(|| OwnNode {
                name: node.to_owned(),
                has_pods: false,
                others: false,
            }),
        };
        watchers.spawn(watcher.run());
    }
    drop(outlet);
    while let Some(ended) = watchers.join_next().await {
        ended.context("a watch of the API ended in a panic")?;
    }
    Ok(())
}

/// A watch, and how it fares.
struct Watcher {
    watch: Watch,
    resource: Resource,
    liveness: Liveness,
    outbox: mpsc::Sender<Delivery>,
    /// Told when this is the watch of namespaces and is cut off.
    namespaces: NamespaceWatch,
    metrics: Metrics,
    health: Health,
    readiness: Readiness,
    listed: bool,
    outage: Option<Outage>,
    lost: Lost,
    /// Of the watch of pods: whether any is on this node.
    own_node: Option<OwnNode>,
}

/// Events that could not be read at all.
#[derive(Default)]
struct Lost {
    counted: u64,
    logged: Option<Instant>,
}

impl Watcher {
    async fn run(mut self) {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.metrics.watching(self.resource.word(), &WatchTrouble::REASONS);
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
                        self.report(&news.unreadable);
                        self.look_for_own_node(&news);
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
        if std::mem::replace(&mut self.listed, true) || !self.readiness.listed(self.resource) {
            return true;
        }
        tracing::info!("the first lists from the API server are complete");
        self.outbox.send(Delivery { changes: Vec::new(), seen: Instant::now(), complete: true }).await.is_ok()
    }

    /// Reports a node that no pod is on: its name may be wrong.
    fn look_for_own_node(&mut self, news: &WatchUpdate) {
        let Some(own) = &mut self.own_node else { return };
        let found = own.take_in(&news.changes);
        if !found && !news.listed {
            return;
        }
        let doubt = own.doubt();
        if let Some(doubt) = &doubt {
            tracing::error!(doubt, "this node has no pods");
        }
        self.health.remark(CHECK, "node name", doubt);
    }

    /// Reports objects that cannot be read. Each is its own trouble alone.
    fn report(&self, unreadable: &[UnreadableObject]) {
        let consequence = match self.resource {
            Resource::Namespaces => "no selector of namespaces selects it but by its name",
            Resource::NetworkPolicies => "it isolates its whole namespace and allows nothing",
            Resource::Pods => "no policy selects it as a peer, and on its own node it is an unknown pod",
        };
        for UnreadableObject { object, fault } in unreadable {
            tracing::error!(object, fault, consequence, "cannot read an API object; correct or delete it");
        }
        let all = self.watch.unreadable();
        self.metrics.unreadable_objects(self.resource.word(), all.len());
        let others = all.len().saturating_sub(1);
        let remark = self.watch.unreadable().next().map(|UnreadableObject { object, fault }| match others {
            0 => format!("{object} cannot be read ({fault}): {consequence}"),
            _ => format!("{object} cannot be read ({fault}), nor can {others} more: {consequence}"),
        });
        self.health.remark(CHECK, self.resource.unreadable(), remark);
    }

    /// Reports events that cannot be read, not even which object they are about.
    fn report_lost(&mut self, now: Instant) {
        let lost = self.liveness.unreadable_events(self.resource);
        let more = lost.saturating_sub(self.lost.counted);
        if more == 0 {
            return;
        }
        self.lost.counted = lost;
        self.metrics.watch_events_lost(self.resource.word(), more);
        if self.lost.logged.is_none_or(|logged| now.duration_since(logged) >= REMIND) {
            self.lost.logged = Some(now);
            let resource = self.resource.word();
            tracing::error!(
                resource,
                lost,
                "cannot read watch events, not even which object they concern; they are skipped"
            );
        }
    }

    fn suffer(&mut self, trouble: WatchTrouble, now: Instant) {
        let resource = self.resource.word();
        self.metrics.watch_failed(resource, trouble.reason);
        let outage = self.outage.take();
        let remind = outage.as_ref().is_none_or(|outage| now.duration_since(outage.told) >= REMIND);
        if remind {
            tracing::warn!(
                resource,
                reason = trouble.reason,
                error = trouble.error,
                "the watch failed; the rules in force stay in force, and the agent tries again"
            );
        }
        // What broke off just now was asked for long ago; all nodes would come back at once.
        let asked = outage.as_ref().map_or(now, |outage| outage.until.min(now));
        let until = trouble.retry_at(asked, now);
        self.tell_cut_off(true);
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
        let (last_bytes, resource) = (self.liveness.last_bytes(self.resource), self.resource.word());
        if self.outage.as_ref().is_some_and(|outage| outage.is_over(last_bytes, now)) {
            self.end_outage(now);
        }
        self.metrics.watch_age(resource, self.liveness.age(self.resource, now));
        self.report_lost(now);
        self.remark(now);
    }

    fn end_outage(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            self.tell_cut_off(false);
            let seconds = now.duration_since(outage.began).as_secs_f64();
            tracing::info!(resource = self.resource.word(), seconds, "watching again");
            self.remark(now);
        }
    }

    fn tell_cut_off(&self, cut_off: bool) {
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

    /// A watcher of each resource, of a server that is never asked. Nothing has been heard since `start`.
    fn watchers(health: &Health, start: Instant) -> (Vec<Watcher>, mpsc::Receiver<Delivery>) {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = Client::try_from(config).expect("a client");
        let (liveness, readiness) = (Liveness::new(start), Readiness::new(health.clone()));
        let (outbox, inbox) = mpsc::channel(8);
        let watcher = |resource| Watcher {
            watch: Watch::new(&client, resource, WatchList::On, liveness.clone()),
            resource,
            liveness: liveness.clone(),
            outbox: outbox.clone(),
            namespaces: NamespaceWatch::default(),
            metrics: Metrics::new("", None),
            health: health.clone(),
            readiness: readiness.clone(),
            listed: false,
            outage: None,
            lost: Lost::default(),
            own_node: None,
        };
        (Resource::ALL.map(watcher).into(), inbox)
    }

    #[tokio::test]
    async fn facts_are_complete_with_the_first_list_of_the_last_resource_and_no_earlier() {
        let (mut watchers, mut inbox) = watchers(&Health::new(&[CHECK]), Instant::now());
        let mut told = Vec::new();
        for watcher in &mut watchers {
            for listed in [false, true, true] {
                assert!(watcher.count_list(listed).await, "the controller listens");
                told.push(inbox.try_recv().is_ok_and(|delivery| delivery.complete));
            }
        }
        let [nothing, with_the_first] = [[false; 3], [false, true, false]];
        assert_eq!(told, [nothing, nothing, with_the_first].concat());
    }

    #[tokio::test]
    async fn readiness_fails_when_nothing_was_understood_for_five_minutes() {
        let (health, start) = (Health::new(&[CHECK]), Instant::now());
        let (mut watchers, _inbox) = watchers(&health, start);
        for watcher in &mut watchers {
            assert!(watcher.count_list(true).await, "the controller listens");
        }
        let pods = watchers.last_mut().expect("one for each resource");
        pods.look(start + Duration::from_secs(299));
        assert_eq!(health.ready(), Ok(()));
        assert_eq!(health.remarks(CHECK), ["pods: last update 299 s ago"]);
        pods.look(start + Duration::from_secs(300));
        assert_eq!(health.ready(), Err(vec![(CHECK, "pods: last update 300 s ago".to_owned())]));
    }
}
