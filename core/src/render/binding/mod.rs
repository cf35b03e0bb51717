//! Renders the table of family bridge, which binds each pod to its port of the bridge.
//!
//! Frames arrive at `prerouting`, which looks up the chain of the port at which they arrived, and leave by `forward`,
//! which looks up the chain of the port to which they are sent. A port's own chains have the comparisons that most
//! frames pass, and send the rest to chains that all ports share. A frame that no rule accepts ends in a chain that is
//! named after the reason.

mod fields;
mod fixed;
mod from_port;
mod port;
mod reserved;
mod to_port;

use super::{Options, PodToNode};
use crate::compile::{Delta, Placement, Plan, PortBinding, UnknownPods};
use crate::model::{Bridge, Cluster};
use crate::net::{Family, octets};
use crate::netfilter::BackendName;
use crate::netfilter::nftables::{Batch, Change, Elements, Set, Table, TableFamily, Verdict};
use crate::ownership::BRIDGE_TABLE;
pub use fixed::DROP_REASONS;
use port::PortRules;
pub use reserved::reserved_table;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The options on which the shared chains depend.
#[derive(Clone, Copy, Debug)]
struct Choices {
    log_group: u16,
    /// The mark for packets from a pod isolated for egress to a link-local address of the node; `None` if they are
    /// allowed.
    to_node_mark: Option<u32>,
    /// The mark for bridged frames; `None` if no rule matches it.
    bridged_mark: Option<u32>,
    /// Whether a port whose pod is not known passes only frames from and to known addresses.
    unknown_closed: bool,
}

impl Choices {
    fn new(options: &Options, unknown_pods: UnknownPods) -> Choices {
        let to_node_mark = match options.pod_to_node {
            PodToNode::Allow => None,
            PodToNode::Policy | PodToNode::Drop => Some(options.mark),
        };
        let bridged_mark = match options.backend {
            // Their rules match physdev instead.
            BackendName::IptablesNft | BackendName::IptablesLegacy => None,
            BackendName::Nftables => options.refuse_unassigned.then_some(options.mark),
        };
        let unknown_closed = unknown_pods == UnknownPods::Reject;
        Choices { log_group: options.nflog_group, to_node_mark, bridged_mark, unknown_closed }
    }
}

/// The whole table of family bridge.
pub fn bridge_table(options: &Options, cluster: &Cluster, plan: &Plan) -> Table {
    let choices = Choices::new(options, plan.unknown_pods());
    let mut table = Table::new(TableFamily::Bridge, BRIDGE_TABLE);
    table.chains = fixed::chains(choices);
    table.sets = fixed::sets()
        .into_iter()
        .map(|(name, kind)| (name, Set { kind, elements: Elements::new() }))
        .collect();
    let mut elements = node_elements(cluster.bridge());
    for (&index, binding) in plan.ports() {
        let rules = PortRules::of(index, binding);
        elements.extend(rules.elements);
        table.chains.extend(rules.chains.into_iter().map(|(name, rules)| (name, fixed::plain(rules))));
    }
    for address in plan.placed() {
        elements.extend(place_elements(address, plan.placement(address)));
    }
    for (set, key, verdict) in elements {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(&key, verdict);
        }
    }
    table
}

/// Changes that only deny more and are made before those of the iptables rules, and changes that are made after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct BridgeChanges {
    pub(super) before: Vec<Change>,
    pub(super) after: Vec<Change>,
}

/// The changes of the table of family bridge that result from changes of the plan: first those that only deny more,
/// made before the other rules change, then the rest, made after them. `None` if nothing changes.
pub fn bridge_batches(cluster: &Cluster, plan: &Plan, delta: &Delta) -> [Option<Batch>; 2] {
    changes(cluster, plan, delta).batches()
}

