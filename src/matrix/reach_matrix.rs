//! Ends and what is allowed between them, as a table for every format.

use super::end_filter::ReachFilter;
use crate::model::{Direction, PodKey, Snapshot};
use crate::net::{Family, IpNet, PortSet};
use crate::reach::{ClassId, Connectivity, Pairs, Reach, ReachName};
use std::collections::BTreeMap;

/// With more ends than this, those that policies treat alike share a row.
const APART: usize = 60;

/// Whether ends that policies treat alike share a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// Each workload has its own.
    Apart,
    /// They do.
    Together,
    /// They do if there are more than [`APART`].
    WhereMany,
}

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
    meets_itself: bool,
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

/// Which connections are shown.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Only connections from or to this namespace.
    pub(crate) namespace: Option<String>,
    pub(crate) from: Vec<ReachFilter>,
    pub(crate) to: Vec<ReachFilter>,
    pub(crate) grouping: Grouping,
}

/// What is allowed from each source to each destination.
#[derive(Debug)]
pub(crate) struct ReachMatrix<'r> {
    /// The sources, in order.
    pub(crate) sources: Vec<MatrixEnd>,
    /// The destinations, in order.
    pub(crate) destinations: Vec<MatrixEnd>,
    /// The namespace that is shown, with what is connected to it.
    focus: Option<String>,
    /// Source by source.
    cells: Vec<Option<Connectivity>>,
    pairs: Pairs<'r>,
}

impl<'r> ReachMatrix<'r> {
    pub(crate) fn new(snapshot: &Snapshot, reach: &'r Reach, selection: &Selection) -> ReachMatrix<'r> {
        let ends = EndsOf::new(snapshot, reach);
        let namespace = selection.namespace.as_deref();
        let is_in = |end: &MatrixEnd| namespace.is_none_or(|own| end.namespace() == Some(own));
        let sources = ends.taken_by(&selection.from);
        let destinations = ends.taken_by(&selection.to);
        // A connection is shown if one of its ends is in the namespace.
        let sources_in = sources.iter().any(is_in);
        let destinations_in = destinations.iter().any(is_in);
        let sources: Vec<MatrixEnd> =
            sources.into_iter().filter(|end| destinations_in || is_in(end)).collect();
        let destinations: Vec<MatrixEnd> =
            destinations.into_iter().filter(|end| sources_in || is_in(end)).collect();
        let together = match selection.grouping {
            Grouping::Apart => false,
            Grouping::Together => true,
            Grouping::WhereMany => sources.len().max(destinations.len()) > APART,
        };
        let (sources, destinations) =
            if together { (grouped(sources), grouped(destinations)) } else { (sources, destinations) };
        let mut pairs = reach.pairs();
        let mut cells = Vec::with_capacity(sources.len() * destinations.len());
        for source in &sources {
            for destination in &destinations {
                let hidden = namespace.is_some() && !is_in(source) && !is_in(destination);
                let same = source.class == destination.class && source.names == destination.names;
                let is_pair = !(hidden
                    || source.is_outside() && destination.is_outside()
                    || same && !source.meets_itself);
                cells.push(is_pair.then(|| pairs.between(source.class, destination.class)));
            }
        }
        let mut matrix =
            ReachMatrix { sources, destinations, focus: selection.namespace.clone(), cells, pairs };
        matrix.join_outside();
        matrix.drop_silent();
        matrix
    }

    /// What is allowed from a source to a destination. `None` if there is no connection to allow: an end to itself, or ends
    /// without a common family.
    pub(crate) fn cell(&self, source: usize, destination: usize) -> Option<Cell<'_>> {
        let answer = self.cells[source * self.destinations.len() + destination]?;
        let [v4, v6] = Family::BOTH.map(|family| self.pairs.ports(answer, family));
        (v4.is_some() || v6.is_some()).then_some(Cell { v4, v6 })
    }

    /// Whether a destination is in the namespace that is shown, if only one is.
    pub(crate) fn is_focused(&self, destination: usize) -> bool {
        self.focus.is_some() && self.destinations[destination].namespace() == self.focus.as_deref()
    }

