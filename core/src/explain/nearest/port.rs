//! How the ports of a rule differ from a connection.

use super::{Differs, Fit, Miss, few};
use crate::model::{Cluster, Group, PortMatch, Ports};
use crate::net::{Flow, PortRange, Protocol};
use std::collections::BTreeSet;
use std::fmt;

/// Whether the ports of a rule match a connection.
pub(super) fn fit(cluster: &Cluster, ports: &Ports, denied: &Flow) -> Fit {
    let Ports::Listed(ports) = ports else { return Fit::Takes };
    let groups: Vec<&Group> =
        cluster.holders(denied.destination).filter_map(|id| cluster.group(id)).collect();
    let allowed: Vec<RulePort<'_>> = ports.iter().map(|port| RulePort { port, groups: &groups }).collect();
    let Some((protocol, number)) = denied.port else {
        let note = format!("the protocol: {}", few(allowed.iter()));
        return if ports.is_empty() {
            Fit::IsFar
        } else {
            Fit::Misses(Miss { differs: Differs::Protocol, note })
        };
    };
    if allowed.iter().any(|allowed| allowed.takes(protocol, number)) {
        return Fit::Takes;
    }
    let differs = if Protocol::ALL.iter().any(|other| allowed.iter().any(|port| port.takes(*other, number))) {
        Differs::Protocol
    } else if allowed.is_empty() {
        return Fit::IsFar;
    } else {
        Differs::Port
    };
    let note = format!("the {}: {}, not {number}/{protocol}", differs.word(), few(allowed.iter()));
    Fit::Misses(Miss { differs, note })
}

/// A port of a rule, and the pods at the connection's destination.
struct RulePort<'a> {
    port: &'a PortMatch,
    groups: &'a [&'a Group],
}

impl RulePort<'_> {
    fn takes(&self, protocol: Protocol, number: u16) -> bool {
        match self.port {
            PortMatch::Protocol(own) => *own == protocol,
            PortMatch::Numbered(own, range) => *own == protocol && range.contains(number),
            PortMatch::Named(own, name) => *own == protocol && self.declared(*own, name).contains(&number),
        }
    }

    fn declared(&self, protocol: Protocol, name: &str) -> BTreeSet<u16> {
        let ports = self.groups.iter().flat_map(|group| &group.ports);
        ports.filter(|port| port.protocol == protocol && *port.name == *name).map(|port| port.port).collect()
    }
}

impl fmt::Display for RulePort<'_> {
    /// `80/TCP`, `80-90/TCP`, `any TCP`, `http (8080/TCP there)`, `http (no TCP port there)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PortMatch::Protocol(protocol) => write!(f, "any {protocol}"),
            PortMatch::Numbered(protocol, range) => write!(f, "{}/{protocol}", span(*range)),
            PortMatch::Named(protocol, name) => {
                let declared = self.declared(*protocol, name).into_iter();
                let there = few(declared.map(|port| format!("{port}/{protocol}")));
                if there.is_empty() {
                    write!(f, "{name} (no {protocol} port there)")
                } else {
                    write!(f, "{name} ({there} there)")
                }
            }
        }
    }
}

fn span(range: PortRange) -> String {
    if range.first() == range.last() {
        range.first().to_string()
    } else {
        format!("{}-{}", range.first(), range.last())
    }
}
