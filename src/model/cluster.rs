//! Everything known of the cluster, changed one fact at a time.

mod holders;
mod owners;
mod residents;

use owners::Owners;
use residents::Residents;

use super::{
    Change, Labels, Moved, NamedPort, Namespace, NamespaceName, Owner, Pod, PodKey, Policy, PolicyKey, Slab,
    Touched,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The number of a group.
pub type GroupId = u32;

/// Pods of one namespace that no policy can tell apart: the same labels, the same named ports.
///
/// Thousands of pods share a few groups, so selectors are asked about groups and never about pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where the pods live.
    pub namespace: NamespaceName,
    /// Their labels.
    pub labels: Labels,
    /// Their named ports.
    pub ports: Box<[NamedPort]>,
    /// Their addresses.
    pub addresses: BTreeSet<IpAddr>,
}

type GroupKey = (NamespaceName, Labels, Box<[NamedPort]>);

#[derive(Clone, Debug)]
struct PodState {
    group: GroupId,
    local: bool,
    addresses: Box<[IpAddr]>,
    owner: Option<Arc<Owner>>,
}

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
    pods: BTreeMap<PodKey, PodState>,
    groups: Slab<Group>,
    group_ids: BTreeMap<GroupKey, GroupId>,
    groups_gone: Vec<GroupId>,
    /// Every pod's hold on an address, as the pod's group. Two pods may hold one address for a moment.
    holders: BTreeMap<IpAddr, Vec<GroupId>>,
    residents: Residents,
    owners: Owners,
}

