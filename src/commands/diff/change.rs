//! The difference as lines for people: pairs with the same change share a line.

use crate::model::Direction;
use crate::net::PortSet;
use crate::reach::{Difference, EndGroup, PairDifference, PortsDifference, ReachName};
use std::collections::{BTreeMap, BTreeSet};

/// How many ends a line names.
const SHOWN: usize = 4;

/// Whether connections become possible or impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Opens,
    Closes,
}

impl Effect {
    pub(super) fn word(self) -> &'static str {
        match self {
            Effect::Opens => "opens",
            Effect::Closes => "closes",
        }
    }

    fn of(self, difference: &PortsDifference) -> PortSet {
        match self {
            Effect::Opens => difference.opened(),
            Effect::Closes => difference.closed(),
        }
    }
}

/// Connections that open or close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReachChange {
    pub(super) effect: Effect,
    /// The places of the sources in [`Difference::groups`].
    pub(super) from: BTreeSet<usize>,
    /// The places of the destinations.
    pub(super) to: BTreeSet<usize>,
    /// What opens or closes, part by part.
    pub(super) ports: Vec<String>,
}

/// All connections that open or close; those that open first.
pub(super) fn changes(difference: &Difference) -> Vec<ReachChange> {
    let mut by_destination: BTreeMap<(Effect, Vec<String>, usize), BTreeSet<usize>> = BTreeMap::new();
    for pair in &difference.pairs {
        for effect in [Effect::Opens, Effect::Closes] {
            let ports = words(pair, effect);
            if !ports.is_empty() {
                by_destination.entry((effect, ports, pair.to)).or_default().insert(pair.from);
            }
        }
    }
    let mut by_sources: BTreeMap<(Effect, Vec<String>, BTreeSet<usize>), BTreeSet<usize>> = BTreeMap::new();
    for ((effect, ports, to), from) in by_destination {
        by_sources.entry((effect, ports, from)).or_default().insert(to);
    }
    let mut changes: Vec<ReachChange> = by_sources
        .into_iter()
        .map(|((effect, ports, from), to)| ReachChange { effect, from, to, ports })
        .collect();
    changes
        .sort_by(|one, other| (one.effect, &one.to, &one.from).cmp(&(other.effect, &other.to, &other.from)));
    changes
}

/// What opens or closes between a pair. What does so in one of two families alone says in which.
fn words(pair: &PairDifference, effect: Effect) -> Vec<String> {
    match &pair.families[..] {
        [v4, v6] if effect.of(v4) != effect.of(v6) => {
            let of = |family: &PortsDifference| {
                let words = effect.of(family).words();
                words.into_iter().map(move |word| format!("{word} ({})", family.family)).collect::<Vec<_>>()
            };
            [of(v4), of(v6)].concat()
        }
        [first, ..] => effect.of(first).words(),
        [] => Vec::new(),
    }
}

/// The ends of these groups, one by one.
pub(super) fn names(difference: &Difference, places: &BTreeSet<usize>) -> Vec<String> {
    let groups = places.iter().filter_map(|place| difference.groups.get(*place));
    groups.flat_map(|group| &group.ends).map(ReachName::to_string).collect()
}

/// The first few of them, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// The ends that become isolated or are no longer, by direction.
pub(super) fn isolation(difference: &Difference) -> BTreeMap<(bool, Direction), Vec<String>> {
    let mut found: BTreeMap<(bool, Direction), Vec<String>> = BTreeMap::new();
    for own in &difference.isolation {
        let names = names(difference, &BTreeSet::from([own.group]));
        found.entry((own.isolated, own.direction)).or_default().extend(names);
    }
    found
}

/// The workloads that are only in the new snapshot, and those that are only in the old one.
pub(super) fn came_and_went(difference: &Difference) -> [Vec<String>; 2] {
    let of = |came: bool| {
        let groups = difference.came_and_went().filter(|group: &&EndGroup| group.old.is_none() == came);
        groups.flat_map(|group| &group.ends).map(ReachName::to_string).collect()
    };
    [of(true), of(false)]
}
