//! The pods that have an address: in groups that no policy can distinguish, and by their addresses.

use crate::collections::{HashIndex, Interner, Slab};
use crate::model::{Labels, Moved, NamedPort, NamespaceName, Owner, Pod, PodKey, Touched};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The number of a group.
pub type GroupId = u32;

/// The number of a pod, which does not change while the pod has an address.
type PodId = u32;

/// Pods of one namespace that no policy can distinguish: they have the same labels and the same named ports, and all of
/// them or none may be peers.
///
/// Thousands of pods share a few groups, so selectors are evaluated for groups and never for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The namespace of the pods.
    pub namespace: NamespaceName,
    /// Their labels.
    pub labels: Labels,
    /// Their named ports.
    pub ports: Box<[NamedPort]>,
    /// Whether policies may select them as peers. A pod that has finished is still isolated while its sandbox exists,
    /// but is no peer.
    pub peers: bool,
    pods: BTreeSet<PodId>,
}

impl Group {
    /// Everything that distinguishes it from other groups.
    fn content(&self) -> (&NamespaceName, &Labels, &[NamedPort], bool) {
        (&self.namespace, &self.labels, &self.ports, self.peers)
    }
}

/// A pod's addresses, in order and without duplicates. Most pods have one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Addresses {
    One(IpAddr),
    More(Box<[IpAddr]>),
}

impl Addresses {
    fn new(mut addresses: Vec<IpAddr>) -> Addresses {
        addresses.sort_unstable();
        addresses.dedup();
        match addresses[..] {
            [one] => Addresses::One(one),
            _ => Addresses::More(addresses.into()),
        }
    }

    fn as_slice(&self) -> &[IpAddr] {
        match self {
            Addresses::One(one) => std::slice::from_ref(one),
            Addresses::More(more) => more,
        }
    }
}

/// The state of a pod that matters to policies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodLocation {
    group: GroupId,
    local: bool,
    addresses: Addresses,
}

#[derive(Clone, Debug)]
pub(super) struct PodState {
    key: PodKey,
    place: PodLocation,
    owner: Option<Arc<Owner>>,
}

impl PodState {
    pub(super) fn group(&self) -> GroupId {
        self.place.group
    }

    pub(super) fn is_local(&self) -> bool {
        self.place.local
    }

    pub(super) fn addresses(&self) -> &[IpAddr] {
        self.place.addresses.as_slice()
    }

    pub(super) fn owner(&self) -> Option<&Owner> {
        self.owner.as_deref()
    }
}

/// The result of replacing a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Replaced {
    /// `None` if it did not exist before, else whether it was on this node.
    pub(super) was: Option<bool>,
    /// `None` if it does not exist now, else whether it is on this node.
    pub(super) is: Option<bool>,
    /// Whether its state is unchanged.
    pub(super) stays: bool,
    /// The group that was created for it.
    pub(super) born: Option<GroupId>,
    /// The group whose last pod it was.
    pub(super) gone: Option<GroupId>,
}

/// All pods that have an address.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    pods: Slab<PodState>,
    by_key: HashIndex<PodId>,
    /// The pods of each address. Two pods may have one address for a moment.
    by_address: HashIndex<(IpAddr, PodId)>,
    /// The addresses that more than one pod has.
    shared: BTreeSet<IpAddr>,
    groups: Slab<Group>,
    by_content: HashIndex<GroupId>,
    groups_gone: Vec<GroupId>,
    /// The controllers of the pods: thousands of pods share a few.
    owners: Interner<Arc<Owner>>,
}

impl Pods {
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    pub(super) fn get(&self, key: &PodKey) -> Option<&PodState> {
        self.pods.get(self.id(key)?)
    }

    fn id(&self, key: &PodKey) -> Option<PodId> {
        self.by_key.get(key, |id| self.pods.get(*id).is_some_and(|pod| pod.key == *key)).copied()
    }

    /// Whether more than one pod has an address.
    pub(super) fn share(&self, address: IpAddr) -> bool {
        self.shared.contains(&address)
    }