impl Cluster {
    /// An empty cluster, seen from the node of this name.
    pub fn new(node: &str) -> Cluster {
        Cluster {
            node: node.into(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            groups: Slab::default(),
            group_ids: BTreeMap::new(),
            groups_gone: Vec::new(),
            holders: BTreeMap::new(),
            residents: Residents::default(),
            owners: Owners::default(),
        }
    }

    /// Takes in one fact and tells what it may have affected.
    pub fn apply(&mut self, change: Change) -> Touched {
        for group in std::mem::take(&mut self.groups_gone) {
            self.groups.remove(group);
        }
        let mut touched = Touched::default();
        match change {
            Change::Namespace(namespace) => self.set_namespace(namespace, &mut touched),
            Change::NamespaceGone(name) => self.remove_namespace(&name, &mut touched),
            Change::Pod(pod) => self.set_pod(pod, &mut touched),
            Change::PodGone(key) => self.remove_pod(&key, &mut touched),
            Change::Policy(policy) => self.set_policy(policy, &mut touched),
            Change::PolicyGone(key) => self.remove_policy(&key, &mut touched),
            Change::Sandbox(sandbox) => self.set_sandbox(sandbox, &mut touched),
            Change::SandboxGone(key) => self.remove_sandbox(&key, &mut touched),
        }
        self.groups_gone.clone_from(&touched.groups_gone);
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

    /// The addresses of a pod, and its group.
    pub fn pod(&self, key: &PodKey) -> Option<(&[IpAddr], &Group)> {
        let state = self.pods.get(key)?;
        Some((&state.addresses, self.group(state.group)?))
    }

    /// The pods of a namespace that have an address, by name, with their groups.
    pub fn pods_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = (&PodKey, &Group)> {
        let from = self.pods.range(PodKey::new(namespace.as_str(), "")..);
        let own = from.take_while(move |(key, _)| key.namespace == *namespace);
        own.filter_map(|(key, state)| Some((key, self.group(state.group)?)))
    }

    /// Whether a pod is one of this node's, and has an address.
    pub fn is_local(&self, key: &PodKey) -> bool {
        self.pods.get(key).is_some_and(|state| state.local)
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    /// Every group that has pods.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().filter(|(_, group)| !group.addresses.is_empty())
    }

    /// The groups of a namespace.
    pub fn groups_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = (GroupId, &Group)> {
        let ids = self.namespaces.get(namespace).into_iter().flat_map(|state| &state.groups);
        ids.filter_map(|&id| Some((id, self.groups.get(id)?)))
    }
    /// The names of all namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &NamespaceName> {
        self.namespaces.keys()
    }

    /// The labels of a namespace; none that are known for one never heard of.
    pub fn namespace_labels(&self, name: &NamespaceName) -> Option<&Labels> {
        self.namespaces.get(name).map(|state| &state.labels)
    }

    fn namespace(&mut self, name: &NamespaceName) -> &mut NamespaceState {
        self.namespaces.entry(name.clone()).or_insert_with(|| NamespaceState {
            labels: Labels::of_unknown_namespace(name),
            ..Default::default()
        })
    }

    fn set_namespace(&mut self, namespace: Namespace, touched: &mut Touched) {
        let state = self.namespace(&namespace.name);
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
        let old = self.pods.remove(key);
        if old.is_none() && pod.is_none() {
            return;
        }
        let gained: Box<[IpAddr]> = pod.as_ref().map_or_else(Box::default, |pod| distinct(&pod.addresses));
        let kept = |address: &IpAddr| gained.contains(address);
        let new = pod.map(|pod| self.place(pod, touched));
        let (from, to) = (old.as_ref().map(|old| old.group), new.as_ref().map(|new| new.group));
        for &address in old.iter().flat_map(|old| &old.addresses) {
            let to = to.filter(|_| kept(&address));
            self.move_address(address, from, to, touched);
        }
        for &address in new.iter().flat_map(|new| &new.addresses) {
            if !old.as_ref().is_some_and(|old| old.addresses.contains(&address)) {
                self.move_address(address, None, to, touched);
            }
        }
        self.bury_if_empty(from, touched);
        self.account(key, old.as_ref(), new, touched);
        old.and_then(|old| old.owner).into_iter().for_each(|owner| self.owners.release(owner));
    }

    /// Finds or makes the group of a pod.
    fn place(&mut self, pod: Pod, touched: &mut Touched) -> PodState {
        self.namespace(&pod.key.namespace);
        let local = pod.node.as_ref() == Some(&self.node);
        let mut ports = pod.ports;
        ports.sort();
        ports.dedup();
        let group_key = (pod.key.namespace, pod.labels, ports.into_boxed_slice());
        let group = self.group_ids.get(&group_key).copied().unwrap_or_else(|| {
            let (namespace, labels, ports) = group_key.clone();
            let group = Group { namespace, labels, ports, addresses: BTreeSet::new() };
            let id = self.groups.insert(group);
            self.namespace(&group_key.0).groups.insert(id);
            self.group_ids.insert(group_key, id);
            touched.groups_born.push(id);
            id
        });
        let owner = pod.owner.map(|owner| self.owners.share(owner));
        PodState { group, local, addresses: distinct(&pod.addresses), owner }
    }

    fn move_address(
        &mut self,
        address: IpAddr,
        from: Option<GroupId>,
        to: Option<GroupId>,
        touched: &mut Touched,
    ) {
        if from == to {
            return;
        }
        let holders = self.holders.entry(address).or_default();
        if let Some(position) = holders.iter().position(|&holder| Some(holder) == from) {
            holders.swap_remove(position);
        }
        holders.extend(to);
        let still_held = from.is_some_and(|from| holders.contains(&from));
        if holders.is_empty() {
            self.holders.remove(&address);
        }
        if let Some(group) = from.filter(|_| !still_held).and_then(|from| self.groups.get_mut(from)) {
            group.addresses.remove(&address);
        }
        if let Some(group) = to.and_then(|to| self.groups.get_mut(to)) {
            group.addresses.insert(address);
        }
        touched.moved.push(Moved { address, from, to });
    }

    fn bury_if_empty(&mut self, group: Option<GroupId>, touched: &mut Touched) {
        let Some(id) = group else { return };
        let Some(group) = self.groups.get(id).filter(|group| group.addresses.is_empty()) else { return };
        let key = (group.namespace.clone(), group.labels.clone(), group.ports.clone());
        self.group_ids.remove(&key);
        self.namespace(&key.0).groups.remove(&id);
        touched.groups_gone.push(id);
    }

    /// Keeps the books on which pods there are and which are local.
    fn account(
        &mut self,
        key: &PodKey,
        old: Option<&PodState>,
        new: Option<PodState>,
        touched: &mut Touched,
    ) {
        let was_local = old.is_some_and(|old| old.local);
        let is_local = new.as_ref().is_some_and(|new| new.local);
        let same = match (old, &new) {
            (Some(old), Some(new)) => old.group == new.group && old.addresses == new.addresses,
            (None, _) | (_, None) => false,
        };
        if (was_local || is_local) && !(same && was_local == is_local) {
            touched.local_pods.insert(key.clone());
        }
        let state = self.namespace(&key.namespace);
        state.pods = state.pods + usize::from(new.is_some()) - usize::from(old.is_some());
        if is_local {
            state.local_pods.insert(key.clone());
        } else {
            state.local_pods.remove(key);
        }
        if let Some(new) = new {
            let namespace = self.namespaces.get_key_value(&key.namespace).map(|(name, _)| name.clone());
            let key = PodKey {
                namespace: namespace.unwrap_or_else(|| key.namespace.clone()),
                name: key.name.clone(),
            };
            self.pods.insert(key, new);
        }
        self.drop_lingering(&key.namespace, touched);
        self.forget_namespace(&key.namespace);
    }

    fn set_policy(&mut self, policy: Policy, touched: &mut Touched) {
        let key = policy.key.clone();
        let state = self.namespace(&key.namespace);
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
        let Some(state) = self.namespaces.get_mut(name) else { return };
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

fn distinct(addresses: &[IpAddr]) -> Box<[IpAddr]> {
    addresses.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}
