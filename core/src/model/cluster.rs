//! Everything known of the cluster, changed one fact at a time.

mod handover;
mod part;
mod pods;
mod ports;
mod residents;

pub use handover::Handover;
pub use part::PodsPart;
pub use pods::{Group, GroupId};

use super::{
    AuditLabel, Change, Labels, Namespace, NamespaceName, Owner, Pod, PodKey, Policy, PolicyKey, Selector,
    Touched,
};
use pods::{PodState, Pods, Replaced};
use ports::BridgePorts;
use residents::Residents;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

/// The group of unknown pods. An address belongs to it if a sandbox that no known pod explains may have the address. It
/// feeds no set.
const NOBODY: GroupId = GroupId::MAX;

#[derive(Clone, Debug, Default)]
struct NamespaceState {
    /// Its labels, if its object is known.
    labels: Option<Labels>,
    /// The labels that its object had when it was deleted, for as long as its pods exist.
    last_labels: Option<Labels>,
    terminating: bool,
    pods: usize,
    groups: BTreeSet<GroupId>,
    local_pods: BTreeSet<PodKey>,
    policies: BTreeMap<PolicyKey, Policy>,
    /// Policies that were deleted before the pods that they isolate, while the namespace is being deleted.
    lingering: BTreeSet<PolicyKey>,
}

impl NamespaceState {
    fn is_ending(&self) -> bool {
        self.terminating || self.labels.is_none()
    }

    /// Whether all its policies are audited. Those of a namespace whose object is not known are not.
    fn is_audited(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| AuditLabel::of(labels) == AuditLabel::Audited)
    }
}

/// Everything known of the cluster, as seen from one node.
#[derive(Clone, Debug)]
pub struct Cluster {
    node: Arc<str>,
    namespaces: BTreeMap<NamespaceName, NamespaceState>,
    pods: Pods,
    residents: Residents,
    ports: BridgePorts,
}

impl Cluster {
    /// An empty cluster, seen from the node of this name.
    pub fn new(node: &str) -> Cluster {
        Cluster {
            node: node.into(),
            namespaces: BTreeMap::new(),
            pods: Pods::default(),
            residents: Residents::default(),
            ports: BridgePorts::default(),
        }
    }

    /// Applies one change and returns what it may have affected.
    pub fn apply(&mut self, change: Change) -> Touched {
        self.pods.forget_groups();
        let mut touched = Touched::default();
        match change {
            Change::Namespace(namespace) => self.set_namespace(namespace, &mut touched),
            Change::NamespaceUnreadable(name) => self.set_unreadable_namespace(&name, &mut touched),
            Change::NamespaceGone(name) => self.remove_namespace(&name, &mut touched),
            Change::Pod(pod) => self.set_pod(pod, &mut touched),
            Change::PodUnreadable(pod) => self.set_unreadable_pod(pod, &mut touched),
            Change::PodGone(key) => self.remove_pod(&key, &mut touched),
            Change::Policy(policy) => self.set_policy(policy, &mut touched),
            Change::PolicyGone(key) => self.remove_policy(&key, &mut touched),
            Change::Sandbox(sandbox) => self.set_sandbox(sandbox, &mut touched),
            Change::SandboxGone(key) => self.remove_sandbox(&key, &mut touched),
            Change::Link(change) => self.set_link(change, &mut touched),
        }
        touched
    }

    /// The name of the node from which the cluster is seen.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A policy.
    pub fn policy(&self, key: &PolicyKey) -> Option<&Policy> {
        self.namespaces.get(&key.namespace)?.policies.get(key)
    }

    /// The policies in a namespace.
    pub fn policies_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Policy> {
        self.namespaces.get(namespace).into_iter().flat_map(|state| state.policies.values())
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.namespaces.values().flat_map(|state| state.policies.values())
    }

    /// The policies behind this one, or from the first on, in the order of their keys.
    pub fn policies_after(&self, key: Option<&PolicyKey>) -> impl Iterator<Item = &Policy> {
        let first = key.map_or(Bound::Unbounded, |key| Bound::Included(&key.namespace));
        let namespaces = self.namespaces.range::<NamespaceName, _>((first, Bound::Unbounded));
        namespaces.flat_map(move |(_, state)| {
            let after = key.map_or(Bound::Unbounded, Bound::Excluded);
            state.policies.range::<PolicyKey, _>((after, Bound::Unbounded)).map(|(_, policy)| policy)
        })
    }

    /// Whether a policy is evaluated and reported, and not enforced: its own label says so, or its namespace's.
    pub fn is_audited(&self, policy: &Policy) -> bool {
        policy.audit == AuditLabel::Audited
            || self.namespaces.get(&policy.key.namespace).is_some_and(NamespaceState::is_audited)
    }

