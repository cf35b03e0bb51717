//! What changes between two snapshots: which connections open and close, and what becomes isolated.

use super::address::AddressSpace;
use super::end::pods_by_workload;
use super::{ClassId, Connectivity, Pairs, Reach, ReachName};
use crate::model::{Direction, PodKey, Snapshot, Workload};
use crate::net::{Family, IpNet, PortSet};
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot and what its policies allow.
#[derive(Clone, Copy, Debug)]
pub struct ReachState<'s> {
    /// The snapshot.
    pub snapshot: &'s Snapshot,
    /// What its policies allow.
    pub reach: &'s Reach,
}

/// Ends that policies treat alike before and alike after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndGroup {
    /// The ends: workloads, single pods of workloads whose pods are treated differently before or after, and addresses.
    pub ends: Vec<ReachName>,
    /// Their class before; `None` if they were not there.
    pub old: Option<ClassId>,
    /// Their class after; `None` if they are no longer there.
    pub new: Option<ClassId>,
    /// Whether there is a connection between two of its members: it has more than one, or is a workload that may have.
    pub meets_itself: bool,
}

/// What changes between two groups of ends, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsDifference {
    /// The family.
    pub family: Family,
    /// What was allowed.
    pub old: PortSet,
    /// What is allowed.
    pub new: PortSet,
}

impl PortsDifference {
    /// What is allowed now and was not.
    pub fn opened(&self) -> PortSet {
        self.new.difference(&self.old)
    }

    /// What was allowed and is no longer.
    pub fn closed(&self) -> PortSet {
        self.old.difference(&self.new)
    }
}

/// What changes from one group of ends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairDifference {
    /// The place of the sources in [`Difference::groups`].
    pub from: usize,
    /// The place of the destinations.
    pub to: usize,
    /// The families that both ends have, in at least one of which something changes.
    pub families: Vec<PortsDifference>,
}

/// A group that becomes isolated, or is no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationDifference {
    /// Its place in [`Difference::groups`].
    pub group: usize,
    /// In which direction.
    pub direction: Direction,
    /// Whether it is isolated now.
    pub isolated: bool,
}

/// What changes between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The ends of both snapshots, each in one group.
    pub groups: Vec<EndGroup>,
    /// The pairs of groups between which connections open or close. Ends that are in one snapshot alone have no connections in
    /// the other.
    pub pairs: Vec<PairDifference>,
    /// The groups in both snapshots whose isolation changes.
    pub isolation: Vec<IsolationDifference>,
}

impl Difference {
    /// Compares two snapshots.
    pub fn between(old: ReachState<'_>, new: ReachState<'_>) -> Difference {
        let groups = groups(old, new);
        let mut isolation = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            let (Some(before), Some(after)) = (group.old, group.new) else { continue };
            for direction in Direction::BOTH {
                let isolated = new.reach.is_isolated(after, direction);
                if isolated != old.reach.is_isolated(before, direction) {
                    isolation.push(IsolationDifference { group: place, direction, isolated });
                }
            }
        }
        let mut comparison = SnapshotComparison {
            old,
            new,
            old_pairs: old.reach.pairs(),
            new_pairs: new.reach.pairs(),
            known: BTreeMap::new(),
        };
        let mut pairs = Vec::new();
        for (from, source) in groups.iter().enumerate() {
            for (to, destination) in groups.iter().enumerate() {
                if from == to && !source.meets_itself || is_outside(source) && is_outside(destination) {
                    continue;
                }
                let families = comparison.families(source, destination);
                if !families.is_empty() {
                    pairs.push(PairDifference { from, to, families });
                }
            }
        }
        Difference { groups, pairs, isolation }
    }

    /// Whether nothing changes: no connection, no isolation, no end.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.isolation.is_empty() && self.came_and_went().next().is_none()
    }

    /// The groups that are in one snapshot alone.
    pub fn came_and_went(&self) -> impl Iterator<Item = &EndGroup> {
        self.groups.iter().filter(|group| group.old.is_none() || group.new.is_none())
    }
}

fn is_outside(group: &EndGroup) -> bool {
    group.ends.iter().all(ReachName::is_outside)
}

struct SnapshotComparison<'s> {
    old: ReachState<'s>,
    new: ReachState<'s>,
    old_pairs: Pairs<'s>,
    new_pairs: Pairs<'s>,
    /// Many pairs have the same answers.
    known: BTreeMap<[Option<Connectivity>; 2], bool>,
}

