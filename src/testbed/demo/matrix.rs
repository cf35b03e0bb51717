//! Findings as a table. Pure.

use super::question::{Finding, short};
use crate::explain::oracle::Ruling;
use crate::net::{Family, Protocol};
use crate::testbed::{Endpoint, Port};
use std::collections::{BTreeMap, BTreeSet};

/// What the letters of the table mean.
pub(super) const LEGEND: &str =
    ". open   X refused   4, 6 open over IPv4 only, IPv6 only   ! not as expected   /u UDP, otherwise TCP";

/// Between two destinations of one namespace.
const GAP: usize = 2;
/// Between two namespaces.
const WIDE_GAP: usize = 3;

/// Whether the text is for a terminal that has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Letters only.
    Plain,
    /// With the terminal's colours.
    Colour,
}

/// The findings for one sender and one port of one destination, over all families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MatrixCell {
    Open,
    Refused,
    Only(Family),
    Mismatch,
}

impl MatrixCell {
    fn of(findings: &BTreeMap<Family, &Finding>) -> MatrixCell {
        if !findings.values().all(|finding| finding.is_as_expected()) {
            return MatrixCell::Mismatch;
        }
        let open = |finding: &Finding| finding.question.expected == Ruling::Allowed;
        let mut families = findings.iter().filter(|(_, finding)| open(finding)).map(|(family, _)| *family);
        match (families.next(), families.next()) {
            (None, _) => MatrixCell::Refused,
            (Some(only), None) if findings.len() > 1 => MatrixCell::Only(only),
            (Some(_), _) => MatrixCell::Open,
        }
    }

    fn letter(self) -> char {
        match self {
            MatrixCell::Open => '.',
            MatrixCell::Refused => 'X',
            MatrixCell::Only(family) => family.digit(),
            MatrixCell::Mismatch => '!',
        }
    }

    /// The number of its colour, as in ECMA-48's "select graphic rendition".
    fn colour(self) -> &'static str {
        match self {
            MatrixCell::Open => "32",
            MatrixCell::Refused => "2",
            MatrixCell::Only(_) => "36",
            MatrixCell::Mismatch => "1;31",
        }
    }
}

/// A table of findings: a row for each sender, a column for each destination's port.
#[derive(Debug)]
pub(super) struct Matrix {
    senders: Vec<Endpoint>,
    destinations: Vec<Destination>,
    cells: BTreeMap<(Endpoint, Endpoint, Port), MatrixCell>,
}

/// A destination with its ports.
#[derive(Debug)]
struct Destination {
    to: Endpoint,
    ports: Vec<Port>,
}

impl Matrix {
    /// Sorts findings into a table.
    pub(super) fn of(findings: &[Finding]) -> Matrix {
        let mut known: BTreeMap<(Endpoint, Endpoint, Port), BTreeMap<Family, &Finding>> = BTreeMap::new();
        let (mut senders, mut destinations) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for finding in findings {
            let connection = &finding.question.connection;
            let (from, to) = (connection.from.clone(), connection.to.clone());
            senders.insert(from.clone());
            destinations.entry(to.clone()).or_default().insert((connection.port, connection.protocol));
            let port = (connection.protocol, connection.port);
            known.entry((from, to, port)).or_default().insert(connection.family, finding);
        }
        let cells = known.into_iter().map(|(place, findings)| (place, MatrixCell::of(&findings))).collect();
        let destinations = destinations.into_iter().map(|(to, ports)| {
            let ports = ports.into_iter().map(|(port, protocol)| (protocol, port)).collect();
            Destination { to, ports }
        });
        Matrix { senders: senders.into_iter().collect(), destinations: destinations.collect(), cells }
    }