    /// The pods of this node in a namespace that have an address.
    pub fn local_pods_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &PodKey> {
        self.namespaces.get(namespace).into_iter().flat_map(|state| &state.local_pods)
    }

    /// The pods of this node that have an address.
    pub fn local_pods(&self) -> impl Iterator<Item = &PodKey> {
        self.namespaces.values().flat_map(|state| &state.local_pods)
    }

    /// How many pods with an address there are, on all nodes.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The addresses of a pod, in order, and its group.
    pub fn pod(&self, key: &PodKey) -> Option<(&[IpAddr], &Group)> {
        let pod = self.pods.get(key)?;
        Some((pod.addresses(), self.pods.group_of(pod)?))
    }

    /// The number of a pod's group, if the pod has an address.
    pub fn group_id_of(&self, key: &PodKey) -> Option<GroupId> {
        self.pods.get(key).map(PodState::group)
    }

    /// Whether a pod is one of this node's, and has an address.
    pub fn is_local(&self, key: &PodKey) -> bool {
        self.pods.get(key).is_some_and(PodState::is_local)
    }

    /// The controller of a pod that has an address, if the pod has one.
    pub fn owner_of(&self, pod: &PodKey) -> Option<&Owner> {
        self.pods.get(pod)?.owner()
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.pods.group(id)
    }

