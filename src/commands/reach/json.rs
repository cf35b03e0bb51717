//! The matrix as JSON: see docs/reach.schema.json.

use crate::commands::API_VERSION;
use crate::matrix::{Cell, MatrixEnd, ReachMatrix};
use crate::net::PortSet;
use crate::reach::ReachName;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Prints the document with a line for each connection: there may be millions.
pub(super) fn print(matrix: &ReachMatrix<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut ends: Vec<Value> = Vec::new();
    let mut known = BTreeSet::new();
    // A source and a destination with the same label are the same end.
    for end in matrix.sources.iter().chain(&matrix.destinations) {
        if known.insert(end.label()) {
            ends.push(of_end(end));
        }
    }
    let header = [("apiVersion", json!(API_VERSION)), ("kind", json!("Reach"))];
    writeln!(out, "{{")?;
    header.iter().try_for_each(|(key, value)| writeln!(out, "  \"{key}\": {value},"))?;
    writeln!(out, "  \"ends\": [")?;
    print_items(ends.into_iter(), out)?;
    writeln!(out, "  ],\n  \"connections\": [")?;
    let connections = matrix.connections().map(|(source, destination, cell)| {
        json!({"from": source.label(), "to": destination.label(), "allowed": allowed(cell)})
    });
    print_items(connections, out)?;
    writeln!(out, "  ]\n}}")
}

fn print_items(items: impl Iterator<Item = Value>, out: &mut impl Write) -> io::Result<()> {
    let mut separator = "";
    for item in items {
        write!(out, "{separator}    {item}")?;
        separator = ",\n";
    }
    if separator.is_empty() { Ok(()) } else { writeln!(out) }
}

fn of_end(end: &MatrixEnd) -> Value {
    let name = end.label();
    let Some([egress, ingress]) = end.isolated else {
        let prefixes: Vec<String> = end.prefixes().map(ToString::to_string).collect();
        return json!({"name": name, "prefixes": prefixes});
    };
    let workloads: Vec<String> = end.names.iter().map(ReachName::in_full).collect();
    let isolated = json!({"egress": egress, "ingress": ingress});
    json!({"name": name, "workloads": workloads, "pods": end.pods, "isolated": isolated})
}

/// Addresses outside, as their name abbreviates them, with all their prefixes; `None` for a workload.
pub(crate) fn addresses(name: &ReachName) -> Option<Value> {
    let ReachName::Outside { prefixes, .. } = name else { return None };
    let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    Some(json!({"name": name.to_string(), "prefixes": prefixes}))
}

/// What is allowed, by family; a family is absent if the ends do not share it.
pub(crate) fn allowed(cell: Cell<'_>) -> Value {
    let mut families = serde_json::Map::new();
    for (family, ports) in [("IPv4", cell.v4), ("IPv6", cell.v6)] {
        if let Some(ports) = ports {
            families.insert(family.to_owned(), of_ports(ports));
        }
    }
    Value::Object(families)
}

/// Its parts, such as `80/TCP`.
pub(crate) fn of_ports(ports: &PortSet) -> Value {
    json!(ports.words())
}
