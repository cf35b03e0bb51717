//! Which groups feed which sets, and how sets change when an address moves between groups.

use super::index::Index;
use super::{Member, Scope, SetDefinition, SetId, Union};
use crate::collections::Slab;
use crate::model::{Cluster, Group, GroupId, Moved, NamedPort, NamespaceName, Selector};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A registered set.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) definition: Arc<SetDefinition>,
    /// The number of policy blocks that refer to it.
    pub(super) references: usize,
    /// About how many members it has.
    members: usize,
}

/// A set after another reference to it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    /// About how many members it has.
    pub(super) members: usize,
    /// Whether it had to be created.
    pub(super) is_new: bool,
}

/// The registered sets, and the groups that feed each.
#[derive(Clone, Debug, Default)]
pub(super) struct Membership {
    sets: Slab<Registered>,
    ids: BTreeMap<Arc<SetDefinition>, SetId>,
    index: Index,
    /// Sets that lost their last reference since the last call of `bury`.
    unreferenced: BTreeSet<SetId>,
    /// By group: the sets that it feeds, in order.
    feeds: Vec<Vec<SetId>>,
}

/// A member that was added to (`true`) or removed from (`false`) a set.
pub(super) type MemberChange = (SetId, Member, bool);

impl Membership {
    pub(super) fn id(&self, definition: &SetDefinition) -> Option<SetId> {
        self.ids.get(definition).copied()
    }

    pub(super) fn definition(&self, id: SetId) -> Option<&Arc<SetDefinition>> {
        self.sets.get(id).map(|set| &set.definition)
    }

    pub(super) fn definitions(&self) -> impl Iterator<Item = &Arc<SetDefinition>> {
        self.ids.keys()
    }

    /// Counts one more reference, and makes the set if it is not there. A set of more than `most` members is an error: how many.
    pub(super) fn acquire(
        &mut self,
        cluster: &Cluster,
        definition: &Arc<SetDefinition>,
        most: usize,
    ) -> Result<Acquired, usize> {
        if let Some(set) = self.ids.get(definition).and_then(|&id| self.sets.get_mut(id)) {
            if set.members > most {
                return Err(set.members);
            }
            set.references += 1;
            return Ok(Acquired { members: set.members, is_new: false });
        }
        let groups = groups_for(cluster, definition);
        let pods = groups.iter().filter_map(|group| cluster.group(*group));
        let members =
            blocks_in(definition) + pods.map(|group| cluster.addresses(group).count()).sum::<usize>();
        if members > most {
            return Err(members);
        }
        let id = self.sets.insert(Registered { definition: definition.clone(), references: 1, members });
        self.ids.insert(definition.clone(), id);
        self.index.insert(definition, id);
        groups.into_iter().for_each(|group| self.start_feeding(group, id));
        Ok(Acquired { members, is_new: true })
    }

    /// Adds a reference to an existing set.
    pub(super) fn refer(&mut self, definition: &SetDefinition) {
        if let Some(set) = self.id(definition).and_then(|id| self.sets.get_mut(id)) {
            set.references += 1;
        }
    }

    /// Counts a member that was added or removed.
    pub(super) fn count(&mut self, (set, _, came): MemberChange) {
        if let Some(set) = self.sets.get_mut(set) {
            set.members = if came { set.members + 1 } else { set.members.saturating_sub(1) };
        }
    }

    /// The approximate number of a set's members.
    pub(super) fn size(&self, definition: &SetDefinition) -> usize {
        self.id(definition).and_then(|id| self.sets.get(id)).map_or(0, |set| set.members)
    }

    /// Removes a reference. A set without references is kept, and kept up to date, until `bury`.
    pub(super) fn release(&mut self, definition: &SetDefinition) {
        if let Some(id) = self.id(definition)
            && let Some(set) = self.sets.get_mut(id)
        {
            set.references -= 1;
            if set.references == 0 {
                self.unreferenced.insert(id);
            }
        }
    }