    /// Every group that has pods.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.pods.groups()
    }

    /// The groups of a namespace.
    pub fn groups_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = (GroupId, &Group)> {
        let ids = self.namespaces.get(namespace).into_iter().flat_map(|state| &state.groups);
        ids.filter_map(|&id| Some((id, self.pods.group(id)?)))
    }

    /// Whether a selector of namespaces selects a namespace.
    ///
    /// A namespace whose object was deleted is matched by its last labels, for as long as its pods exist. One whose
    /// object is not known is matched as [`Selector::selects_unknown_namespace`] says.
    pub fn selects_namespace(&self, selector: &Selector, name: &NamespaceName) -> bool {
        match self.labels_for_selection(name) {
            Some(labels) => selector.matches(labels),
            None => selector.selects_unknown_namespace(name),
        }
    }

    /// The labels by which selectors select a namespace: those of its object, or those that its object had when it went, as long as
    /// its pods are there. `None` if it is selected by its name alone.
    pub fn labels_for_selection(&self, name: &NamespaceName) -> Option<&Labels> {
        let state = self.namespaces.get(name)?;
        state.labels.as_ref().or(state.last_labels.as_ref())
    }

    /// The addresses of a group's pods. An address that two of them have is returned twice.
    pub fn addresses(&self, group: &Group) -> impl Iterator<Item = IpAddr> {
        self.pods.addresses(group)
    }

    /// The groups of all pods that have an address. What the policies allow all of these groups, they allow the
    /// address.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = GroupId> {
        let nobody = self.residents.is_claimed_by_unknown(address).then_some(NOBODY);
        self.pods.at(address).map(|(_, group)| group).chain(nobody)
    }

    /// Whether more than one pod or sandbox has an address.
    pub fn is_contested(&self, address: IpAddr) -> bool {
        self.pods.share(address) || self.residents.is_claimed_by_unknown(address)
    }

    /// Whether an unknown sandbox claims an address.
    pub fn is_claimed_by_unknown(&self, address: IpAddr) -> bool {
        self.residents.is_claimed_by_unknown(address)
    }

    /// Whether any known pod has an address.
    pub fn is_held(&self, address: IpAddr) -> bool {
        self.pods.at(address).next().is_some()
    }

    /// The pods that have an address, by name, with their groups.
    pub fn pods_at(&self, address: IpAddr) -> Vec<(&PodKey, &Group)> {
        let mut pods: Vec<_> =
            self.pods.at(address).filter_map(|(key, group)| Some((key, self.pods.group(group)?))).collect();
        pods.sort_by_key(|(key, _)| *key);
        pods
    }

    /// The names of all namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &NamespaceName> {
        self.namespaces.keys()
    }

    /// The labels of a namespace; `None` while its object is not known.
    pub fn namespace_labels(&self, name: &NamespaceName) -> Option<&Labels> {
        self.namespaces.get(name)?.labels.as_ref()
    }

    /// Whether the policies of a namespace may be deleted before the pods that they isolate: the namespace is being
    /// deleted, or its object is not known.
    pub fn is_ending(&self, name: &NamespaceName) -> bool {
        self.namespaces.get(name).is_none_or(NamespaceState::is_ending)
    }

    /// Whether a namespace has pods on this node, or may have some soon.
    pub fn has_residents_in(&self, name: &NamespaceName) -> bool {
        self.local_pods_in(name).next().is_some() || self.residents.expects_one_in(name)
    }

    fn set_namespace(&mut self, namespace: Namespace, touched: &mut Touched) {
        let (_, state) = enter(&mut self.namespaces, &namespace.name);
        state.terminating = namespace.terminating;
        if state.labels.as_ref() != Some(&namespace.labels) {
            let was_audited = state.is_audited();
            state.last_labels = None;
            state.labels = Some(namespace.labels);
            touched.namespaces.push(namespace.name.clone());
            if state.is_audited() != was_audited {
                touched.policies.extend(state.policies.keys().cloned());
            }
        }
        self.drop_lingering(&namespace.name, touched);
    }

    fn remove_namespace(&mut self, name: &NamespaceName, touched: &mut Touched) {
        let Some(state) = self.namespaces.get_mut(name) else { return };
        if state.labels.is_some() {
            touched.namespaces.push(name.clone());
        }
        if state.is_audited() {
            touched.policies.extend(state.policies.keys().cloned());
        }
        state.last_labels = state.labels.take().or(state.last_labels.take()).filter(|_| state.pods > 0);
        self.forget_namespace(name);
    }

    /// Discards everything that was known of the namespace but its name.
    fn set_unreadable_namespace(&mut self, name: &NamespaceName, touched: &mut Touched) {
        self.remove_namespace(name, touched);
        let state = self.namespaces.get_mut(name);
        if state.is_some_and(|state| state.last_labels.take().is_some()) {
            touched.namespaces.push(name.clone());
        }
    }

    fn forget_namespace(&mut self, name: &NamespaceName) {
        let empty =
            |state: &NamespaceState| state.labels.is_none() && state.pods == 0 && state.policies.is_empty();
        if self.namespaces.get(name).is_some_and(empty) {
            self.namespaces.remove(name);
        }
    }

    fn replace_pod(&mut self, key: &PodKey, pod: Option<Pod>, touched: &mut Touched) {
        if pod.is_none() && self.pods.get(key).is_none() {
            return;
        }
        let (namespace, state) = enter(&mut self.namespaces, &key.namespace);
        let key = PodKey { namespace, name: key.name.clone() };
        let pod = pod.map(|pod| {
            let local = pod.node.as_ref() == Some(&self.node);
            (pod, local)
        });
        let Replaced { was, is, stays, born, gone } = self.pods.replace(&key, pod, touched);
        state.groups.extend(born);
        if let Some(gone) = gone {
            state.groups.remove(&gone);
        }
        state.pods = state.pods + usize::from(is.is_some()) - usize::from(was.is_some());
        if state.pods == 0 {
            state.last_labels = None;
        }
        if !stays && [was, is].contains(&Some(true)) {
            touched.local_pods.insert(key.clone());
            if is == Some(true) {
                state.local_pods.insert(key.clone());
            } else {
                state.local_pods.remove(&key);
            }
        }
        self.drop_lingering(&key.namespace, touched);
        self.forget_namespace(&key.namespace);
    }

    fn set_policy(&mut self, policy: Policy, touched: &mut Touched) {
        let key = policy.key.clone();
        let (_, state) = enter(&mut self.namespaces, &key.namespace);
        state.lingering.remove(&key);
        let known = state.policies.get_mut(&key).map(|known| {
            // Another version that says the same changes nothing else.
            known.version.clone_from(&policy.version);
            &*known
        });
        if known != Some(&policy) {
            state.policies.insert(key.clone(), policy);
            touched.policies.insert(key);
        }
    }

    fn remove_policy(&mut self, key: &PolicyKey, touched: &mut Touched) {
        let Some(state) = self.namespaces.get_mut(&key.namespace) else { return };
        if !state.policies.contains_key(key) {
            return;
        }
        state.lingering.insert(key.clone());
        self.drop_lingering(&key.namespace, touched);
        self.forget_namespace(&key.namespace);
    }

    /// Removes deleted policies, unless the namespace is being deleted and pods of this node still need them.
    fn drop_lingering(&mut self, name: &NamespaceName, touched: &mut Touched) {
        let Some(state) = self.namespaces.get_mut(name).filter(|state| !state.lingering.is_empty()) else {
            return;
        };
        if state.is_ending() && (!state.local_pods.is_empty() || self.residents.expects_one_in(name)) {
            return;
        }
        for key in std::mem::take(&mut state.lingering) {
            state.policies.remove(&key);
            touched.policies.insert(key);
        }
    }
}

/// A namespace's state, created if it does not exist, and its name, which everything in it can share.
fn enter<'a>(
    namespaces: &'a mut BTreeMap<NamespaceName, NamespaceState>,
    name: &NamespaceName,
) -> (NamespaceName, &'a mut NamespaceState) {
    let entry = namespaces.entry(name.clone());
    let shared = entry.key().clone();
    (shared, entry.or_default())
}

#[cfg(test)]
mod tests;
