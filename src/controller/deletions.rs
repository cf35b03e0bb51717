//! Delays deletions of policies that may be a part of the deletion of their namespace. The time is passed in.
//!
//! While a namespace is deleted, its policies may be deleted before its pods have ended. The API server's watches are
//! not synchronised, so the deletion of a policy may arrive before the report that its namespace is being deleted.
//! Applying it at once would open pods that should stay isolated. So the deletion waits a moment for that report, and
//! is undone if the report arrives later.

use crate::model::{Change, Cluster, Direction, Labels, NamespaceName, Policy, PolicyKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a deletion waits, unless the watch of namespaces is known to be disconnected.
const WAIT: Duration = Duration::from_secs(1);
/// How long a deletion waits at most while that watch is disconnected.
const LONGEST: Duration = Duration::from_secs(30);
/// For how long an applied deletion can be undone: a watch that receives nothing for 100 s is closed and opened again,
/// and then reports what it missed.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How many deletions are remembered; if there are more, the oldest are forgotten.
const MOST: usize = 1000;

/// Whether the watch of namespaces is disconnected. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct NamespaceWatch(Arc<AtomicBool>);

impl NamespaceWatch {
    /// Sets whether the watch is disconnected.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.0.store(cut_off, Ordering::Relaxed);
    }

    fn is_cut_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A deletion that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When it was seen.
    seen: Instant,
    /// Since when the watch of namespaces has been connected, or when that was last checked.
    heard_since: Instant,
}

impl Waiting {
    fn until(&self) -> Instant {
        (self.heard_since + WAIT).min(self.seen + LONGEST)
    }
}

/// Deletions that wait, and deletions that may still be undone.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// `None` if one source reports everything in order, so that nothing waits.
    watch: Option<NamespaceWatch>,
    waiting: BTreeMap<PolicyKey, Waiting>,
    believed: BTreeMap<PolicyKey, (Policy, Instant)>,
}

impl Deletions {
    /// Deletions that wait for reports of the watch of namespaces.
    pub fn that_wait_for(watch: NamespaceWatch) -> Deletions {
        Deletions { watch: Some(watch), ..Deletions::default() }
    }

    /// Receives a change that was seen at `seen`; returns the changes to apply now, in order. `cluster` is the state
    /// before them.
    pub fn take_in(&mut self, change: Change, cluster: &Cluster, seen: Instant) -> Vec<Change> {
        if self.watch.is_none() {
            return vec![change];
        }
        match &change {
            Change::PolicyGone(key) if opens_somebody(cluster, key, &self.waiting) => {
                self.waiting.entry(key.clone()).or_insert(Waiting { seen, heard_since: seen });
                Vec::new()
            }
            Change::Policy(Policy { key, .. }) | Change::PolicyGone(key) => {
                self.waiting.remove(key);
                self.believed.remove(key);
                vec![change]
            }
            Change::Namespace(namespace) if namespace.terminating => {
                let name = namespace.name.clone();
                self.ends(change, &name, cluster)
            }
            Change::NamespaceGone(name) => {
                let name = name.clone();
                self.ends(change, &name, cluster)
            }
            Change::Namespace(_)
            | Change::NamespaceUnreadable(_)
            | Change::Pod(_)
            | Change::PodUnreadable(_)
            | Change::PodGone(_)
            | Change::Sandbox(_)
            | Change::SandboxGone(_)
            | Change::Link(_) => vec![change],
        }
    }

    /// Handles the end of a namespace: the deletions of its policies belong to it, so its policies stay until its pods
    /// are gone.
    fn ends(&mut self, change: Change, name: &NamespaceName, cluster: &Cluster) -> Vec<Change> {
        let mut changes = vec![change];
        let believed = self.believed.extract_if(.., |key, _| key.namespace == *name);
        let believed: Vec<(PolicyKey, Policy)> = believed.map(|(key, (policy, _))| (key, policy)).collect();
        if cluster.has_residents_in(name) {
            for (key, policy) in believed {
                changes.extend([Change::Policy(policy), Change::PolicyGone(key)]);
            }
        }
        let waiting = self.waiting.extract_if(.., |key, _| key.namespace == *name);
        changes.extend(waiting.map(|(key, _)| Change::PolicyGone(key)));
        changes
    }