    /// Frees the sets without references.
    pub(super) fn bury(&mut self, cluster: &Cluster) -> Vec<Arc<SetDefinition>> {
        let mut buried = Vec::new();
        for id in std::mem::take(&mut self.unreferenced) {
            let Some(set) = self.sets.get(id).filter(|set| set.references == 0) else { continue };
            let definition = set.definition.clone();
            match *definition {
                // Checking the peers of a union would cost more than walking over every group.
                SetDefinition::AnyOf(_) => self.feeds.iter_mut().for_each(|fed| stop_feeding(fed, id)),
                SetDefinition::Pods { .. } | SetDefinition::NamedPort { .. } | SetDefinition::Blocks(_) => {
                    for group in groups_for(cluster, &definition) {
                        self.stop_feeding(group, id);
                    }
                }
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

    /// Finds the sets that a new group feeds.
    pub(super) fn group_born(&mut self, cluster: &Cluster, id: GroupId) {
        let Some(group) = cluster.group(id) else { return };
        let mut fed = BTreeSet::new();
        for (set, peer) in self.index.candidates(group) {
            let takes = |definition: &Arc<SetDefinition>| takes_by_peer(cluster, definition, peer, group);
            if !fed.contains(&set) && self.definition(set).is_some_and(takes) {
                fed.insert(set);
            }
        }
        *self.feeds_mut(id) = fed.into_iter().collect();
    }

    pub(super) fn group_gone(&mut self, id: GroupId) {
        if let Some(fed) = self.feeds.get_mut(id as usize) {
            *fed = Vec::new();
        }
    }

    /// The changes of sets that result from moves of one address.
    pub(super) fn moved(
        &self,
        cluster: &Cluster,
        address: IpAddr,
        moves: &[Moved],
        out: &mut Vec<MemberChange>,
    ) {
        let after: Vec<GroupId> = cluster.holders(address).collect();
        let mut before = after.clone();
        for group in moves.iter().filter_map(|moved| moved.to) {
            if let Some(hold) = before.iter().position(|&holder| holder == group) {
                before.swap_remove(hold);
            }
        }
        before.extend(moves.iter().filter_map(|moved| moved.from));
        let (before, after) =
            (self.all_bring(cluster, &before, address), self.all_bring(cluster, &after, address));
        let missing =
            |from: &[(SetId, Member)], member: &(SetId, Member)| from.binary_search(member).is_err();
        out.extend(
            before.iter().filter(|own| missing(&after, own)).map(|&(set, member)| (set, member, false)),
        );
        out.extend(
            after.iter().filter(|own| missing(&before, own)).map(|&(set, member)| (set, member, true)),
        );
    }

    /// What all of these groups add to sets for an address, in order, because it is not known which of their pods has
    /// it.
    fn all_bring(&self, cluster: &Cluster, groups: &[GroupId], address: IpAddr) -> Vec<(SetId, Member)> {
        let Some((&first, others)) = groups.split_first() else { return Vec::new() };
        let fed = self.feeds_of(first).iter();
        let brought = fed.flat_map(|&set| {
            self.brings(cluster, first, set, address).into_iter().map(move |member| (set, member))
        });
        let mut brought: Vec<_> = brought
            .filter(|(set, member)| self.held(cluster, others.iter().copied(), *set, *member))
            .collect();
        brought.sort_unstable();
        brought
    }

    /// The changes of sets that result from new labels of a namespace, group by group.
    pub(super) fn namespace_changed(
        &mut self,
        cluster: &Cluster,
        namespace: &NamespaceName,
        out: &mut Vec<MemberChange>,
    ) {
        let scoped: Vec<(SetId, Arc<SetDefinition>)> = self
            .sets
            .iter()
            .filter(|(_, set)| asks_namespaces(&set.definition))
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
                // Each once, even if several pods of the group have it.
                for address in cluster.addresses(group).collect::<BTreeSet<_>>() {
                    for member in definition.members(group, address) {
                        let others = cluster.holders(address).filter(|&other| other != id);
                        if self.held(cluster, others, *set, member) {
                            out.push((*set, member, takes));
                        }
                    }
                }
            }
        }
    }

    /// All members of a set of pods or named ports.
    pub(super) fn members(&self, cluster: &Cluster, definition: &SetDefinition) -> BTreeSet<Member> {
        let Some(set) = self.id(definition) else { return BTreeSet::new() };
        let fed = |(id, _): &(GroupId, &Group)| self.feeds(*id, set);
        let members =
            |(_, group)| cluster.addresses(group).flat_map(move |address| definition.members(group, address));
        let is_there =
            |member: &Member| !cluster.is_contested(member.address()) || self.contains(cluster, set, *member);
        match definition {
            SetDefinition::Pods { namespaces: Scope::One(name), .. } => {
                cluster.groups_in(name).filter(fed).flat_map(members).filter(is_there).collect()
            }
            SetDefinition::Pods { namespaces: Scope::Matching(_), .. }
            | SetDefinition::AnyOf(_)
            | SetDefinition::NamedPort { .. }
            | SetDefinition::Blocks(_) => {
                cluster.groups().filter(fed).flat_map(members).filter(is_there).collect()
            }
        }
    }

    /// Whether pods have the member's address, and all of them add it to a set.
    pub(super) fn contains(&self, cluster: &Cluster, set: SetId, member: Member) -> bool {
        let mut holders = cluster.holders(member.address()).peekable();
        holders.peek().is_some() && self.held(cluster, holders, set, member)
    }

    /// Whether all of these groups add a member to a set.
    fn held(
        &self,
        cluster: &Cluster,
        groups: impl IntoIterator<Item = GroupId>,
        set: SetId,
        member: Member,
    ) -> bool {
        let address = member.address();
        groups.into_iter().all(|group| self.brings(cluster, group, set, address).contains(&member))
    }

    fn brings(&self, cluster: &Cluster, group: GroupId, set: SetId, address: IpAddr) -> Vec<Member> {
        let Some(definition) = self.definition(set).filter(|_| self.feeds(group, set)) else {
            return Vec::new();
        };
        cluster.group(group).map_or_else(Vec::new, |group| definition.members(group, address))
    }

    fn start_feeding(&mut self, group: GroupId, set: SetId) {
        let fed = self.feeds_mut(group);
        // A new set usually has the highest number, so it is appended.
        if let Err(place) = fed.binary_search(&set) {
            fed.insert(place, set);
        }
    }

    fn stop_feeding(&mut self, group: GroupId, set: SetId) {
        if let Some(fed) = self.feeds.get_mut(group as usize) {
            stop_feeding(fed, set);
        }
    }

    fn feeds_mut(&mut self, group: GroupId) -> &mut Vec<SetId> {
        let slot = group as usize;
        if self.feeds.len() <= slot {
            self.feeds.resize(slot + 1, Vec::new());
        }
        &mut self.feeds[slot]
    }
}

fn stop_feeding(fed: &mut Vec<SetId>, set: SetId) {
    if let Ok(place) = fed.binary_search(&set) {
        fed.remove(place);
    }
}

fn blocks_in(definition: &SetDefinition) -> usize {
    match definition {
        SetDefinition::Blocks(blocks) => blocks.iter().map(|block| 1 + block.except.len()).sum(),
        SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) | SetDefinition::NamedPort { .. } => 0,
    }
}

