//! The connections as a graph in the language of Graphviz.

use crate::matrix::{MatrixEnd, ReachMatrix};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

pub(super) fn print(matrix: &ReachMatrix<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut by_namespace: BTreeMap<Option<&str>, BTreeSet<String>> = BTreeMap::new();
    for end in matrix.sources.iter().chain(&matrix.destinations) {
        by_namespace.entry(end.namespace()).or_default().insert(end.label());
    }
    writeln!(out, "digraph reach {{\n  rankdir=LR;\n  node [shape=box];")?;
    for (number, (namespace, labels)) in by_namespace.iter().enumerate() {
        let indent = if let Some(namespace) = namespace {
            writeln!(out, "  subgraph cluster_{number} {{\n    label={};", quoted(namespace))?;
            "    "
        } else {
            "  "
        };
        for label in labels {
            writeln!(out, "{indent}{} [label={}];", quoted(label), quoted(short(label, *namespace)))?;
        }
        if namespace.is_some() {
            writeln!(out, "  }}")?;
        }
    }
    for (source, destination, cell) in matrix.connections() {
        let [from, to] = [source, destination].map(MatrixEnd::label);
        let label = if cell.is_all() { "all".to_owned() } else { cell.words().join("\n") };
        writeln!(out, "  {} -> {} [label={}];", quoted(&from), quoted(&to), quoted(&label))?;
    }
    writeln!(out, "}}")
}

fn short<'l>(label: &'l str, namespace: Option<&str>) -> &'l str {
    namespace.and_then(|namespace| label.strip_prefix(namespace)?.strip_prefix('/')).unwrap_or(label)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