fn changes(cluster: &Cluster, plan: &Plan, delta: &Delta) -> BridgeChanges {
    let mut changes = BridgeChanges::default();
    if delta.bridge {
        // No pod can influence the node's own addresses on the bridge, so they change in one instant.
        for (set, ..) in fixed::NODE_SETS {
            changes.after.push(Change::FlushSet(set.into()));
        }
        let mut sets = BTreeMap::<&str, Elements>::new();
        for (set, key, verdict) in node_elements(cluster.bridge()) {
            sets.entry(set).or_default().insert(&key, verdict);
        }
        changes
            .after
            .extend(sets.into_iter().map(|(set, elements)| Change::AddElements(set.into(), elements)));
    }
    let was_unbound = |address: IpAddr| delta.places.get(&address).is_some_and(|old| old.unbound);
    for (&index, old) in &delta.ports {
        let new = plan.ports().get(&index);
        let rules = |binding: Option<&PortBinding>| {
            binding.map(|binding| PortRules::of(index, binding)).unwrap_or_default()
        };
        let bound = |bound| rules(Some(&PortBinding::Bound(bound)));
        let between = match (old, new) {
            // A port without rules passes any frame.
            (None, new) => rules(new),
            (Some(PortBinding::Bound(old)), Some(PortBinding::Bound(new))) if old.differs_in_sources(new) => {
                bound(old.both(new))
            }
            // An unbound port passes every address without a port, and not only those of its pod.
            (Some(PortBinding::Bound(old)), Some(PortBinding::Unbound)) => {
                bound(old.closed(|address| plan.placement(address).unbound))
            }
            // The same in reverse. If every pod has its port, an unbound port passes no address.
            (Some(PortBinding::Unbound), Some(PortBinding::Bound(new))) if carries_unbound(plan, delta) => {
                rules(old.as_ref()).while_it_gets_a_pod(index, &new.closed(was_unbound))
            }
            (old, _) => rules(old.as_ref()),
        };
        let (old, new) = (rules(old.as_ref()), rules(new));
        between.change(&old, &mut changes.before);
        new.change(&between, &mut changes.after);
    }
    for (&address, &old) in &delta.places {
        let new = plan.placement(address);
        let elements = |placement| -> BTreeMap<_, _> {
            place_elements(address, placement).map(|(set, key, verdict)| (set, (key, verdict))).collect()
        };
        let (old, new) = (elements(old), elements(new));
        for (set, (key, verdict)) in &old {
            if !new.contains_key(set) {
                let gone =
                    Change::DeleteElements((*set).into(), Elements::from_iter([(key, verdict.clone())]));
                // An element that assigns an address to a port denies the address to other ports, so it is added last.
                let last = fixed::REFUSES.contains(set);
                if last { &mut changes.after } else { &mut changes.before }.push(gone);
            }
        }
        for (set, (key, verdict)) in &new {
            if !old.contains_key(set) {
                let come = Change::AddElements((*set).into(), Elements::from_iter([(key, verdict.clone())]));
                let first = fixed::REFUSES.contains(set);
                if first { &mut changes.before } else { &mut changes.after }.push(come);
            }
        }
    }
    changes
}

/// Whether an unbound port passes any address, before or after a change.
fn carries_unbound(plan: &Plan, delta: &Delta) -> bool {
    plan.unknown_pods() == UnknownPods::Allow
        || plan.unbound_pods() > 0
        || delta.places.values().any(|old| old.unbound)
}

impl BridgeChanges {
    /// The transactions; `None` if nothing changes.
    fn batches(self) -> [Option<Batch>; 2] {
        [self.before, self.after].map(|changes| {
            let batch = Batch { family: TableFamily::Bridge, table: BRIDGE_TABLE.into(), changes };
            (!batch.changes.is_empty()).then_some(batch)
        })
    }
}

/// An element of a set or map.
type BridgeElement = (&'static str, Box<[u8]>, Option<Verdict>);

/// The elements of the sets of the node's own addresses.
fn node_elements(bridge: &Bridge) -> Vec<BridgeElement> {
    let hardware = bridge.hardware.iter().map(|own| (fixed::NODE_HARDWARE, own.as_slice().into(), None));
    let link_local = bridge.link_local.iter();
    let ports = bridge.tunnels.udp_ports.iter();
    let protocols = bridge.tunnels.protocols.iter();
    hardware
        .chain(link_local.map(|own| (fixed::NODE_LINK_LOCAL, own.octets().as_slice().into(), None)))
        .chain(ports.map(|port| (fixed::TUNNEL_PORTS, port.to_be_bytes().as_slice().into(), None)))
        .chain(protocols.map(|protocol| (fixed::TUNNEL_PROTOCOLS, [*protocol].as_slice().into(), None)))
        .collect()
}

/// The elements of the sets of addresses without a port.
fn place_elements(address: IpAddr, placement: Placement) -> impl Iterator<Item = BridgeElement> {
    let [taken, unbound] = match Family::of(address) {
        Family::V4 => ["taken4", "unbound4"],
        Family::V6 => ["taken6", "unbound6"],
    };
    let in_sets = [(taken, placement.bound), (unbound, placement.unbound)];
    in_sets.into_iter().filter(|(_, is_in)| *is_in).map(move |(set, _)| (set, octets(address), None))
}
