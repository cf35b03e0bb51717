//! `reach.txt`: who reaches whom, as a table that people read and write.
//!
//! ```text
//! # Only the front end may speak to the database.
//! 5432/TCP      shop/db   outside
//! shop/web      .         -
//! shop/other    X         -
//! node-a        .         -
//! ```
//! A block per port, blank lines between blocks. Its first line names the port and, as columns, the destinations;
//! each further line is a source. A cell is `.` allowed, `X` denied, `4` or `6` allowed over that family and denied
//! over the other, `a` allowed and reported, because audited policies would deny it, `-` not asked. Where the two ends have only one family in common, `.` and `X` mean that one.
//! `#` begins a comment.

use crate::topology::Node;
use bridgewarden::net::{Family, Protocol};
use std::fmt;
use std::net::IpAddr;
use thiserror::Error;

/// One block: who reaches whom on one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The line of its head, from 1.
    pub line: usize,
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The columns.
    pub destinations: Vec<Name>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The cells of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line, from 1.
    pub line: usize,
    /// The source.
    pub source: Name,
    /// One cell per destination.
    pub cells: Vec<Cell>,
}

/// An endpoint in a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// `namespace/pod`.
    Pod {
        /// The namespace.
        namespace: String,
        /// The pod.
        name: String,
    },
    /// `svc:namespace/service`: a Service, at its cluster address.
    Service {
        /// The namespace.
        namespace: String,
        /// The Service.
        name: String,
    },
    /// `node-a`, `node-b`: the node itself.
    Node(&'static str),
    /// `outside`: neither pod nor node.
    Outside,
    /// `64:ff9b::7`: another host outside, with this address.
    Stranger(IpAddr),
}

/// The expectation of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `.`: the connection is allowed over every family that both ends have.
    Allowed,
    /// `X`: it is denied over every family.
    Denied,
    /// `4` or `6`: allowed over this family, denied over the other.
    Only(Family),
    /// `a`: it is allowed over every family, and reported, because audited policies would deny it.
    Reported,
    /// `-`: the table says nothing.
    Unasked,
}

/// Where and why a table can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and what to write.
    pub problem: String,
}

/// Parses the tables of a `reach.txt`.
///
/// # Errors
/// [`Unreadable`] for the first line that doesn't have the form described above.
pub fn parse(text: &str) -> Result<Vec<Table>, Unreadable> {
    let mut tables: Vec<Table> = Vec::new();
    let mut in_block = false;
    for (number, full) in (1..).zip(text.lines()) {
        let line = full.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        let at = |problem: String| Unreadable { line: number, problem };
        match (words.next(), tables.last_mut()) {
            // A line that only holds a comment doesn't end a block.
            (None, _) => in_block = in_block && !full.trim().is_empty(),
            (Some(source), Some(table)) if in_block => {
                let row = row(table, number, source, words).map_err(at)?;
                table.rows.push(row);
            }
            (Some(port), _) => {
                tables.push(head(number, port, words).map_err(at)?);
                in_block = true;
            }
        }
    }
    match tables.iter().find(|table| table.rows.is_empty()) {
        Some(table) => Err(Unreadable { line: table.line, problem: "the block has no rows".to_string() }),
        None => Ok(tables),
    }
}

fn head<'t>(line: usize, port: &str, names: impl Iterator<Item = &'t str>) -> Result<Table, String> {
    let form = || format!("a block begins with a port such as `80/TCP`, not `{port}`");
    let (number, protocol) = port.split_once('/').ok_or_else(form)?;
    let number: u16 = number.parse().map_err(|_| form())?;
    let protocol = Protocol::parse(protocol).ok_or_else(form)?;
    let mut destinations = Vec::new();
    for name in names {
        let name = Name::parse(name)?;
        if let Name::Node(node) = name {
            return Err(format!("{node} is a source only: nothing listens on a node itself"));
        }
        if destinations.contains(&name) {
            return Err(format!("the column {name} is there twice"));
        }
        destinations.push(name);
    }
    if destinations.is_empty() {
        return Err(format!("the block of {port} names no destinations"));
    }
    Ok(Table { line, port: number, protocol, destinations, rows: Vec::new() })
}

