//! The ends of a matrix: workloads and addresses outside.

use super::end_filter::ReachFilter;
use crate::model::{Direction, PodKey, Snapshot};
use crate::net::{Family, IpNet};
use crate::reach::{ClassId, Reach, ReachName};
use std::collections::{BTreeMap, BTreeSet};

/// A row and a column of the table.
#[derive(Clone, Debug)]
pub(crate) struct MatrixEnd {
    /// The ends that it stands for; never empty.
    pub(crate) names: Vec<ReachName>,
    pub(crate) class: ClassId,
    /// How many pods they have.
    pub(crate) pods: usize,
    /// Whether policies isolate them, egress first. `None` for addresses outside.
    pub(crate) isolated: Option<[bool; 2]>,
    /// Whether a connection between two of its members is possible.
    pub(super) meets_itself: bool,
}

impl MatrixEnd {
    /// Its first end, and how many more there are.
    pub(crate) fn label(&self) -> String {
        if self.is_outside() {
            return outside_label(&self.names);
        }
        let first = self.names.first().map(ToString::to_string).unwrap_or_default();
        match self.names.len() {
            0 | 1 => first,
            count => format!("{first} and {} more", count - 1),
        }
    }

    /// Its namespace, if all of it is in one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let mut namespaces = self.names.iter().map(ReachName::namespace);
        let first = namespaces.next().flatten()?;
        namespaces.all(|namespace| namespace == Some(first)).then_some(first)
    }

    pub(crate) fn is_outside(&self) -> bool {
        self.names.iter().all(ReachName::is_outside)
    }

    /// The addresses that it stands for; none for workloads.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.names.iter().flat_map(|name| match name {
            ReachName::Outside { prefixes, .. } => prefixes.as_slice(),
            ReachName::Workload { .. } => &[],
        })
    }
}

/// Addresses in words: `any address outside`, or the first few prefixes, and whether they are what blocks leave over.
fn outside_label(names: &[ReachName]) -> String {
    const FEW: usize = 2;
    let (mut prefixes, mut rests) = (Vec::new(), Vec::new());
    for name in names {
        if let ReachName::Outside { prefixes: own, rest } = name {
            prefixes.extend_from_slice(own);
            rests.extend(own.first().filter(|_| *rest).map(|first| Family::of_net(*first)));
        }
    }
    let joined = IpNet::aggregate(&prefixes);
    let whole: Vec<Family> = joined
        .iter()
        .filter(|prefix| prefix.prefix_len() == 0)
        .map(|prefix| Family::of_net(*prefix))
        .collect();
    // The rest is named, and what is whole; of all other addresses, the first few.
    let is_specific = |name: &&ReachName| matches!(name, ReachName::Outside { prefixes, rest: false } if !prefixes.iter().any(|prefix| whole.contains(&Family::of_net(*prefix))));
    let specific = names.iter().filter(is_specific).flat_map(|name| match name {
        ReachName::Outside { prefixes, .. } => prefixes.as_slice(),
        ReachName::Workload { .. } => &[],
    });
    let specific = IpNet::aggregate(&specific.copied().collect());
    let mut words: Vec<String> = specific.iter().take(FEW).map(ToString::to_string).collect();
    if specific.len() > FEW {
        words.push(format!("{} more prefixes", specific.len() - FEW));
    }
    rests.retain(|family| !whole.contains(family));
    match (&whole[..], &rests[..]) {
        ([_, _], _) => words.push("any address outside".to_owned()),
        ([family], _) => words.push(format!("any {family} address outside")),
        _ => {}
    }
    match rests[..] {
        [_, _] => words.push("other addresses".to_owned()),
        [family] => words.push(format!("other {family} addresses")),
        _ => {}
    }
    words.join(", ")
}

/// The ends of a snapshot with the pods that each consists of.
pub(super) struct EndsOf(Vec<(MatrixEnd, Vec<PodKey>)>);

impl EndsOf {
    pub(super) fn new(snapshot: &Snapshot, reach: &Reach) -> EndsOf {
        let workloads = reach.ends(snapshot).into_iter().map(|end| {
            let isolated = Direction::BOTH.map(|direction| reach.is_isolated(end.class, direction));
            // A single pod has no connection to another of its own; a workload may get more pods.
            let meets_itself = !end.name.is_outside() && !end.pods.iter().all(|pod| is_bare(&end.name, pod));
            let matrix_end = MatrixEnd {
                class: end.class,
                pods: end.pods.len(),
                isolated: (!end.name.is_outside()).then_some(isolated),
                meets_itself,
                names: vec![end.name],
            };
            (matrix_end, end.pods)
        });
        EndsOf(workloads.collect())
    }

    pub(super) fn taken_by(&self, filters: &[ReachFilter]) -> Vec<MatrixEnd> {
        let taken = self.0.iter().filter(|(end, pods)| {
            let takes = |filter: &ReachFilter| end.names.iter().any(|name| filter.takes(name, pods));
            filters.is_empty() || filters.iter().any(takes)
        });
        taken.map(|(end, _)| end.clone()).collect()
    }

    /// Those of which one of these pods is a part.
    pub(super) fn of_pods(&self, wanted: &BTreeSet<PodKey>) -> Vec<MatrixEnd> {
        let own = self.0.iter().filter(|(_, pods)| pods.iter().any(|pod| wanted.contains(pod)));
        own.map(|(end, _)| end.clone()).collect()
    }
}

/// Whether a workload is this pod and nothing else.
fn is_bare(name: &ReachName, pod: &PodKey) -> bool {
    matches!(name, ReachName::Workload { workload, .. } if *workload.kind == *"Pod" && *workload.name == *pod.name)
}

/// Ends of one class as one.
pub(super) fn grouped(ends: Vec<MatrixEnd>) -> Vec<MatrixEnd> {
    let mut places: BTreeMap<ClassId, usize> = BTreeMap::new();
    let mut found: Vec<MatrixEnd> = Vec::new();
    for end in ends {
        let place = *places.entry(end.class).or_insert(found.len());
        match found.get_mut(place) {
            Some(known) => {
                known.names.extend(end.names);
                known.pods += end.pods;
                known.meets_itself = true;
            }
            None => found.push(end),
        }
    }
    found
}
