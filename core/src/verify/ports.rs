//! The classes of ports that policies or rules can distinguish, by the first port of each.

use super::AskedFacts;
use crate::model::{NamedPort, PortMatch, Ports, Rule};
use crate::net::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// By protocol, the first port of each class.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortClasses(BTreeMap<Protocol, BTreeSet<u16>>);

impl PortClasses {
    /// What rules of policies and of the kernel ask.
    pub(super) fn of<'r>(rules: impl Iterator<Item = &'r Rule>, facts: &AskedFacts) -> PortClasses {
        let mut classes = PortClasses::default();
        Protocol::ALL.into_iter().for_each(|protocol| classes.begin(protocol, 1));
        for rule in rules {
            let Ports::Listed(ports) = &rule.ports else { continue };
            for port in ports {
                if let PortMatch::Numbered(protocol, range) = port {
                    classes.add(*protocol, range.first(), range.last());
                }
            }
        }
        for (protocol, starts) in &facts.starts {
            starts.iter().for_each(|start| classes.begin(*protocol, *start));
        }
        classes
    }

    /// Ports that the destination declares under a name.
    pub(super) fn declare<'p>(&mut self, ports: impl Iterator<Item = &'p NamedPort>) {
        ports.for_each(|port| self.add(port.protocol, port.port, port.port));
    }

    /// Ports that a set holds of the destination.
    pub(super) fn hold(&mut self, ports: &[(Protocol, u16)]) {
        ports.iter().for_each(|(protocol, port)| self.add(*protocol, *port, *port));
    }

    /// The classes of two in one.
    pub(super) fn join(&mut self, other: &PortClasses) {
        for (protocol, starts) in &other.0 {
            self.0.entry(*protocol).or_default().extend(starts);
        }
    }

    fn add(&mut self, protocol: Protocol, first: u16, last: u16) {
        self.begin(protocol, first);
        if let Some(behind) = last.checked_add(1) {
            self.begin(protocol, behind);
        }
    }

    fn begin(&mut self, protocol: Protocol, start: u16) {
        if start > 0 {
            self.0.entry(protocol).or_default().insert(start);
        }
    }

    /// One port of each class, and a protocol without ports.
    pub(super) fn representatives(&self) -> impl Iterator<Item = Option<(Protocol, u16)>> {
        let ports = self.0.iter();
        let ports = ports.flat_map(|(protocol, starts)| starts.iter().map(|start| Some((*protocol, *start))));
        ports.chain([None])
    }
}