    /// The cells in which something is allowed.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (&MatrixEnd, &MatrixEnd, Cell<'_>)> {
        let places = self.sources.iter().enumerate();
        places.flat_map(move |(row, source)| {
            self.destinations.iter().enumerate().filter_map(move |(column, destination)| {
                let cell = self.cell(row, column).filter(|cell| !cell.is_empty())?;
                Some((source, destination, cell))
            })
        })
    }

    /// Makes one of addresses outside that are treated alike, also of both families.
    fn join_outside(&mut self) {
        let rows: Vec<usize> = (0..self.sources.len()).collect();
        let columns: Vec<usize> = (0..self.destinations.len()).collect();
        let rows = self.joined(rows, &self.sources, |matrix, row| {
            (0..matrix.destinations.len()).map(|column| matrix.words(row, column)).collect()
        });
        let columns = self.joined(columns, &self.destinations, |matrix, column| {
            (0..matrix.sources.len()).map(|row| matrix.words(row, column)).collect()
        });
        self.keep(&rows, &columns);
    }

    /// Leaves out addresses of a family that no pod has.
    fn drop_silent(&mut self) {
        let speaks = |matrix: &ReachMatrix<'_>, row: usize| {
            (0..matrix.destinations.len()).any(|column| matrix.cell(row, column).is_some())
        };
        let listens = |matrix: &ReachMatrix<'_>, column: usize| {
            (0..matrix.sources.len()).any(|row| matrix.cell(row, column).is_some())
        };
        let rows =
            (0..self.sources.len()).filter(|row| !self.sources[*row].is_outside() || speaks(self, *row));
        let rows: Vec<(usize, Vec<ReachName>)> =
            rows.map(|row| (row, self.sources[row].names.clone())).collect();
        let columns = (0..self.destinations.len())
            .filter(|column| !self.destinations[*column].is_outside() || listens(self, *column));
        let columns: Vec<(usize, Vec<ReachName>)> =
            columns.map(|column| (column, self.destinations[column].names.clone())).collect();
        self.keep(&rows, &columns);
    }

    fn words(&self, row: usize, column: usize) -> Option<Vec<String>> {
        self.cell(row, column).map(|cell| cell.words())
    }

    /// The lines to keep, with the names that each then stands for.
    fn joined(
        &self,
        lines: Vec<usize>,
        ends: &[MatrixEnd],
        words: impl Fn(&ReachMatrix<'_>, usize) -> Vec<Option<Vec<String>>>,
    ) -> Vec<(usize, Vec<ReachName>)> {
        let mut kept: Vec<(usize, Vec<ReachName>)> = Vec::new();
        let mut known: BTreeMap<Vec<Option<Vec<String>>>, usize> = BTreeMap::new();
        for line in lines {
            let names = ends[line].names.clone();
            if !ends[line].is_outside() {
                kept.push((line, names));
                continue;
            }
            match known.entry(words(self, line)) {
                std::collections::btree_map::Entry::Occupied(place) => kept[*place.get()].1.extend(names),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(kept.len());
                    kept.push((line, names));
                }
            }
        }
        kept
    }

    fn keep(&mut self, rows: &[(usize, Vec<ReachName>)], columns: &[(usize, Vec<ReachName>)]) {
        let width = self.destinations.len();
        let cells =
            rows.iter().flat_map(|(row, _)| columns.iter().map(move |(column, _)| row * width + column));
        self.cells = cells.map(|place| self.cells[place]).collect();
        let pick = |ends: &[MatrixEnd], kept: &[(usize, Vec<ReachName>)]| -> Vec<MatrixEnd> {
            kept.iter()
                .map(|(place, names)| MatrixEnd { names: names.clone(), ..ends[*place].clone() })
                .collect()
        };
        self.sources = pick(&self.sources, rows);
        self.destinations = pick(&self.destinations, columns);
    }
}

/// The ends of a snapshot with the pods that each consists of.
struct EndsOf(Vec<(MatrixEnd, Vec<PodKey>)>);

impl EndsOf {
    fn new(snapshot: &Snapshot, reach: &Reach) -> EndsOf {
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

    fn taken_by(&self, filters: &[ReachFilter]) -> Vec<MatrixEnd> {
        let taken = self.0.iter().filter(|(end, pods)| {
            let takes = |filter: &ReachFilter| end.names.iter().any(|name| filter.takes(name, pods));
            filters.is_empty() || filters.iter().any(takes)
        });
        taken.map(|(end, _)| end.clone()).collect()
    }
}

/// Whether a workload is this pod and nothing else.
fn is_bare(name: &ReachName, pod: &PodKey) -> bool {
    matches!(name, ReachName::Workload { workload, .. } if *workload.kind == *"Pod" && *workload.name == *pod.name)
}

/// Ends of one class as one.
fn grouped(ends: Vec<MatrixEnd>) -> Vec<MatrixEnd> {
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

/// What is allowed between two ends; at least one family is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'m> {
    pub(crate) v4: Option<&'m PortSet>,
    pub(crate) v6: Option<&'m PortSet>,
}

impl Cell<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        [self.v4, self.v6].into_iter().flatten().all(PortSet::is_empty)
    }

    /// Whether everything is allowed in each family that is there.
    pub(crate) fn is_all(&self) -> bool {
        [self.v4, self.v6].into_iter().flatten().all(PortSet::is_all)
    }

    /// What is allowed, part by part; nothing if nothing is. What one of two families alone allows says so.
    pub(crate) fn words(&self) -> Vec<String> {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) if v4 != v6 => {
                let mut words = v4.intersection(v6).words();
                for (ports, family) in [(v4.difference(v6), Family::V4), (v6.difference(v4), Family::V6)] {
                    words.extend(ports.words().into_iter().map(|word| format!("{word} ({family})")));
                }
                words
            }
            (Some(ports), _) | (None, Some(ports)) => ports.words(),
            (None, None) => Vec::new(),
        }
    }
}