    /// When the next deletion may be applied or forgotten; `None` for never.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.values().map(Waiting::until).min()
    }

    /// The deletions that have waited long enough, or need not wait any longer, each with the time when it was seen.
    pub fn settle(&mut self, cluster: &Cluster, now: Instant) -> Vec<(Change, Instant)> {
        if self.watch.as_ref().is_some_and(NamespaceWatch::is_cut_off) {
            self.waiting.values_mut().for_each(|waiting| waiting.heard_since = now);
        }
        let is_over = |(key, waiting): &(&PolicyKey, &Waiting)| {
            waiting.until() <= now || !opens_somebody(cluster, key, &self.waiting)
        };
        let over = self.waiting.iter().filter(is_over).map(|(key, waiting)| (key.clone(), *waiting));
        let over: Vec<(PolicyKey, Waiting)> = over.collect();
        for (key, _) in &over {
            self.waiting.remove(key);
        }
        self.believed.retain(|_, (_, since)| now.saturating_duration_since(*since) < REMEMBERED);
        for (key, _) in &over {
            if let Some(policy) = cluster.policy(key) {
                self.believed.insert(key.clone(), (policy.clone(), now));
            }
        }
        while self.believed.len() > MOST {
            let oldest =
                self.believed.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| key.clone());
            oldest.map(|key| self.believed.remove(&key));
        }
        over.into_iter().map(|(key, waiting)| (Change::PolicyGone(key), waiting.seen)).collect()
    }
}

