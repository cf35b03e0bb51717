//! Which groups feed which sets, and what a moved address changes.

use super::index::Index;
use super::{Definition, Member, Scope, SetId};
use crate::model::{Cluster, Group, GroupId, Moved, NamespaceName, Slab};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A registered set.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) definition: Arc<Definition>,
    /// How many policy blocks refer to it.
    pub(super) references: usize,
}

/// The registered sets, and the groups that feed each.
#[derive(Clone, Debug, Default)]
pub(super) struct Membership {
    sets: Slab<Registered>,
    ids: BTreeMap<Arc<Definition>, SetId>,
    index: Index,
    /// Sets that lost their last reference since the last burial.
    unreferenced: BTreeSet<SetId>,
    /// By group: the sets it feeds, in order.
    feeds: Vec<Box<[SetId]>>,
}

/// A member that came into (`true`) or went out of (`false`) a set.
pub(super) type MemberChange = (SetId, Member, bool);

impl Membership {
    pub(super) fn id(&self, definition: &Definition) -> Option<SetId> {
        self.ids.get(definition).copied()
    }

    pub(super) fn definition(&self, id: SetId) -> Option<&Arc<Definition>> {
        self.sets.get(id).map(|set| &set.definition)
    }

    pub(super) fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.ids.keys()
    }

    /// Counts one more reference; tells whether the set had to be made for it.
    pub(super) fn acquire(&mut self, cluster: &Cluster, definition: &Arc<Definition>) -> bool {
        if let Some(set) = self.ids.get(definition).and_then(|&id| self.sets.get_mut(id)) {
            set.references += 1;
            return false;
        }
        let id = self.sets.insert(Registered { definition: definition.clone(), references: 1 });
        self.ids.insert(definition.clone(), id);
        self.index.insert(definition, id);
        for group in groups_for(cluster, definition) {
            self.start_feeding(group, id);
        }
        true
    }

    /// Counts one reference less. A set without references stays, and stays right, until `bury`.
    pub(super) fn release(&mut self, definition: &Definition) {
        if let Some(id) = self.id(definition)
            && let Some(set) = self.sets.get_mut(id)
        {
            set.references -= 1;
            if set.references == 0 {
                self.unreferenced.insert(id);
            }
        }
    }

    /// Frees the sets that nothing refers to.
    pub(super) fn bury(&mut self, cluster: &Cluster) -> Vec<Arc<Definition>> {
        let mut buried = Vec::new();
        for id in std::mem::take(&mut self.unreferenced) {
            let Some(set) = self.sets.get(id).filter(|set| set.references == 0) else { continue };
            let definition = set.definition.clone();
            for group in groups_for(cluster, &definition) {
                self.stop_feeding(group, id);
            }
            self.index.remove(&definition, id);
            self.ids.remove(&definition);
            self.sets.remove(id);
            buried.push(definition);
        }
        buried
    }

    pub(super) fn feeds(&self, group: GroupId, set: SetId) -> bool {
        self.feeds_of(group).binary_search(&set).is_ok()
    }

    fn feeds_of(&self, group: GroupId) -> &[SetId] {
        self.feeds.get(group as usize).map_or(&[], |sets| sets)
    }

    /// Finds what a group that came into being feeds.
    pub(super) fn group_born(&mut self, cluster: &Cluster, id: GroupId) {
        let Some(group) = cluster.group(id) else { return };
        let fed = self.index.candidates(group).into_iter().filter(|&set| {
            self.definition(set).is_some_and(|definition| takes_from(cluster, definition, group))
        });
        let fed = fed.collect();
        let slot = id as usize;
        if self.feeds.len() <= slot {
            self.feeds.resize(slot + 1, Box::default());
        }
        self.feeds[slot] = fed;
    }

    pub(super) fn group_gone(&mut self, id: GroupId) {
        if let Some(fed) = self.feeds.get_mut(id as usize) {
            *fed = Box::default();
        }
    }

    /// Works out what the moves of one address change.
    pub(super) fn moved(
        &self,
        cluster: &Cluster,
        address: IpAddr,
        moves: &[Moved],
        out: &mut Vec<MemberChange>,
    ) {
        let (left, joined) =
            (moves.iter().filter_map(|moved| moved.from), moves.iter().filter_map(|moved| moved.to));
        let after: Vec<GroupId> = cluster.holders(address).collect();
        let mut before = after.clone();
        for group in joined.clone() {
            if let Some(hold) = before.iter().position(|&holder| holder == group) {
                before.swap_remove(hold);
            }
        }
        before.extend(left.clone());
        self.compare(cluster, address, left, &after, false, out);
        self.compare(cluster, address, joined, &before, true, out);
    }

    /// Reports members that these groups bring at `address` and the `others` do not.
    fn compare(
        &self,
        cluster: &Cluster,
        address: IpAddr,
        groups: impl Iterator<Item = GroupId>,
        others: &[GroupId],
        came: bool,
        out: &mut Vec<MemberChange>,
    ) {
        for group in groups {
            for &set in self.feeds_of(group) {
                for member in self.brings(cluster, group, set, address) {
                    if !self.held(cluster, others.iter().copied(), set, member) {
                        out.push((set, member, came));
                    }
                }
            }
        }
    }

    /// Works out what new labels of a namespace change, group by group.
    pub(super) fn namespace_changed(
        &mut self,
        cluster: &Cluster,
        namespace: &NamespaceName,
        out: &mut Vec<MemberChange>,
    ) {
        let scoped: Vec<(SetId, Arc<Definition>)> = self
            .sets
            .iter()
            .filter(|(_, set)| {
                matches!(*set.definition, Definition::Pods { namespaces: Scope::Matching(_), .. })
            })
            .map(|(id, set)| (id, set.definition.clone()))
            .collect();
        for (id, group) in cluster.groups_in(namespace) {
            for (set, definition) in &scoped {
                let takes = takes_from(cluster, definition, group);
                if takes == self.feeds(id, *set) {
                    continue;
                }
                if takes {
                    self.start_feeding(id, *set);
                } else {
                    self.stop_feeding(id, *set);
                }
                // Each once, whoever else of the group has it.
                for address in cluster.addresses(group).collect::<BTreeSet<_>>() {
                    for member in definition.members(group, address) {
                        let others = cluster.holders(address).filter(|&other| other != id);
                        if !self.held(cluster, others, *set, member) {
                            out.push((*set, member, takes));
                        }
                    }
                }
            }
        }
    }

    /// Everything a set of pods or named ports holds.
    pub(super) fn members(&self, cluster: &Cluster, definition: &Definition) -> BTreeSet<Member> {
        let Some(set) = self.id(definition) else { return BTreeSet::new() };
        let groups = cluster.groups().filter(|(id, _)| self.feeds(*id, set));
        groups
            .flat_map(|(_, group)| {
                cluster.addresses(group).flat_map(|address| definition.members(group, address))
            })
            .collect()
    }

    /// Whether any pod at the member's address brings it into a set.
    pub(super) fn contains(&self, cluster: &Cluster, set: SetId, member: Member) -> bool {
        self.held(cluster, cluster.holders(member.address()), set, member)
    }

    fn held(
        &self,
        cluster: &Cluster,
        groups: impl IntoIterator<Item = GroupId>,
        set: SetId,
        member: Member,
    ) -> bool {
        let address = member.address();
        groups.into_iter().any(|group| self.brings(cluster, group, set, address).contains(&member))
    }

    fn brings(&self, cluster: &Cluster, group: GroupId, set: SetId, address: IpAddr) -> Vec<Member> {
        let Some(definition) = self.definition(set).filter(|_| self.feeds(group, set)) else {
            return Vec::new();
        };
        cluster.group(group).map_or_else(Vec::new, |group| definition.members(group, address))
    }

    fn start_feeding(&mut self, group: GroupId, set: SetId) {
        let mut fed: BTreeSet<SetId> = self.feeds_of(group).iter().copied().collect();
        if fed.insert(set) {
            self.replace_feeds(group, fed);
        }
    }

    fn stop_feeding(&mut self, group: GroupId, set: SetId) {
        let mut fed: BTreeSet<SetId> = self.feeds_of(group).iter().copied().collect();
        if fed.remove(&set) {
            self.replace_feeds(group, fed);
        }
    }

    fn replace_feeds(&mut self, group: GroupId, fed: BTreeSet<SetId>) {
        let slot = group as usize;
        if self.feeds.len() <= slot {
            self.feeds.resize(slot + 1, Box::default());
        }
        self.feeds[slot] = fed.into_iter().collect();
    }
}