    /// The table as text, in bands of at most `width` columns where a single destination is not wider.
    pub(super) fn text(&self, width: usize, paint: Paint) -> String {
        let names: Vec<(String, String)> = self.senders.iter().map(words).collect();
        let longest = |of: fn(&(String, String)) -> usize| names.iter().map(of).max().unwrap_or(0);
        let namespace_width = longest(|(namespace, _)| namespace.len()).max("from".len());
        let left = namespace_width + GAP + longest(|(_, name)| name.len()) + WIDE_GAP;
        let bands: Vec<String> = self
            .bands(width.saturating_sub(left))
            .into_iter()
            .map(|band| self.band(&band, &names, namespace_width, left, paint))
            .collect();
        bands.join("\n")
    }

    /// Distributes the destinations to bands; a namespace is kept together if it fits.
    fn bands(&self, room: usize) -> Vec<Vec<&Destination>> {
        let mut bands: Vec<Vec<&Destination>> = Vec::new();
        let same = |one: &Destination, other: &Destination| words(&one.to).0 == words(&other.to).0;
        for namespace in self.destinations.chunk_by(same) {
            let whole: Vec<&Destination> = namespace.iter().collect();
            let pieces = if fits(&whole, room) {
                vec![whole]
            } else {
                whole.into_iter().map(|destination| vec![destination]).collect()
            };
            for piece in pieces {
                match bands.last_mut() {
                    Some(band) if fits(&[&band[..], &piece[..]].concat(), room) => band.extend(piece),
                    Some(_) | None => bands.push(piece),
                }
            }
        }
        bands
    }

    fn band(
        &self,
        band: &[&Destination],
        names: &[(String, String)],
        namespace_width: usize,
        left: usize,
        paint: Paint,
    ) -> String {
        let columns = columns(band, left);
        let mut head = [TextLine::default(), TextLine::default(), TextLine::default()];
        head[0].put(0, "to");
        head[2].put(0, "from");
        let mut above = None;
        for column in &columns {
            let (namespace, name) = words(&column.to);
            if column.is_first {
                if above.as_ref() != Some(&namespace) {
                    head[0].put(column.start, &namespace);
                }
                head[1].put(column.start, &name);
                above = Some(namespace);
            }
            head[2].put(column.start, &title(column.port));
        }
        let mut lines = Vec::from(head);
        let mut above = None;
        for (from, (namespace, name)) in self.senders.iter().zip(names) {
            let cells = columns.iter().filter_map(|column| {
                let place = (from.clone(), column.to.clone(), column.port);
                Some((column.start + (title(column.port).len() - 1) / 2, *self.cells.get(&place)?))
            });
            let cells: Vec<(usize, MatrixCell)> = cells.collect();
            if cells.is_empty() {
                continue;
            }
            let mut line = TextLine::default();
            if above != Some(namespace) {
                line.put(0, namespace);
            }
            above = Some(namespace);
            line.put(namespace_width + GAP, name);
            for (start, cell) in cells {
                line.put_cell(start, cell, paint);
            }
            lines.push(line);
        }
        lines.into_iter().map(|line| line.text + "\n").collect()
    }
}

/// A port of a destination, and where its title starts.
struct Column {
    to: Endpoint,
    port: Port,
    start: usize,
    /// Whether it is the first of its destination.
    is_first: bool,
}

fn columns(band: &[&Destination], left: usize) -> Vec<Column> {
    let mut columns = Vec::new();
    for (destination, begin) in band.iter().zip(begins(band).0) {
        let mut start = left + begin;
        for (place, &port) in destination.ports.iter().enumerate() {
            columns.push(Column { to: destination.to.clone(), port, start, is_first: place == 0 });
            start += title(port).len() + 1;
        }
    }
    columns
}

fn fits(band: &[&Destination], room: usize) -> bool {
    begins(band).1 <= room
}

/// Where each destination of a band begins, and how wide the band is.
fn begins(band: &[&Destination]) -> (Vec<usize>, usize) {
    let (mut begins, mut end, mut namespace_end) = (Vec::new(), 0, 0);
    let mut above = None;
    for destination in band {
        let (namespace, name) = words(&destination.to);
        let is_first = above.as_ref() != Some(&namespace);
        let begin = match (is_first, begins.is_empty()) {
            (_, true) => 0,
            (true, false) => end.max(namespace_end) + WIDE_GAP,
            (false, false) => end + GAP,
        };
        if is_first {
            namespace_end = begin + namespace.len();
        }
        let titles: usize = destination.ports.iter().map(|port| title(*port).len() + 1).sum();
        end = begin + titles.saturating_sub(1).max(name.len());
        begins.push(begin);
        above = Some(namespace);
    }
    (begins, end.max(namespace_end))
}