/// Whether the members of a set depend on the labels of namespaces.
fn asks_namespaces(definition: &SetDefinition) -> bool {
    let asks = |scope: &Scope| matches!(scope, Scope::Matching(_));
    match definition {
        SetDefinition::Pods { namespaces, .. } => asks(namespaces),
        SetDefinition::AnyOf(union) => union.peers().iter().any(|peer| asks(&peer.namespaces)),
        SetDefinition::NamedPort { .. } | SetDefinition::Blocks(_) => false,
    }
}

/// Whether a set contains the pods of a group.
fn takes_from(cluster: &Cluster, definition: &SetDefinition, group: &Group) -> bool {
    match definition {
        SetDefinition::Pods { namespaces, pods } => selects(cluster, namespaces, pods, group),
        SetDefinition::AnyOf(union) => {
            (0..union.peers().len()).any(|peer| is_selected(cluster, union, peer, group))
        }
        SetDefinition::NamedPort { name, protocol } => {
            let declares = |port: &NamedPort| port.name == *name && port.protocol == *protocol;
            group.peers && group.ports.iter().any(declares)
        }
        SetDefinition::Blocks(_) => false,
    }
}

/// The same for a single peer of a union.
fn takes_by_peer(cluster: &Cluster, definition: &SetDefinition, peer: usize, group: &Group) -> bool {
    match definition {
        SetDefinition::AnyOf(union) => is_selected(cluster, union, peer, group),
        SetDefinition::Pods { .. } | SetDefinition::NamedPort { .. } | SetDefinition::Blocks(_) => {
            takes_from(cluster, definition, group)
        }
    }
}

fn is_selected(cluster: &Cluster, union: &Union, peer: usize, group: &Group) -> bool {
    union.peers().get(peer).is_some_and(|peer| selects(cluster, &peer.namespaces, &peer.pods, group))
}

/// Whether a peer selects the pods of a group.
fn selects(cluster: &Cluster, namespaces: &Scope, pods: &Selector, group: &Group) -> bool {
    let in_scope = match namespaces {
        Scope::One(name) => *name == group.namespace,
        Scope::Matching(selector) => cluster.selects_namespace(selector, &group.namespace),
    };
    group.peers && in_scope && pods.matches(&group.labels)
}

/// The groups that feed a set, found by checking those in its scope.
fn groups_for(cluster: &Cluster, definition: &SetDefinition) -> Vec<GroupId> {
    let taken = |(_, group): &(GroupId, &Group)| takes_from(cluster, definition, group);
    match definition {
        SetDefinition::Pods { namespaces: Scope::One(name), .. } => {
            cluster.groups_in(name).filter(taken).map(|(id, _)| id).collect()
        }
        SetDefinition::Pods { namespaces: Scope::Matching(selector), .. } => {
            let in_scope = |name: &&NamespaceName| cluster.selects_namespace(selector, name);
            let groups = cluster.namespaces().filter(in_scope).flat_map(|name| cluster.groups_in(name));
            groups.filter(taken).map(|(id, _)| id).collect()
        }
        SetDefinition::AnyOf(union) => {
            let index = Index::of(definition);
            let taken = |(_, group): &(GroupId, &Group)| {
                index.candidates(group).any(|(_, peer)| is_selected(cluster, union, peer, group))
            };
            cluster.groups().filter(taken).map(|(id, _)| id).collect()
        }
        SetDefinition::NamedPort { .. } => cluster.groups().filter(taken).map(|(id, _)| id).collect(),
        SetDefinition::Blocks(_) => Vec::new(),
    }
}
