//! The connections that the kernel tracks, counted by what policies can distinguish.

use super::conntrack::ConntrackSocket;
use super::own_addresses;
use crate::apply::{Connection, KernelError};
use crate::net::{Flow, Protocol};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The connections of some addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackedFlows {
    /// How many connections there are of each kind.
    pub flows: BTreeMap<Flow, u64>,
    /// How many connections were left out, because there are too many kinds.
    pub left_out: u64,
}

impl TrackedFlows {
    /// Lists the connections over TCP, UDP and SCTP with an end at one of these addresses, of at most so many kinds. Those of this host
    /// itself, and those that are marked as cut with this bit, are not among them.
    ///
    /// # Errors
    /// The kernel does not list its connections.
    pub fn list(addresses: &BTreeSet<IpAddr>, cut: u32, most: usize) -> Result<TrackedFlows, KernelError> {
        let own = own_addresses()?;
        let is_of_pods = |connection: &Connection| {
            connection.mark & cut == 0
                && !own.contains(&connection.source)
                && !own.contains(&connection.destination)
        };
        ConntrackSocket::open()?.collect(addresses, |all: &mut TrackedFlows, connection| {
            if is_of_pods(&connection) {
                all.add(&connection, most);
            }
        })
    }

    fn add(&mut self, connection: &Connection, most: usize) {
        let Some(protocol) = Protocol::from_number(connection.protocol) else { return };
        let port = Some((protocol, connection.destination_port));
        let flow = Flow { source: connection.source, destination: connection.destination, port };
        let has_room = self.flows.len() < most;
        match self.flows.entry(flow) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(place) if has_room => drop(place.insert(1)),
            Entry::Vacant(_) => self.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(protocol: u8, source_port: u16, destination_port: u16) -> Connection {
        let [source, destination] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        Connection {
            protocol,
            source,
            source_port,
            dialled: destination,
            dialled_port: destination_port,
            destination,
            destination_port,
            is_of_this_host: false,
            mark: 0,
            tuple: Vec::new(),
        }
    }

    #[test]
    fn connections_that_differ_in_the_port_of_their_source_are_one_kind_and_kinds_have_a_limit() {
        let mut all = TrackedFlows::default();
        for (source_port, port) in [(1, 80), (2, 80), (1, 81), (1, 82), (2, 82), (3, 80)] {
            all.add(&connection(6, source_port, port), 2);
        }
        all.add(&connection(1, 0, 0), 2);
        let counts: Vec<(Option<u16>, u64)> =
            all.flows.iter().map(|(flow, count)| (flow.port.map(|(_, port)| port), *count)).collect();
        assert_eq!(counts, [(Some(80), 3), (Some(81), 1)]);
        assert_eq!(all.left_out, 2);
    }
}
