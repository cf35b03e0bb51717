//! Everything known of the cluster, changed one fact at a time.

mod pods;
mod ports;
mod residents;

pub use pods::{Group, GroupId};

use super::{Change, Labels, Namespace, NamespaceName, Owner, Pod, PodKey, Policy, PolicyKey, Touched};
use pods::{PodState, Pods, Replaced};
use ports::Ports;
use residents::Residents;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
struct NamespaceState {
    labels: Labels,
    /// Whether the namespace's own object has been seen and not yet gone.
    known: bool,
    terminating: bool,
    pods: usize,
    groups: BTreeSet<GroupId>,
    local_pods: BTreeSet<PodKey>,
    policies: BTreeMap<PolicyKey, Policy>,
    /// Policies deleted ahead of the pods they guard, while the namespace goes.
    lingering: BTreeSet<PolicyKey>,
}

/// Everything known of the cluster, as seen from one node.
#[derive(Clone, Debug)]
pub struct Cluster {
    node: Arc<str>,
    namespaces: BTreeMap<NamespaceName, NamespaceState>,
    pods: Pods,
    residents: Residents,
    ports: Ports,
}

impl Cluster {
    /// An empty cluster, seen from the node of this name.
    pub fn new(node: &str) -> Cluster {
        Cluster {
            node: node.into(),
            namespaces: BTreeMap::new(),
            pods: Pods::default(),
            residents: Residents::default(),
            ports: Ports::default(),
        }
    }

    /// Takes in one fact and tells what it may have affected.
    pub fn apply(&mut self, change: Change) -> Touched {
        self.pods.forget_groups();
        let mut touched = Touched::default();
        match change {
            Change::Namespace(namespace) => self.set_namespace(namespace, &mut touched),
            Change::NamespaceUnreadable(name) | Change::NamespaceGone(name) => {
                self.remove_namespace(&name, &mut touched)
            }
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

    /// The node this cluster is seen from.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A policy.
    pub fn policy(&self, key: &PolicyKey) -> Option<&Policy> {
        self.namespaces.get(&key.namespace)?.policies.get(key)
    }

    /// The policies of a namespace.
    pub fn policies_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Policy> {
        self.namespaces.get(namespace).into_iter().flat_map(|state| state.policies.values())
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.namespaces.values().flat_map(|state| state.policies.values())
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

    /// Whether a pod is one of this node's, and has an address.
    pub fn is_local(&self, key: &PodKey) -> bool {
        self.pods.get(key).is_some_and(PodState::is_local)
    }

    /// What made a pod that has an address, if anything did.
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

    /// The addresses of a group's pods. One that two of them hold comes twice.
    pub fn addresses(&self, group: &Group) -> impl Iterator<Item = IpAddr> {
        self.pods.addresses(group)
    }

    /// The groups of the pods that hold an address, one for each pod.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = GroupId> {
        self.pods.at(address).map(|(_, group)| group)
    }

    /// Whether any pod holds an address.
    pub fn is_held(&self, address: IpAddr) -> bool {
        self.holders(address).next().is_some()
    }

    /// The pods that hold an address, by name, with their groups.
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

    /// The labels of a namespace; none that are known for one never heard of.
    pub fn namespace_labels(&self, name: &NamespaceName) -> Option<&Labels> {
        self.namespaces.get(name).map(|state| &state.labels)
    }

    fn set_namespace(&mut self, namespace: Namespace, touched: &mut Touched) {
        let (_, state) = enter(&mut self.namespaces, &namespace.name);
        state.known = true;
        state.terminating = namespace.terminating;
        if state.labels != namespace.labels {
            state.labels = namespace.labels;
            touched.namespaces.push(namespace.name.clone());
        }
        self.drop_lingering(&namespace.name, touched);
    }

    fn remove_namespace(&mut self, name: &NamespaceName, touched: &mut Touched) {
        let Some(state) = self.namespaces.get_mut(name) else { return };
        state.known = false;
        let labels = Labels::of_unknown_namespace(name);
        if state.labels != labels {
            state.labels = labels;
            touched.namespaces.push(name.clone());
        }
        self.forget_namespace(name);
    }

    fn forget_namespace(&mut self, name: &NamespaceName) {
        let empty = |state: &NamespaceState| !state.known && state.pods == 0 && state.policies.is_empty();
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
        if state.policies.get(&key) != Some(&policy) {
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

    /// Lets deleted policies go, unless the namespace is going and pods here still need their guard.
    fn drop_lingering(&mut self, name: &NamespaceName, touched: &mut Touched) {
        let Some(state) = self.namespaces.get_mut(name).filter(|state| !state.lingering.is_empty()) else {
            return;
        };
        let going = state.terminating || !state.known;
        if going && (!state.local_pods.is_empty() || self.residents.expects_one_in(name)) {
            return;
        }
        for key in std::mem::take(&mut state.lingering) {
            state.policies.remove(&key);
            touched.policies.insert(key);
        }
    }
}

/// A namespace's state, made if need be, and its name as all that is in it may share.
fn enter<'a>(
    namespaces: &'a mut BTreeMap<NamespaceName, NamespaceState>,
    name: &NamespaceName,
) -> (NamespaceName, &'a mut NamespaceState) {
    let entry = namespaces.entry(name.clone());
    let shared = entry.key().clone();
    let state = entry.or_insert_with(|| NamespaceState {
        labels: Labels::of_unknown_namespace(name),
        ..NamespaceState::default()
    });
    (shared, state)
}