fn row<'t>(
    table: &Table,
    line: usize,
    source: &str,
    cells: impl Iterator<Item = &'t str>,
) -> Result<Row, String> {
    let source = Name::parse(source)?;
    if let Name::Service { .. } = source {
        return Err(format!("{source} is a destination only: a Service sends nothing"));
    }
    if let Some(first) = table.rows.iter().find(|row| row.source == source) {
        return Err(format!("{source} has a row already, in line {}", first.line));
    }
    let cells: Vec<Cell> = cells.map(Cell::parse).collect::<Result<_, _>>()?;
    if cells.len() != table.destinations.len() {
        return Err(format!("{source} has {} cells for {} columns", cells.len(), table.destinations.len()));
    }
    Ok(Row { line, source, cells })
}

impl Name {
    fn parse(text: &str) -> Result<Name, String> {
        if text == "outside" {
            return Ok(Name::Outside);
        }
        if let Some(node) = Node::named(text) {
            return Ok(Name::Node(node.name));
        }
        if let Ok(address) = text.parse() {
            return Ok(Name::Stranger(address));
        }
        let (is_service, path) = match text.strip_prefix("svc:") {
            Some(path) => (true, path),
            None => (false, text),
        };
        match path.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                let (namespace, name) = (namespace.to_string(), name.to_string());
                Ok(if is_service { Name::Service { namespace, name } } else { Name::Pod { namespace, name } })
            }
            _ => Err(format!(
                "`{text}` is no endpoint: write namespace/pod, svc:namespace/service, node-a, node-b, outside or an address"
            )),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Name::Service { namespace, name } => write!(f, "svc:{namespace}/{name}"),
            Name::Node(node) => f.write_str(node),
            Name::Outside => f.write_str("outside"),
            Name::Stranger(address) => address.fmt(f),
        }
    }
}

impl Cell {
    fn parse(text: &str) -> Result<Cell, String> {
        match text {
            "." => Ok(Cell::Allowed),
            "X" => Ok(Cell::Denied),
            "4" => Ok(Cell::Only(Family::V4)),
            "6" => Ok(Cell::Only(Family::V6)),
            "a" => Ok(Cell::Reported),
            "-" => Ok(Cell::Unasked),
            other => Err(format!("`{other}` is no cell: write . X 4 6 a or -")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn table_is_read_as_it_looks() {
        let tables = parse(
            "# a comment\n\n80/TCP  team/web outside # on the right\n# inside\nteam/db  .  X\nnode-a 4 -\n\n53/UDP team/dns\noutside 6\n",
        )
        .unwrap();
        let pod = |name: &str| Name::Pod { namespace: "team".to_string(), name: name.to_string() };
        let rows = vec![
            Row { line: 5, source: pod("db"), cells: vec![Cell::Allowed, Cell::Denied] },
            Row { line: 6, source: Name::Node("node-a"), cells: vec![Cell::Only(Family::V4), Cell::Unasked] },
        ];
        let destinations = vec![pod("web"), Name::Outside];
        assert_eq!(tables[0], Table { line: 3, port: 80, protocol: Protocol::Tcp, destinations, rows });
        assert_eq!((tables[1].line, tables[1].port, tables[1].protocol), (8, 53, Protocol::Udp));
        assert_eq!(tables.len(), 2);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        assert_eq!(problem("\n80 a/b\n"), "line 2: a block begins with a port such as `80/TCP`, not `80`");
        assert_eq!(
            problem("80/ICMP a/b"),
            "line 1: a block begins with a port such as `80/TCP`, not `80/ICMP`"
        );
        assert_eq!(problem("80/TCP\n"), "line 1: the block of 80/TCP names no destinations");
        assert_eq!(problem("80/TCP a/b\n"), "line 1: the block has no rows");
        assert_eq!(problem("80/TCP a/b a/b\n"), "line 1: the column a/b is there twice");
        assert_eq!(
            problem("80/TCP node-a\n"),
            "line 1: node-a is a source only: nothing listens on a node itself"
        );
        assert_eq!(
            problem("80/TCP svc:a/b\nsvc:a/c .\n"),
            "line 2: svc:a/c is a destination only: a Service sends nothing"
        );
        assert_eq!(problem("80/TCP a/b\na/c . .\n"), "line 2: a/c has 2 cells for 1 columns");
        assert_eq!(problem("80/TCP a/b\na/c x\n"), "line 2: `x` is no cell: write . X 4 6 a or -");
        assert_eq!(problem("80/TCP a/b\na/c X\na/c X\n"), "line 3: a/c has a row already, in line 2");
        assert_eq!(
            problem("80/TCP a/b\nnode-c .\n"),
            "line 2: `node-c` is no endpoint: write namespace/pod, svc:namespace/service, node-a, node-b, outside or an address"
        );
    }
}