    /// The pods of other nodes that have an address, as they were reported.
    pub(super) fn remote_at(&self, address: IpAddr) -> Vec<Pod> {
        let holders = self.by_address.candidates(&address).filter(|(own, _)| *own == address);
        let remote = holders.filter_map(|(_, id)| self.pods.get(*id)).filter(|pod| !pod.is_local());
        remote.filter_map(|pod| self.reported(pod)).collect()
    }

    /// A pod as it was reported, without its node, its uid, and whether it has finished.
    pub(super) fn reported(&self, pod: &PodState) -> Option<Pod> {
        let group = self.groups.get(pod.place.group)?;
        Some(Pod {
            owner: pod.owner.clone(),
            labels: group.labels.clone(),
            ports: group.ports.to_vec(),
            addresses: pod.addresses().to_vec(),
            ..Pod::new(pod.key.clone())
        })
    }

    /// The pods of some numbers, from one on, and the number from which to go on.
    pub(super) fn part(&self, first: u32, most: usize) -> (impl Iterator<Item = &PodState>, Option<u32>) {
        self.pods.part(first, most)
    }

    /// The pods that have an address, with their groups.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = (&PodKey, GroupId)> {
        let holders = self.by_address.candidates(&address).filter(move |(own, _)| *own == address);
        holders.filter_map(|(_, id)| self.pods.get(*id)).map(|pod| (&pod.key, pod.place.group))
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(super) fn group_of(&self, pod: &PodState) -> Option<&Group> {
        self.groups.get(pod.place.group)
    }

