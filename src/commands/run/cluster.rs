//! The Kubernetes API as a source: its resources watched, each by a task of its own, and how that fares told.

use super::origin::Outlet;
use crate::controller::{Delivery, NamespaceWatch};
use crate::model::Change;
use crate::observe::{Health, Metrics};
use crate::source::{Heard, News, Resource, Trouble, Unreadable, Watch, WatchList};
use anyhow::{Context, Result};
use kube::Client;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The readiness check of this source.
pub(super) const CHECK: &str = "watch";

/// If nothing was understood for this long, what is known may be old: a server sends a bookmark about every minute.
const STALE: Duration = Duration::from_secs(100);
/// A watch that has been in trouble for this long fails readiness, so that a rollout stops and an operator looks. A restart of
/// an API server takes less.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);
/// If nothing was understood for this long, readiness fails, too, whether or not the watch itself knows of trouble.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// A server that accepted a watch has ended an outage, though it has no news, once it did not fail for this long.
const CALM: Duration = Duration::from_secs(3);
/// How often an outage that goes on is logged.
const REMIND: Duration = Duration::from_secs(60);

/// Watches the API. Ends only with an error, or when nobody listens any more.
pub(super) async fn deliver(
    client: &Client,
    node: &str,
    heard: Heard,
    list: WatchList,
    outlet: Outlet,
    metrics: Metrics,
    health: Health,
) -> Result<()> {
    let readiness = Readiness::new(health.clone());
    let mut watchers = JoinSet::new();
    for resource in Resource::ALL {
        let watcher = Watcher {
            watch: Watch::new(client, resource, list, heard.clone()),
            resource,
            heard: heard.clone(),
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
    heard: Heard,
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

/// This node as the pods tell of it. In a cluster, the agent's own pod is on it at least.
struct OwnNode {
    name: String,
    has_pods: bool,
    others: bool,
}

impl OwnNode {
    /// Takes in what a watch of pods told. Says whether that was the first of a pod on this node.
    fn take_in(&mut self, changes: &[Change]) -> bool {
        if self.has_pods {
            return false;
        }
        for change in changes {
            let node = match change {
                Change::Pod(pod) => &pod.node,
                Change::PodUnreadable(pod) => &pod.node,
                Change::PodGone(_)
                | Change::Namespace(_)
                | Change::NamespaceUnreadable(_)
                | Change::NamespaceGone(_)
                | Change::Policy(_)
                | Change::PolicyGone(_)
                | Change::Sandbox(_)
                | Change::SandboxGone(_)
                | Change::Link(_) => continue,
            };
            self.others |= node.is_some();
            self.has_pods |= node.as_deref() == Some(&*self.name);
        }
        self.has_pods
    }

    /// What to say of it once all pods were listed.
    fn doubt(&self) -> Option<String> {
        (self.others && !self.has_pods).then(|| {
            let name = &self.name;
            format!("no pod of the cluster is on a node `{name}`: --node-name must be as in spec.nodeName of pods, or none is guarded")
        })
    }
}

/// What all watches together make of the readiness check.
#[derive(Clone)]
struct Readiness {
    health: Health,
    /// By resource: what keeps it from being ready. One that is not there was never listed.
    watches: Arc<Mutex<BTreeMap<Resource, Option<String>>>>,
}

impl Readiness {
    fn new(health: Health) -> Readiness {
        health.set_check(CHECK, Err(WAITING.to_owned()));
        Readiness { health, watches: Arc::default() }
    }

    /// A resource was listed whole. Says whether that was the last of all to be so for the first time.
    fn listed(&self, resource: Resource) -> bool {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let was_first = watches.insert(resource, None).is_none();
        self.publish(&watches);
        was_first && watches.len() == Resource::ALL.len()
    }

    /// How a watch fares that was listed before.
    fn set(&self, resource: Resource, trouble: Option<String>) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = watches.get_mut(&resource).filter(|own| **own != trouble) {
            *own = trouble;
            self.publish(&watches);
        }
    }

    fn publish(&self, watches: &BTreeMap<Resource, Option<String>>) {
        let troubles: Vec<&str> = watches.values().flatten().map(String::as_str).collect();
        self.health.set_check(
            CHECK,
            match (watches.len() == Resource::ALL.len(), troubles.is_empty()) {
                (false, _) => Err(WAITING.to_owned()),
                (true, true) => Ok(()),
                (true, false) => Err(troubles.join("; ")),
            },
        );
    }
}

const WAITING: &str = "waiting for the first complete lists";

/// Events that could not be read at all.
#[derive(Default)]
struct Lost {
    counted: u64,
    logged: Option<Instant>,
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
    fn look_for_own_node(&mut self, news: &News) {
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
    fn report(&self, unreadable: &[Unreadable]) {
        let consequence = match self.resource {
            Resource::Namespaces => "no selector of namespaces selects it but by its name",
            Resource::NetworkPolicies => "it isolates its whole namespace and allows nothing",
            Resource::Pods => "no policy selects it as a peer, and on its own node it is an unknown pod",
        };
        for Unreadable { object, fault } in unreadable {
            tracing::error!(object, fault, consequence, "cannot read an API object; correct or delete it");
        }
        let all = self.watch.unreadable();
        self.metrics.unreadable_objects(self.resource.word(), all.len());
        let others = all.len().saturating_sub(1);
        let remark = self.watch.unreadable().next().map(|Unreadable { object, fault }| match others {
            0 => format!("{object} cannot be read ({fault}): {consequence}"),
            _ => format!("{object} cannot be read ({fault}), nor can {others} more: {consequence}"),
        });
        self.health.remark(CHECK, self.resource.unreadable(), remark);
    }

    /// Reports events that cannot be read, not even which object they are about.
    fn report_lost(&mut self, now: Instant) {
        let lost = self.heard.lost(self.resource);
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
                "the watch failed; the rules in force stay in force, and the agent tries again"
            );
        }
        // What broke off just now was asked for long ago; all nodes would come back at once.
        let asked = outage.as_ref().map_or(now, |outage| outage.until.min(now));
        let until = trouble.ask_again(asked, now);
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
        let (heard, resource) = (self.heard.last(self.resource), self.resource.word());
        if self.outage.as_ref().is_some_and(|outage| outage.is_over(heard, now)) {
            self.end_outage(now);
        }
        self.metrics.watch_age(resource, self.heard.age(self.resource, now));
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
        let age = self.heard.age(self.resource, now);
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

impl Outage {
    /// Whether the server, last heard at `heard`, accepted what it was asked and has not failed since.
    fn is_over(&self, heard: Option<Instant>, now: Instant) -> bool {
        heard.is_some_and(|heard| heard > self.until) && now.saturating_duration_since(self.until) >= CALM
    }

    fn is_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= OUTAGE_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PodKey, UnreadablePod};

    fn outage(began: Instant, until: Instant) -> Outage {
        Outage { error: "no route".to_owned(), began, told: began, until }
    }

    #[test]
    fn readiness_waits_for_every_list_and_fails_with_each_watch_that_is_in_trouble() {
        let health = Health::new(&[CHECK]);
        let readiness = Readiness::new(health.clone());
        let check = || health.checks()[0].1.clone();
        readiness.set(Resource::Pods, Some("pods in trouble".to_owned()));
        assert!(!readiness.listed(Resource::Pods) && !readiness.listed(Resource::Namespaces));
        assert_eq!(check(), Err(WAITING.to_owned()));
        assert!(readiness.listed(Resource::NetworkPolicies));
        assert!(!readiness.listed(Resource::NetworkPolicies), "the facts are complete once");
        assert_eq!(check(), Ok(()));
        for (resource, words) in [(Resource::Pods, "old pods"), (Resource::Namespaces, "old namespaces")] {
            readiness.set(resource, Some(words.to_owned()));
        }
        assert_eq!(check(), Err("old namespaces; old pods".to_owned()));
        readiness.set(Resource::Pods, None);
        readiness.set(Resource::Namespaces, None);
        assert_eq!(check(), Ok(()));
    }

    /// A watcher of each resource, of a server that is never asked. Nothing has been heard since `start`.
    fn watchers(health: &Health, start: Instant) -> (Vec<Watcher>, mpsc::Receiver<Delivery>) {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = Client::try_from(config).expect("a client");
        let (heard, readiness) = (Heard::new(start), Readiness::new(health.clone()));
        let (outbox, inbox) = mpsc::channel(8);
        let watcher = |resource| Watcher {
            watch: Watch::new(&client, resource, WatchList::On, heard.clone()),
            resource,
            heard: heard.clone(),
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

    #[test]
    fn outage_is_over_when_the_server_accepted_a_watch_and_did_not_fail_again() {
        let start = Instant::now();
        let asked = start + Duration::from_secs(10);
        let outage = outage(start, asked);
        let after = |seconds| asked + Duration::from_secs(seconds);
        assert!(!outage.is_over(None, after(9)));
        assert!(!outage.is_over(Some(start), after(9)), "these bytes are older");
        assert!(!outage.is_over(Some(after(1)), after(2)), "it may still fail");
        assert!(outage.is_over(Some(after(1)), after(3)));
    }

    #[test]
    fn outage_fails_readiness_when_it_is_longer_than_a_servers_restart() {
        let start = Instant::now();
        let outage = outage(start, start);
        assert!(!outage.is_long(start + Duration::from_secs(119)));
        assert!(outage.is_long(start + Duration::from_secs(120)));
    }

    #[test]
    fn node_that_no_pod_is_on_is_doubted_until_one_is() {
        let on = |node: &str| {
            let key = PodKey::new("shop", node);
            Change::PodUnreadable(UnreadablePod { key, node: Some(node.into()), addresses: vec![] })
        };
        let mut own = OwnNode { name: "node-a".to_owned(), has_pods: false, others: false };
        assert_eq!((own.take_in(&[]), own.doubt()), (false, None), "an empty cluster proves nothing");
        assert!(!own.take_in(&[on("node-b")]) && own.doubt().unwrap().contains("`node-a`"));
        assert!(own.take_in(&[on("node-a")]) && own.doubt().is_none());
        assert!(!own.take_in(&[on("node-a")]), "it is found once");
    }
}