impl SnapshotComparison<'_> {
    fn families(&mut self, from: &EndGroup, to: &EndGroup) -> Vec<PortsDifference> {
        let old = from.old.zip(to.old).map(|(from, to)| self.old_pairs.between(from, to));
        let new = from.new.zip(to.new).map(|(from, to)| self.new_pairs.between(from, to));
        // Where the addresses of an end are not known in one snapshot, its families say nothing.
        let unknown = [from, to].iter().any(|group| {
            let in_old = group.old.is_some_and(|class| self.old.reach.has_unknown_addresses(class));
            in_old != group.new.is_some_and(|class| self.new.reach.has_unknown_addresses(class))
                && group.old.is_some()
                && group.new.is_some()
        });
        if !unknown && self.known.get(&[old, new]) == Some(&false) {
            return Vec::new();
        }
        let (old_pairs, new_pairs) = (&self.old_pairs, &self.new_pairs);
        let in_family = |family| {
            let before = old.and_then(|old| old_pairs.ports(old, family));
            let after = new.and_then(|new| new_pairs.ports(new, family));
            if unknown && (before.is_none() || after.is_none()) {
                return None;
            }
            let (old, new) = (before.cloned().unwrap_or_default(), after.cloned().unwrap_or_default());
            (before.is_some() || after.is_some()).then_some(PortsDifference { family, old, new })
        };
        let families: Vec<PortsDifference> = Family::BOTH.into_iter().filter_map(in_family).collect();
        let changes = families.iter().any(|family| family.old != family.new);
        if !unknown {
            self.known.insert([old, new], changes);
        }
        if changes { families } else { Vec::new() }
    }
}

/// Every end of both snapshots.
fn groups(old: ReachState<'_>, new: ReachState<'_>) -> Vec<EndGroup> {
    let mut groups: BTreeMap<(Option<ClassId>, Option<ClassId>), EndGroupDraft> = BTreeMap::new();
    let before = pods_by_workload(old.snapshot, old.reach);
    let after = pods_by_workload(new.snapshot, new.reach);
    let none = BTreeMap::new();
    let workloads: BTreeSet<&Workload> = before.keys().chain(after.keys()).collect();
    for workload in workloads {
        let (before, after) = (before.get(workload).unwrap_or(&none), after.get(workload).unwrap_or(&none));
        let may_have_more = *workload.kind != *"Pod";
        let mut add = |old: Option<ClassId>, new: Option<ClassId>, part: Vec<PodKey>, pods: usize| {
            let group = groups.entry((old, new)).or_default();
            group.pods += pods;
            group.may_have_more |= may_have_more;
            group.ends.push(ReachName::Workload { workload: workload.clone(), part });
        };
        match (only_class(before), only_class(after)) {
            (Some(old), Some(new)) => add(old, new, Vec::new(), before.len().max(after.len())),
            (None, _) | (_, None) => {
                let pods: BTreeSet<&PodKey> = before.keys().chain(after.keys()).collect();
                for pod in pods {
                    add(before.get(pod).copied(), after.get(pod).copied(), vec![pod.clone()], 1);
                }
            }
        }
    }
    let mut found: Vec<EndGroup> =
        groups.into_iter().map(|((old, new), group)| group.finish(old, new)).collect();
    found.sort_by(|one, other| one.ends.cmp(&other.ends));
    found.extend(outside_groups(old.reach, new.reach));
    found
}

#[derive(Default)]
struct EndGroupDraft {
    ends: Vec<ReachName>,
    pods: usize,
    may_have_more: bool,
}

impl EndGroupDraft {
    fn finish(self, old: Option<ClassId>, new: Option<ClassId>) -> EndGroup {
        EndGroup { ends: self.ends, old, new, meets_itself: self.pods > 1 || self.may_have_more }
    }
}

/// The class of all of some pods: `Some(None)` if there are no pods, `None` if they are in several.
fn only_class(pods: &BTreeMap<PodKey, ClassId>) -> Option<Option<ClassId>> {
    let classes: BTreeSet<ClassId> = pods.values().copied().collect();
    (classes.len() <= 1).then(|| classes.first().copied())
}

/// Addresses by their classes before and after.
fn outside_groups(old: &Reach, new: &Reach) -> Vec<EndGroup> {
    let mut groups = Vec::new();
    for (old, new) in old.outside.iter().zip(&new.outside) {
        let mut parts: BTreeMap<(ClassId, ClassId), Vec<IpNet>> = BTreeMap::new();
        for ((before, after), prefixes) in AddressSpace::overlaps(old.space(), new.space()) {
            parts.entry((old.class(before), new.class(after))).or_default().extend(prefixes);
        }
        let largest =
            parts.iter().max_by_key(|(_, prefixes)| super::end::size(prefixes)).map(|(key, _)| *key);
        groups.extend(parts.into_iter().map(|((old, new), prefixes)| {
            let rest = largest == Some((old, new));
            let ends = vec![ReachName::Outside { prefixes, rest }];
            EndGroup { ends, old: Some(old), new: Some(new), meets_itself: false }
        }));
    }
    groups
}
