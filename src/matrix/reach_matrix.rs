//! Ends and what is allowed between them, as a table for every format.

use super::cell::Cell;
use super::end_filter::ReachFilter;
use super::matrix_end::{EndsOf, MatrixEnd, grouped, tell_apart};
use crate::model::{Direction, PodKey, Snapshot};
use crate::net::Family;
use crate::reach::{Connectivity, Pairs, Reach};
use std::collections::{BTreeMap, BTreeSet};

/// With more ends than this, those that policies treat alike share a row.
const APART: usize = 60;

/// How many lines a matrix of some pods has at most in each direction: a browser draws 40,000 cells in a moment.
const LINES: usize = 200;

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

/// Which connections are shown.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Only connections from or to this namespace.
    pub(crate) namespace: Option<String>,
    pub(crate) from: Vec<ReachFilter>,
    pub(crate) to: Vec<ReachFilter>,
    pub(crate) grouping: Grouping,
}

/// How many lines a matrix of some pods lacks because it would have more than [`LINES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinesLeftOut {
    pub(crate) own: usize,
    pub(crate) others: usize,
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
        let (sources, destinations) = if together {
            (grouped(sources, is_in), grouped(destinations, is_in))
        } else {
            (sources, destinations)
        };
        let focus = selection.namespace.clone();
        let is_hidden = |source: &MatrixEnd, destination: &MatrixEnd| {
            focus.is_some() && !is_in(source) && !is_in(destination)
        };
        let matrix = ReachMatrix::between(reach, sources, destinations, is_hidden);
        ReachMatrix { focus, ..matrix }
    }

    /// What some pods reach (egress), or what reaches them (ingress), of everything there is. They are shown by workload; of the other
    /// ends, those that policies treat alike share a line where there are many.
    pub(crate) fn of_pods(
        snapshot: &Snapshot,
        reach: &'r Reach,
        pods: &BTreeSet<PodKey>,
        direction: Direction,
    ) -> (ReachMatrix<'r>, LinesLeftOut) {
        let ends = EndsOf::new(snapshot, reach);
        let mut own = ends.of_pods(pods);
        let mut others = ends.taken_by(&[]);
        if others.len() > APART {
            others = grouped(others, |_| true);
        }
        // Addresses outside are last in the list, and are what people ask for first.
        others.sort_by_key(|end| !end.is_outside());
        let left_out =
            LinesLeftOut { own: own.len().saturating_sub(LINES), others: others.len().saturating_sub(LINES) };
        own.truncate(LINES);
        others.truncate(LINES);
        others.sort_by_key(MatrixEnd::is_outside);
        let (sources, destinations) = match direction {
            Direction::Egress => (own, others),
            Direction::Ingress => (others, own),
        };
        (ReachMatrix::between(reach, sources, destinations, |_, _| false), left_out)
    }

    fn between(
        reach: &'r Reach,
        sources: Vec<MatrixEnd>,
        destinations: Vec<MatrixEnd>,
        is_hidden: impl Fn(&MatrixEnd, &MatrixEnd) -> bool,
    ) -> ReachMatrix<'r> {
        let mut pairs = reach.pairs();
        let mut cells = Vec::with_capacity(sources.len() * destinations.len());
        for source in &sources {
            for destination in &destinations {
                let same = source.class == destination.class && source.names == destination.names;
                let is_pair = !(is_hidden(source, destination)
                    || source.is_outside() && destination.is_outside()
                    || same && !source.meets_itself);
                cells.push(is_pair.then(|| pairs.between(source.class, destination.class)));
            }
        }
        let mut matrix = ReachMatrix { sources, destinations, focus: None, cells, pairs };
        matrix.join_outside();
        matrix.drop_silent();
        tell_apart(&mut matrix.sources, &mut matrix.destinations);
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
        let rows = self.joined(&self.sources, |row| {
            (0..self.destinations.len()).map(|column| self.words(row, column)).collect()
        });
        let columns = self.joined(&self.destinations, |column| {
            (0..self.sources.len()).map(|row| self.words(row, column)).collect()
        });
        self.keep(&rows, &columns);
    }

    /// Leaves out addresses of a family that no pod has.
    fn drop_silent(&mut self) {
        let speaks = |row: usize| {
            !self.sources[row].is_outside()
                || (0..self.destinations.len()).any(|column| self.cell(row, column).is_some())
        };
        let listens = |column: usize| {
            !self.destinations[column].is_outside()
                || (0..self.sources.len()).any(|row| self.cell(row, column).is_some())
        };
        let rows: Vec<Vec<usize>> =
            (0..self.sources.len()).filter(|row| speaks(*row)).map(|row| vec![row]).collect();
        let columns: Vec<Vec<usize>> = (0..self.destinations.len())
            .filter(|column| listens(*column))
            .map(|column| vec![column])
            .collect();
        self.keep(&rows, &columns);
    }

    fn words(&self, row: usize, column: usize) -> Option<Vec<String>> {
        self.cell(row, column).map(|cell| cell.words())
    }

    /// The lines to keep, each with those that become one with it.
    fn joined(
        &self,
        ends: &[MatrixEnd],
        words: impl Fn(usize) -> Vec<Option<Vec<String>>>,
    ) -> Vec<Vec<usize>> {
        let mut kept: Vec<Vec<usize>> = Vec::new();
        let mut known: BTreeMap<Vec<Option<Vec<String>>>, usize> = BTreeMap::new();
        for (line, end) in ends.iter().enumerate() {
            if end.is_outside() {
                let place = *known.entry(words(line)).or_insert(kept.len());
                if let Some(lines) = kept.get_mut(place) {
                    lines.push(line);
                    continue;
                }
            }
            kept.push(vec![line]);
        }
        kept
    }

    /// Keeps these lines, each with the names of those that become one with it. They allow the same in the families that they have.
    fn keep(&mut self, rows: &[Vec<usize>], columns: &[Vec<usize>]) {
        let width = self.destinations.len();
        let cell = |row: &[usize], column: &[usize]| {
            let places = row.iter().flat_map(|row| column.iter().map(move |column| row * width + column));
            places.filter_map(|place| self.cells[place]).reduce(Connectivity::or)
        };
        self.cells =
            rows.iter().flat_map(|row| columns.iter().map(move |column| cell(row, column))).collect();
        let pick = |ends: &[MatrixEnd], kept: &[Vec<usize>]| -> Vec<MatrixEnd> {
            let names = |lines: &[usize]| lines.iter().flat_map(|line| ends[*line].names.clone()).collect();
            kept.iter().map(|lines| MatrixEnd { names: names(lines), ..ends[lines[0]].clone() }).collect()
        };
        self.sources = pick(&self.sources, rows);
        self.destinations = pick(&self.destinations, columns);
    }
}
