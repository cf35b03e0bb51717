//! Converts tables to connections to try, each with its expected outcome.

use crate::cluster::ScenarioCluster;
use crate::key::ObjectKey;
use crate::world::ScenarioWorld;
use anyhow::{Context, Result, ensure};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::testbed::{Endpoint, ProbeOutcome, ResolvedProbe};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use support::reach::{Cell, Name, Table};

/// A connection that a table has a cell for, the same before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProbeExpectation {
    /// The sender.
    pub(crate) source: Name,
    /// The receiver.
    pub(crate) destination: Name,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The destination port.
    pub(crate) port: u16,
    /// The family.
    pub(crate) family: Family,
}

/// A connection with its expected outcome, and the probe that tries it.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    /// The connection.
    pub(crate) question: ProbeExpectation,
    /// Whether it is expected to be established.
    pub(crate) open: bool,
    /// The probe.
    pub(crate) probe: ResolvedProbe,
}

impl Expectation {
    /// Whether an outcome is the expected one.
    pub(crate) fn is_met_by(&self, outcome: &ProbeOutcome) -> bool {
        (*outcome == ProbeOutcome::Open) == self.open
    }

    /// A line that describes an unexpected outcome.
    pub(crate) fn mismatch(&self, outcome: &ProbeOutcome) -> String {
        let wanted = if self.open { "open" } else { "refused" };
        format!("{} should be {wanted} and is {outcome}", self.question)
    }
}

impl fmt::Display for ProbeExpectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProbeExpectation { source, destination, protocol, port, family } = self;
        write!(f, "{source} -> {destination} {port}/{protocol} over {family}")
    }
}

/// All connections of tables, with the addresses of a world.
pub(crate) fn expectations(
    world: &dyn ScenarioWorld,
    cluster: &ScenarioCluster,
    tables: &[Table],
) -> Result<Vec<Expectation>> {
    let mut expectations = Vec::new();
    for table in tables {
        for row in &table.rows {
            let source = world.find(&row.source)?;
            let namespace = source.namespace.with_context(|| format!("{} sends nothing", row.source))?;
            for (destination, cell) in table.destinations.iter().zip(&row.cells) {
                let reached = world.find(destination)?;
                let before = expectations.len();
                for to in &reached.addresses {
                    let family = Family::of(*to);
                    let source_has_it = source.addresses.iter().any(|own| Family::of(*own) == family);
                    let (Some(open), true) = (promised(*cell, family), source_has_it) else { continue };
                    expectations.push(Expectation {
                        question: ProbeExpectation {
                            source: row.source.clone(),
                            destination: destination.clone(),
                            protocol: table.protocol,
                            port: table.port,
                            family,
                        },
                        open,
                        probe: ResolvedProbe {
                            namespace: namespace.clone(),
                            source: match row.source {
                                Name::Stranger(address) => Some(address),
                                Name::Pod { .. } | Name::Service { .. } | Name::Node(_) | Name::Outside => {
                                    None
                                }
                            },
                            to: SocketAddr::new(*to, table.port),
                            protocol: table.protocol,
                            owners: owners(cluster, destination),
                        },
                    });
                }
                let asked = expectations.len() > before || *cell == Cell::Unasked;
                ensure!(asked, "{} and {destination} share no family", row.source);
            }
        }
    }
    Ok(expectations)
}

/// The endpoints that may answer for a destination.
fn owners(cluster: &ScenarioCluster, destination: &Name) -> BTreeSet<Endpoint> {
    match destination {
        Name::Pod { namespace, name } => [Endpoint::pod(namespace, name)].into(),
        Name::Service { namespace, name } => {
            cluster.behind(&ObjectKey::new(namespace, name)).into_iter().map(ObjectKey::endpoint).collect()
        }
        Name::Node(node) => [Endpoint::node(node)].into(),
        Name::Outside | Name::Stranger(_) => [Endpoint::Outside].into(),
    }
}

fn promised(cell: Cell, family: Family) -> Option<bool> {
    match cell {
        Cell::Allowed | Cell::Reported => Some(true),
        Cell::Denied => Some(false),
        Cell::Only(only) => Some(only == family),
        Cell::Unasked => None,
    }
}