/// The namespace and name of an endpoint in the table.
fn words(endpoint: &Endpoint) -> (String, String) {
    match endpoint {
        Endpoint::Pod(pod) => (pod.namespace.to_string(), pod.name.to_string()),
        Endpoint::Node(_) | Endpoint::Outside => (short(endpoint), String::new()),
    }
}

fn title((protocol, port): Port) -> String {
    match protocol {
        Protocol::Tcp => port.to_string(),
        Protocol::Udp => format!("{port}/u"),
        Protocol::Sctp => format!("{port}/s"),
    }
}

/// A line that is filled from left to right.
#[derive(Default)]
struct TextLine {
    text: String,
    width: usize,
}

impl TextLine {
    fn pad(&mut self, start: usize) {
        let missing = start.saturating_sub(self.width);
        self.text.extend(std::iter::repeat_n(' ', missing));
        self.width += missing;
    }

    fn put(&mut self, start: usize, text: &str) {
        if !text.is_empty() {
            self.pad(start);
            self.text.push_str(text);
            self.width += text.chars().count();
        }
    }

    fn put_cell(&mut self, start: usize, cell: MatrixCell, paint: Paint) {
        self.pad(start);
        match paint {
            Paint::Plain => self.text.push(cell.letter()),
            Paint::Colour => {
                let painted = format!("\x1b[{}m{}\x1b[0m", cell.colour(), cell.letter());
                self.text.push_str(&painted);
            }
        }
        self.width += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::ProbeOutcome;
    use crate::testbed::demo::question::tests::{TWO, findings};

    #[test]
    fn table_shows_who_reaches_whom() {
        let text = Matrix::of(&findings(TWO)).text(120, Paint::Plain);
        let expected = "\
to             shop            outside
               db    web
from           5432  53/u 80   443
shop     db           .   .     .
         web    .               .
outside         X     .   .
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn table_that_is_too_wide_goes_on_below() {
        let text = Matrix::of(&findings(TWO)).text(34, Paint::Plain);
        let widest = text.lines().map(str::len).max();
        assert!(widest <= Some(34) && text.contains("\n\nto             outside\n"), "\n{text}");
        let text = Matrix::of(&findings(TWO)).text(1, Paint::Plain);
        assert_eq!(text.matches("from").count(), 3, "\n{text}");
        assert!(text.ends_with("from           443\nshop     db     .\n         web    .\n"), "\n{text}");
    }

    #[test]
    fn families_that_differ_are_shown_separately() {
        let mut findings = findings(TWO);
        for finding in findings.iter_mut().filter(|finding| {
            finding.question.connection.to == Endpoint::Outside
                && finding.question.connection.family == Family::V6
        }) {
            finding.question.expected =
                Ruling::Denied { by: crate::model::Direction::Egress, isolated_by: Vec::new() };
            finding.measured = ProbeOutcome::Refused;
        }
        let text = Matrix::of(&findings).text(120, Paint::Plain);
        assert!(text.contains("db           .   .     4\n"), "\n{text}");
    }

    #[test]
    fn mismatch_in_one_family_is_seen() {
        let mut findings = findings(TWO);
        findings[1].measured = ProbeOutcome::Open;
        let matrix = Matrix::of(&findings);
        let text = matrix.text(120, Paint::Plain);
        assert!(text.contains("outside         !     .   .\n"), "\n{text}");
        assert!(matrix.text(120, Paint::Colour).contains("\x1b[1;31m!\x1b[0m"));
    }

    #[test]
    fn nothing_to_show_is_an_empty_table() {
        assert_eq!(Matrix::of(&[]).text(120, Paint::Plain), "");
    }
}
