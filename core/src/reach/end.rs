//! Classes by the names under which people know their members: workloads, and addresses outside.

use super::{ClassId, ClassMembers, Reach};
use crate::model::{PodKey, Snapshot, Workload};
use crate::net::{Family, IpNet};
use std::collections::BTreeMap;
use std::fmt;

/// An end of connections as people know it, all of whose members are in one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachEnd {
    /// Its class.
    pub class: ClassId,
    /// What it is.
    pub name: ReachName,
    /// The pods that it consists of; none for addresses.
    pub pods: Vec<PodKey>,
}

impl ReachEnd {
    /// Whether there is a connection between two of its members. A single pod has none to another of its own; a workload may get
    /// more pods.
    pub fn meets_itself(&self) -> bool {
        let ReachName::Workload { workload, .. } = &self.name else { return false };
        let is_whole = |pod: &PodKey| *workload.kind == *"Pod" && *workload.name == *pod.name;
        !self.pods.iter().all(is_whole)
    }
}

/// What an end is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReachName {
    /// A workload: all of its pods, or those that policies treat alike.
    Workload {
        /// The workload.
        workload: Workload,
        /// If policies treat its pods differently, the pods of this end. Otherwise empty.
        part: Vec<PodKey>,
    },
    /// Addresses of one family that no pod has.
    Outside {
        /// The addresses.
        prefixes: Vec<IpNet>,
        /// Whether these are what the blocks of policies leave over, or most of it.
        rest: bool,
    },
}

impl ReachName {
    /// The namespace that it is in; `None` for addresses.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            ReachName::Workload { workload, .. } => Some(workload.namespace.as_str()),
            ReachName::Outside { .. } => None,
        }
    }

    /// The name in which nothing is abbreviated: with all pods of a part, and all prefixes.
    pub fn in_full(&self) -> String {
        match self {
            ReachName::Workload { workload, part } if part.is_empty() => workload.to_string(),
            ReachName::Workload { workload, part } => {
                format!("{workload} ({})", joined(part.iter().map(|pod| &pod.name)))
            }
            ReachName::Outside { prefixes, .. } => joined(prefixes.iter()),
        }
    }

    /// Whether it is outside the cluster.
    pub fn is_outside(&self) -> bool {
        matches!(self, ReachName::Outside { .. })
    }
}

impl fmt::Display for ReachName {
    /// `shop/deployment/web`, `shop/deployment/web (pods web-0, web-1)`, `10.0.0.0/8`, `other IPv4 addresses`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReachName::Workload { workload, part } if part.is_empty() => write!(f, "{workload}"),
            ReachName::Workload { workload, part } => {
                write!(f, "{workload} ({})", few(part.iter().map(|pod| pod.name.to_string())))
            }
            ReachName::Outside { prefixes, rest: true } => match &prefixes[..] {
                [all] if all.prefix_len() == 0 => write!(f, "any {} address outside", Family::of_net(*all)),
                [first, ..] => write!(f, "other {} addresses", Family::of_net(*first)),
                [] => f.write_str("no address"),
            },
            ReachName::Outside { prefixes, rest: false } => {
                write!(f, "{}", few(prefixes.iter().map(ToString::to_string)))
            }
        }
    }
}

fn joined(words: impl Iterator<Item = impl fmt::Display>) -> String {
    words.map(|word| word.to_string()).collect::<Vec<_>>().join(", ")
}

/// The first few of some words.
fn few(words: impl ExactSizeIterator<Item = String>) -> String {
    const FEW: usize = 3;
    let more = words.len().saturating_sub(FEW);
    let first: Vec<String> = words.take(FEW).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}

/// The pods of each workload with their classes. Pods that have finished or share their node's network are left out.
pub(super) fn pods_by_workload(
    snapshot: &Snapshot,
    reach: &Reach,
) -> BTreeMap<Workload, BTreeMap<PodKey, ClassId>> {
    let mut workloads: BTreeMap<Workload, BTreeMap<PodKey, ClassId>> = BTreeMap::new();
    for (key, pod) in &snapshot.pods {
        if let Some(class) = reach.class_of(key) {
            workloads.entry(Workload::of(pod)).or_default().insert(key.clone(), class);
        }
    }
    workloads
}

impl Reach {
    /// The ends of a snapshot: workloads by namespace and name, and then addresses outside.
    pub fn ends(&self, snapshot: &Snapshot) -> Vec<ReachEnd> {
        let mut ends = Vec::new();
        for (workload, pods) in pods_by_workload(snapshot, self) {
            let mut parts: BTreeMap<ClassId, Vec<PodKey>> = BTreeMap::new();
            for (pod, class) in pods {
                parts.entry(class).or_default().push(pod);
            }
            let whole = parts.len() == 1;
            let mut parts: Vec<(ClassId, Vec<PodKey>)> = parts.into_iter().collect();
            parts.sort_by(|(_, one), (_, other)| one.cmp(other));
            ends.extend(parts.into_iter().map(|(class, pods)| {
                let part = if whole { Vec::new() } else { pods.clone() };
                ReachEnd { class, name: ReachName::Workload { workload: workload.clone(), part }, pods }
            }));
        }
        ends.extend(self.outside_ends());
        ends
    }

    fn outside_ends(&self) -> Vec<ReachEnd> {
        let mut found: Vec<(ClassId, &Vec<IpNet>)> = Vec::new();
        for (class, place) in self.classes.iter().zip(0..) {
            if let ClassMembers::Addresses(prefixes) = &class.members {
                found.push((place, prefixes));
            }
        }
        let largest = |family| {
            let own = found.iter().filter(|(_, prefixes)| is_of(prefixes, family));
            own.max_by_key(|(_, prefixes)| size(prefixes)).map(|(class, _)| *class)
        };
        let rest = Family::BOTH.map(largest);
        let ends = found.iter().map(|(class, prefixes)| {
            let rest = rest.contains(&Some(*class));
            let name = ReachName::Outside { prefixes: prefixes.to_vec(), rest };
            ReachEnd { class: *class, name, pods: Vec::new() }
        });
        ends.collect()
    }
}

fn is_of(prefixes: &[IpNet], family: Family) -> bool {
    prefixes.first().is_some_and(|prefix| Family::of_net(*prefix) == family)
}

/// How many addresses there are, less one for each prefix so that all of IPv6 can be counted.
pub(super) fn size(prefixes: &[IpNet]) -> u128 {
    let count = |prefix: &IpNet| {
        let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
        1_u128.checked_shl(bits).map_or(u128::MAX, |count| count - 1)
    };
    prefixes.iter().map(count).fold(0, u128::saturating_add)
}
