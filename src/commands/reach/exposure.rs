//! What is reachable from farther away than a workload's own namespace.

use super::json::{addresses, of_ports};
use super::table::in_markdown;
use crate::commands::API_VERSION;
use crate::model::{Direction, Snapshot};
use crate::net::{Family, PortSet};
use crate::reach::{ClassId, Pairs, Reach, ReachName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What can reach a workload.
#[derive(Debug)]
pub(super) struct Exposure {
    name: String,
    isolated: bool,
    /// The ports that a pod without labels in a new namespace reaches: every pod reaches them.
    any_pod: PortSet,
    /// What pods of other namespaces reach beyond that.
    namespaces: BTreeMap<String, PortSet>,
    /// What addresses outside reach.
    outside: BTreeMap<String, PortSet>,
}

/// What is allowed in any family.
fn open(pairs: &mut Pairs<'_>, from: ClassId, to: ClassId) -> PortSet {
    let answer = pairs.between(from, to);
    let families = Family::BOTH.into_iter().filter_map(|family| pairs.ports(answer, family));
    families.fold(PortSet::default(), |all, ports| all.union(ports))
}

/// What can reach the workloads of these namespaces, or of all.
pub(super) fn exposures(snapshot: &Snapshot, reach: &Reach, namespace: Option<&str>) -> Vec<Exposure> {
    let ends = reach.ends(snapshot);
    let mut pairs = reach.pairs();
    let mut found = Vec::new();
    let shown =
        |name: &ReachName| name.namespace().is_some_and(|own| namespace.is_none_or(|asked| asked == own));
    for end in ends.iter().filter(|end| shown(&end.name)) {
        let any_pod = open(&mut pairs, reach.any_pod(), end.class);
        let mut exposure = Exposure {
            name: end.name.to_string(),
            isolated: reach.is_isolated(end.class, Direction::Ingress),
            any_pod,
            namespaces: BTreeMap::new(),
            outside: BTreeMap::new(),
        };
        for other in ends.iter().filter(|other| other.name.namespace() != end.name.namespace()) {
            let ports = open(&mut pairs, other.class, end.class);
            let (key, beyond, list) = match other.name.namespace() {
                Some(namespace) => {
                    (namespace.to_owned(), ports.difference(&exposure.any_pod), &mut exposure.namespaces)
                }
                None => (other.name.to_string(), ports, &mut exposure.outside),
            };
            if !beyond.is_empty() {
                let known = list.entry(key).or_default();
                *known = known.union(&beyond);
            }
        }
        found.push(exposure);
    }
    found
}

impl Exposure {
    fn fields(&self) -> [String; 5] {
        let of = |list: &BTreeMap<String, PortSet>| {
            // What several may is written once.
            let mut by_ports: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (name, ports) in list {
                by_ports.entry(ports.to_string()).or_default().push(name);
            }
            let parts: Vec<String> =
                by_ports.iter().map(|(ports, names)| format!("{}: {ports}", names.join(", "))).collect();
            if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
        };
        let any = if self.any_pod.is_empty() { "-".to_owned() } else { self.any_pod.to_string() };
        let isolated = if self.isolated { "yes" } else { "no" };
        [self.name.clone(), isolated.to_owned(), any, of(&self.namespaces), of(&self.outside)]
    }

    fn json(&self) -> Value {
        let of = |list: &BTreeMap<String, PortSet>| -> serde_json::Map<String, Value> {
            list.iter().map(|(name, ports)| (name.clone(), of_ports(ports))).collect()
        };
        json!({
            "name": self.name,
            "isolated": self.isolated,
            "anyPod": of_ports(&self.any_pod),
            "namespaces": of(&self.namespaces),
            "outside": of(&self.outside),
        })
    }
}

const HEAD: [&str; 5] = ["WORKLOAD", "ISOLATED", "ANY POD", "OTHER NAMESPACES", "OUTSIDE"];

pub(super) fn print_table(exposures: &[Exposure], out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<[String; 5]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(exposures.iter().map(Exposure::fields)).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(field, width)| format!("{field:width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

pub(super) fn print_markdown(exposures: &[Exposure], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "| {} |\n|:--|:--|:--|:--|:--|", HEAD.map(str::to_lowercase).join(" | "))?;
    exposures.iter().try_for_each(|exposure| {
        let fields = exposure.fields().map(|field| in_markdown(&field));
        writeln!(out, "| {} |", fields.join(" | "))
    })
}

/// The exposures, and the prefixes of which the addresses outside consist.
pub(super) fn json(exposures: &[Exposure], snapshot: &Snapshot, reach: &Reach) -> Value {
    let workloads: Vec<Value> = exposures.iter().map(Exposure::json).collect();
    let addresses: Vec<Value> = reach.ends(snapshot).iter().filter_map(|end| addresses(&end.name)).collect();
    json!({"apiVersion": API_VERSION, "kind": "Exposure", "workloads": workloads, "addresses": addresses})
}
