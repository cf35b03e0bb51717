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
    /// Its place among the ends of the matrix whose label begins alike.
    pub(super) namesake: usize,
}

impl MatrixEnd {
    /// Its first end, and how many more there are. No other end of the matrix has the same label.
    pub(crate) fn label(&self) -> String {
        let short = self.short_label();
        if self.namesake == 0 { short } else { format!("{short} [{}]", self.namesake + 1) }
    }

    /// All that it stands for.
    pub(crate) fn in_full(&self) -> String {
        if self.is_outside() {
            return outside_label(&self.names, None);
        }
        self.names.iter().map(ReachName::in_full).collect::<Vec<_>>().join(", ")
    }

    fn short_label(&self) -> String {
        if self.is_outside() {
            return outside_label(&self.names, Some(FEW));
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

/// How many prefixes a label names.
const FEW: usize = 2;

/// Addresses in words: `any address outside`, or the first few prefixes, and whether they are what blocks leave over. Without `few`,
/// all prefixes, also those that blocks leave over.
fn outside_label(names: &[ReachName], few: Option<usize>) -> String {
    let (mut prefixes, mut rests) = (Vec::new(), Vec::new());
    for name in names {
        if let ReachName::Outside { prefixes: own, rest } = name {
            prefixes.extend_from_slice(own);
            rests.extend(own.first().filter(|_| *rest && few.is_some()).map(|first| Family::of_net(*first)));
        }
    }
    let joined = IpNet::aggregate(&prefixes);
    let whole: Vec<Family> = joined
        .iter()
        .filter(|prefix| prefix.prefix_len() == 0)
        .map(|prefix| Family::of_net(*prefix))
        .collect();
    // The rest is named, and what is whole; of all other addresses, the first few.
    let mut specific = Vec::new();
    for name in names {
        let ReachName::Outside { prefixes, rest } = name else { continue };
        let is_named = *rest && few.is_some();
        let is_of_whole = prefixes.iter().any(|prefix| whole.contains(&Family::of_net(*prefix)));
        if !is_named && !is_of_whole {
            specific.extend_from_slice(prefixes);
        }
    }
    let specific = IpNet::aggregate(&specific);
    let mut words: Vec<String> =
        specific.iter().take(few.unwrap_or(usize::MAX)).map(ToString::to_string).collect();
    match specific.len() - words.len() {
        0 => {}
        1 => words.push("1 more prefix".to_owned()),
        more => words.push(format!("{more} more prefixes")),
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
            let matrix_end = MatrixEnd {
                class: end.class,
                pods: end.pods.len(),
                isolated: (!end.name.is_outside()).then_some(isolated),
                meets_itself: end.meets_itself(),
                namesake: 0,
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

/// Numbers ends that stand for different members and would have the same label. A source and a destination may be the same end.
pub(super) fn tell_apart(sources: &mut [MatrixEnd], destinations: &mut [MatrixEnd]) {
    let mut known: BTreeMap<String, Vec<Vec<ReachName>>> = BTreeMap::new();
    for end in sources.iter_mut().chain(destinations) {
        let alike = known.entry(end.short_label()).or_default();
        let place = alike.iter().position(|names| *names == end.names);
        end.namesake = place.unwrap_or(alike.len());
        if place.is_none() {
            alike.push(end.names.clone());
        }
    }
}

/// Ends of one class as one: those of which `is_in` is true, and the others.
pub(super) fn grouped(ends: Vec<MatrixEnd>, is_in: impl Fn(&MatrixEnd) -> bool) -> Vec<MatrixEnd> {
    let mut places: BTreeMap<(ClassId, bool), usize> = BTreeMap::new();
    let mut found: Vec<MatrixEnd> = Vec::new();
    for end in ends {
        let place = *places.entry((end.class, is_in(&end))).or_insert(found.len());
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