/// Whether applying a policy's deletion would open a pod of this node, in a namespace whose own deletion may not have
/// been reported yet. A pod that is isolated by another policy, whose deletion does not wait, only loses what this
/// policy allows. Namespaces that are known to be ending, or not known at all, are handled by the model.
fn opens_somebody(cluster: &Cluster, key: &PolicyKey, waiting: &BTreeMap<PolicyKey, Waiting>) -> bool {
    let Some(policy) = cluster.policy(key).filter(|_| !cluster.is_ending(&key.namespace)) else {
        return false;
    };
    let isolates = |policy: &Policy, labels: &Labels, direction: Direction| {
        policy.rules(direction).is_some() && !cluster.is_audited(policy) && policy.subject.matches(labels)
    };
    let stays_isolated = |labels: &Labels, direction: Direction| {
        let others = cluster.policies_in(&key.namespace);
        let mut others = others.filter(|other| other.key != *key && !waiting.contains_key(&other.key));
        others.any(|other| isolates(other, labels, direction))
    };
    cluster.residents_in(&key.namespace).any(|labels| {
        Direction::BOTH
            .into_iter()
            .any(|direction| isolates(policy, labels, direction) && !stays_isolated(labels, direction))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AuditLabel, Namespace, Pod, PodKey, Selector};

    fn key() -> PolicyKey {
        PolicyKey::new("shop", "closed")
    }

    fn policy() -> Change {
        Change::Policy(Policy {
            key: key(),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(Vec::new()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        })
    }

    fn namespace(terminating: bool) -> Change {
        let name = NamespaceName::new("shop");
        Change::Namespace(Namespace { labels: Labels::of_unknown_namespace(&name), name, terminating })
    }

    fn pod(name: &str) -> Change {
        Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![[10, 244, 1, 10].into()],
            ..Pod::new(PodKey::new("shop", name))
        })
    }

    /// A cluster to which changes are applied as the deletions permit.
    struct Believer {
        deletions: Deletions,
        cluster: Cluster,
        start: Instant,
        at: Duration,
    }

    impl Believer {
        fn of(deletions: Deletions) -> Believer {
            let start = Instant::now();
            let mut believer =
                Believer { deletions, cluster: Cluster::new("node-a"), start, at: Duration::ZERO };
            [namespace(false), pod("web"), policy()].into_iter().for_each(|change| believer.take_in(change));
            believer
        }

        fn take_in(&mut self, change: Change) {
            for change in self.deletions.take_in(change, &self.cluster, self.start + self.at) {
                self.cluster.apply(change);
            }
        }

        fn after(&mut self, milliseconds: u64) {
            self.at += Duration::from_millis(milliseconds);
            for (change, _) in self.deletions.settle(&self.cluster, self.start + self.at) {
                self.cluster.apply(change);
            }
        }

        fn guards(&self) -> bool {
            self.cluster.policy(&key()).is_some()
        }
    }

    fn gone() -> Change {
        Change::PolicyGone(key())
    }

    #[test]
    fn policy_deleted_in_a_living_namespace_guards_for_a_second_longer() {
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(gone());
        assert_eq!(believer.deletions.due(), Some(believer.start + WAIT));
        believer.after(999);
        assert!(believer.guards());
        believer.after(1);
        assert!(!believer.guards());
        assert_eq!(believer.deletions.due(), None);
    }

    #[test]
    fn where_one_source_tells_everything_a_deletion_is_believed_at_once() {
        let mut believer = Believer::of(Deletions::default());
        believer.take_in(gone());
        assert!(!believer.guards());
    }

    #[test]
    fn deletion_that_has_nobody_to_open_waits_for_nothing() {
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(Change::PodGone(PodKey::new("shop", "web")));
        believer.take_in(gone());
        assert!(!believer.guards());
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(gone());
        believer.take_in(Change::PodGone(PodKey::new("shop", "web")));
        believer.after(1);
        assert!(!believer.guards());
    }

    #[test]
    fn policy_that_others_isolate_beside_allows_no_longer_at_once() {
        let Change::Policy(closed) = policy() else { unreachable!("it is one") };
        let named = |name: &str| PolicyKey::new("shop", name);
        let of = |name: &str, egress| Change::Policy(Policy { key: named(name), egress, ..closed.clone() });
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(of("allows", None));
        believer.take_in(Change::PolicyGone(named("allows")));
        assert!(believer.cluster.policy(&named("allows")).is_none(), "it opens no pod");
        believer.take_in(of("both", Some(Vec::new())));
        believer.take_in(Change::PolicyGone(named("both")));
        assert!(believer.cluster.policy(&named("both")).is_some(), "no other policy isolates for egress");
        believer.take_in(of("allows", None));
        believer.take_in(gone());
        assert!(!believer.guards(), "the one that does not wait is left");
        believer.take_in(Change::PolicyGone(named("allows")));
        assert!(believer.cluster.policy(&named("allows")).is_some(), "the other one waits, too");
        believer.after(1_000);
        assert_eq!(believer.cluster.policies().count(), 0);
    }

    #[test]
    fn audited_policy_isolates_no_pod_beside_one_that_is_deleted_and_its_own_deletion_waits_for_nothing() {
        let Change::Policy(closed) = policy() else { unreachable!("it is one") };
        let audited = PolicyKey::new("shop", "audited");
        let of_audited = Policy { key: audited.clone(), audit: AuditLabel::Audited, ..closed };
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(Change::Policy(of_audited));
        believer.take_in(gone());
        assert!(believer.guards(), "no other enforced policy isolates the pod");
        believer.take_in(Change::PolicyGone(audited.clone()));
        assert!(believer.cluster.policy(&audited).is_none(), "it opens no pod");
    }

    #[test]
    fn policy_deleted_ahead_of_the_word_that_its_namespace_ends_guards_until_its_pods_are_gone() {
        for (wait, word) in [500, 1_000, 5_000, 100_000].into_iter().flat_map(|wait| {
            [namespace(true), Change::NamespaceGone(NamespaceName::new("shop"))].map(|word| (wait, word))
        }) {
            let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
            believer.take_in(gone());
            believer.after(wait);
            assert_eq!(believer.guards(), wait < 1_000);
            believer.take_in(word);
            assert!(believer.guards(), "after {wait} ms");
            believer.after(200_000);
            assert!(believer.guards());
            believer.take_in(Change::PodGone(PodKey::new("shop", "web")));
            assert!(!believer.guards());
        }
    }

    #[test]
    fn namespace_that_ends_much_later_brings_no_deleted_policy_back() {
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(gone());
        believer.after(1_000);
        believer.after(120_000);
        believer.take_in(namespace(true));
        assert!(!believer.guards());
    }

    #[test]
    fn policy_created_again_while_its_deletion_waits_stays() {
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        for wait in [500, 5_000] {
            believer.take_in(gone());
            believer.after(wait);
            believer.take_in(policy());
            believer.after(5_000);
            assert!(believer.guards());
            believer.take_in(namespace(true));
            assert!(believer.guards());
            believer.take_in(namespace(false));
        }
    }

    #[test]
    fn while_the_watch_of_namespaces_is_cut_off_a_deletion_waits_half_a_minute_at_most() {
        let watch = NamespaceWatch::default();
        let mut believer = Believer::of(Deletions::that_wait_for(watch.clone()));
        watch.set_cut_off(true);
        believer.take_in(gone());
        for _ in 0..29 {
            believer.after(1_000);
            assert!(believer.guards());
        }
        believer.after(1_000);
        assert!(!believer.guards());
        believer.take_in(policy());
        believer.take_in(gone());
        believer.after(5_000);
        watch.set_cut_off(false);
        believer.after(900);
        assert!(believer.guards(), "it may still report what it missed");
        believer.after(100);
        assert!(!believer.guards());
    }

    #[test]
    fn no_more_than_a_thousand_deletions_can_be_taken_back() {
        let mut believer = Believer::of(Deletions::that_wait_for(NamespaceWatch::default()));
        believer.take_in(gone());
        for number in 1..MOST + 10 {
            let Change::Policy(policy) = policy() else { unreachable!("it is one") };
            let key = PolicyKey::new("shop", &format!("p{number}"));
            believer.take_in(Change::Policy(Policy { key: key.clone(), ..policy }));
            believer.take_in(Change::PolicyGone(key));
        }
        believer.after(1_000);
        assert_eq!(believer.deletions.believed.len(), MOST);
    }
}