    /// Every group that has pods.
    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().filter(|(_, group)| !group.pods.is_empty())
    }

    pub(super) fn addresses(&self, group: &Group) -> impl Iterator<Item = IpAddr> {
        group.pods.iter().filter_map(|id| self.pods.get(*id)).flat_map(|pod| pod.addresses().iter().copied())
    }

    /// Frees the numbers of the groups that were removed since the last call.
    pub(super) fn forget_groups(&mut self) {
        for group in std::mem::take(&mut self.groups_gone) {
            self.groups.remove(group);
        }
    }

    /// Replaces a pod by its current state, and notes whether it is on this node; `None` for one that no longer has an
    /// address.
    pub(super) fn replace(
        &mut self,
        key: &PodKey,
        new: Option<(Pod, bool)>,
        touched: &mut Touched,
    ) -> Replaced {
        let mut born = None;
        let new = new.map(|(pod, local)| self.place(key, pod, local, &mut born));
        touched.groups_born.extend(born);
        let now = new.as_ref().map(|new| new.place.clone());
        let Some((id, old)) = self.put(key, new) else { return Replaced::default() };
        let (before, owner) = old.map(|old| (old.place, old.owner)).unzip();
        if let Some(owner) = owner.flatten() {
            self.owners.release(&owner);
        }
        let stays = before == now;
        let gone = if stays { None } else { self.move_pod(id, before.as_ref(), now.as_ref(), touched) };
        touched.groups_gone.extend(gone);
        self.groups_gone.extend(gone);
        let local = |place: Option<PodLocation>| place.map(|place| place.local);
        Replaced { was: local(before), is: local(now), stays, born, gone }
    }

    /// Finds or creates the group of a pod.
    fn place(&mut self, key: &PodKey, pod: Pod, local: bool, born: &mut Option<GroupId>) -> PodState {
        let mut ports = pod.ports;
        ports.sort_unstable();
        ports.dedup();
        let content = (&key.namespace, &pod.labels, &ports[..], !pod.finished);
        let is = |id: &GroupId| self.groups.get(*id).is_some_and(|group| group.content() == content);
        let group = self.by_content.get(&content, is).copied().unwrap_or_else(|| {
            let id = self.groups.insert(Group {
                namespace: key.namespace.clone(),
                labels: pod.labels.clone(),
                ports: ports.as_slice().into(),
                peers: !pod.finished,
                pods: BTreeSet::new(),
            });
            self.by_content.insert(&content, id);
            *born = Some(id);
            id
        });
        let owner = pod.owner.map(|owner| self.owners.share(owner));
        let place = PodLocation { group, local, addresses: Addresses::new(pod.addresses) };
        PodState { key: key.clone(), place, owner }
    }

    /// Stores or removes a pod; returns its number and the previous state. `None` if nothing changes.
    fn put(&mut self, key: &PodKey, new: Option<PodState>) -> Option<(PodId, Option<PodState>)> {
        match (self.id(key), new) {
            (Some(id), Some(new)) => Some((id, self.pods.get_mut(id).map(|pod| std::mem::replace(pod, new)))),
            (Some(id), None) => {
                self.by_key.remove(key, |own| *own == id);
                Some((id, self.pods.remove(id)))
            }
            (None, Some(new)) => {
                let id = self.pods.insert(new);
                self.by_key.insert(key, id);
                Some((id, None))
            }
            (None, None) => None,
        }
    }

    /// Moves a pod's addresses from its old group to its new one; returns the group whose last pod it was.
    fn move_pod(
        &mut self,
        id: PodId,
        before: Option<&PodLocation>,
        now: Option<&PodLocation>,
        touched: &mut Touched,
    ) -> Option<GroupId> {
        let (from, to) = (before.map(|place| place.group), now.map(|place| place.group));
        let lost = before.map_or(&[][..], |place| place.addresses.as_slice());
        let gained = now.map_or(&[][..], |place| place.addresses.as_slice());
        for address in lost {
            let to = to.filter(|_| gained.contains(address));
            if to.is_none() {
                self.by_address.remove(address, |own| *own == (*address, id));
                if !self.shared.is_empty() && self.at(*address).nth(1).is_none() {
                    self.shared.remove(address);
                }
            }
            if from != to {
                touched.moved.push(Moved { address: *address, from, to });
            }
        }
        for address in gained.iter().filter(|address| !lost.contains(address)) {
            if self.at(*address).next().is_some() {
                self.shared.insert(*address);
            }
            self.by_address.insert(address, (*address, id));
            touched.moved.push(Moved { address: *address, from: None, to });
        }
        if from == to {
            return None;
        }
        if let Some(group) = to.and_then(|to| self.groups.get_mut(to)) {
            group.pods.insert(id);
        }
        from.filter(|from| self.leaves_empty(id, *from))
    }

    /// Removes a pod from a group; returns whether it was the last. No pod can join such a group any more.
    fn leaves_empty(&mut self, pod: PodId, id: GroupId) -> bool {
        let Some(group) = self.groups.get_mut(id) else { return false };
        group.pods.remove(&pod);
        let is_empty = group.pods.is_empty();
        if is_empty {
            self.by_content.remove(&group.content(), |own| *own == id);
        }
        is_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Cluster};

    #[test]
    fn owner_that_changes_touches_nothing_and_is_forgotten_with_its_last_pod() {
        let mut cluster = Cluster::new("node-a");
        let key = PodKey::new("shop", "web");
        for node in ["node-a", "node-b"] {
            let pod = |owner: Option<Arc<Owner>>| {
                Change::Pod(Pod {
                    node: Some(node.into()),
                    owner,
                    addresses: vec![[10, 244, 1, 10].into()],
                    ..Pod::new(key.clone())
                })
            };
            cluster.apply(pod(None));
            for name in ["web-1", "web-2"] {
                assert!(
                    cluster
                        .apply(pod(Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: name.into() }))))
                        .is_empty()
                );
                let found = cluster.owner_of(&key).map(ToString::to_string);
                assert_eq!(found, Some(format!("ReplicaSet/{name}")));
                assert_eq!(cluster.pods.owners.len(), 1);
            }
            cluster.apply(Change::PodGone(key.clone()));
            assert_eq!((cluster.owner_of(&key), cluster.pods.owners.len()), (None, 0));
        }
    }
}