/// Whether a set takes in the pods of a group.
fn takes_from(cluster: &Cluster, definition: &Definition, group: &Group) -> bool {
    match definition {
        Definition::Pods { namespaces, pods } => {
            let in_scope = match namespaces {
                Scope::One(name) => *name == group.namespace,
                Scope::Matching(selector) => {
                    cluster.namespace_labels(&group.namespace).is_some_and(|labels| selector.matches(labels))
                }
            };
            in_scope && pods.matches(&group.labels)
        }
        Definition::NamedPort { name, protocol } => {
            group.ports.iter().any(|port| port.name == *name && port.protocol == *protocol)
        }
        Definition::Blocks(_) => false,
    }
}

/// The groups that a set takes from, found by asking those in its scope.
fn groups_for(cluster: &Cluster, definition: &Definition) -> Vec<GroupId> {
    let taken = |(_, group): &(GroupId, &Group)| takes_from(cluster, definition, group);
    match definition {
        Definition::Pods { namespaces: Scope::One(name), .. } => {
            cluster.groups_in(name).filter(taken).map(|(id, _)| id).collect()
        }
        Definition::Pods { namespaces: Scope::Matching(selector), .. } => {
            let in_scope = |name: &&NamespaceName| {
                cluster.namespace_labels(name).is_some_and(|labels| selector.matches(labels))
            };
            let groups = cluster.namespaces().filter(in_scope).flat_map(|name| cluster.groups_in(name));
            groups.filter(taken).map(|(id, _)| id).collect()
        }
        Definition::NamedPort { .. } => cluster.groups().filter(taken).map(|(id, _)| id).collect(),
        Definition::Blocks(_) => Vec::new(),
    }
}
