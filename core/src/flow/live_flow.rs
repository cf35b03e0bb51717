//! The live connections of a node's pods, as its agent reports them.

use super::FlowEnd;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The live connections of the pods of one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveFlows {
    /// When they were listed, in UTC (RFC 3339).
    pub time: String,
    /// The node.
    pub node: String,
    /// The connections with an end at a pod of the node, in the order of their addresses, at most as many as an agent reports.
    pub flows: Vec<LiveFlow>,
    /// How many connections are not among them, because there are too many.
    pub left_out: u64,
}

/// Live connections that policies cannot distinguish: they differ in nothing but the source's port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveFlow {
    /// What opened them.
    pub source: FlowEnd,
    /// What answers, after a Service's address was translated.
    pub destination: FlowEnd,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The destination's port.
    pub port: u16,
    /// How many there are.
    pub connections: u64,
}

impl fmt::Display for LiveFlow {
    /// `shop/web (10.0.0.1) -> shop/db (10.0.0.2) 5432/TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LiveFlow { source, destination, protocol, port, .. } = self;
        let end = |end: &FlowEnd| match end.pod {
            Some(_) => format!("{end} ({})", end.address),
            None => end.address.to_string(),
        };
        write!(f, "{} -> {} {port}/{protocol}", end(source), end(destination))
    }
}
