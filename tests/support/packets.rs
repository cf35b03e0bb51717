//! The rules of both nodes as judges of a flow: which hooks its first packet passes, and what the rules decide there.

use crate::backends::options;
use crate::topology::{NODES, Node};
use bridgewarden::api::Pod;
use bridgewarden::apply::{Fake, PacketFilter};
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::model::{Change, Direction};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::iptables::{self, Chains, Packet, Payload, SetLookup, State, Target};
use bridgewarden::netfilter::nftables::{self, Batch, Frame, HookPoint, Table, TableFamily, trace_packet};
use bridgewarden::netfilter::{BackendName, Ruleset, SetName};
use bridgewarden::ownership::{AUDITED_EGRESS, AUDITED_INGRESS, BRIDGE_TABLE, INET_TABLE};
use bridgewarden::render::{forward_chain, output_chain};
use bridgewarden::source::convert;
use std::cell::RefCell;
use std::net::IpAddr;

/// The facts of a world, in the order in which a first list would deliver them.
pub fn facts(world: &World) -> Vec<Change> {
    let namespaces =
        world.namespaces.iter().map(|namespace| Change::Namespace(convert::namespace(namespace)));
    let pods = world.pods.iter().map(|pod| Change::Pod(convert::pod(pod).0));
    let policies = world.policies.iter().map(|policy| Change::Policy(convert::policy(policy)));
    namespaces.chain(pods).chain(policies).collect()
}

/// An enforcer of a node to which the whole world was reported.
pub fn enforcer(backend: BackendName, world: &World, node: &str) -> Enforcer {
    let mut enforcer = Enforcer::new(node, options(backend));
    for fact in facts(world) {
        enforcer.apply(fact);
    }
    enforcer
}

/// Rules in force on one node.
pub trait Rules {
    /// The packet filter with these rules.
    fn filter(&self) -> Filter<'_>;
}

/// The packet filter of one node.
pub enum Filter<'a> {
    /// The chains of both families, and the sets.
    Iptables([Chains; 2], &'a dyn SetLookup),
    /// A table of family inet, and the mark that the table of family bridge gives to bridged packets.
    Nftables(&'a Table, u32),
}

impl<'a> Filter<'a> {
    fn of_tables(inet: &'a Table, bridge: Option<&Table>) -> Filter<'a> {
        let frame = Frame { bytes: vec![0; 60], input: 0, output: 0, mark: 0 };
        let marked = bridge.map(|bridge| nftables::trace(bridge, HookPoint::Forward, &frame).mark);
        Filter::Nftables(inet, marked.unwrap_or_default())
    }

    /// Whether a packet passes a hook.
    ///
    /// # Panics
    /// The rules of iptables cannot be traced, or the hook is not one at which they are evaluated.
    pub fn allows(&self, point: HookPoint, packet: &Packet) -> bool {
        self.follow(point, packet).0
    }

    /// Whether a packet passes a hook, and the prefixes with which it is copied to NFLOG there.
    ///
    /// # Panics
    /// As [`Filter::allows`].
    pub fn follow(&self, point: HookPoint, packet: &Packet) -> (bool, Vec<Box<str>>) {
        match self {
            Filter::Iptables([v4, v6], sets) => {
                let chains = match packet.family() {
                    Family::V4 => v4,
                    Family::V6 => v6,
                };
                let entry = match point {
                    HookPoint::Forward => forward_chain(),
                    HookPoint::Output => output_chain(),
                    HookPoint::Prerouting | HookPoint::Input => panic!("no packet is asked about there"),
                };
                let traced = iptables::trace(chains, &entry, *sets, packet);
                let traced = traced.unwrap_or_else(|broken| panic!("{broken} for {packet:?}"));
                let met = traced.met.iter().map(|(chain, rule)| &chains[chain][*rule].target);
                let copies = met.filter_map(|target| {
                    if let Target::Log { prefix, .. } = target { Some(Box::from(&**prefix)) } else { None }
                });
                (traced.verdict.allows(), copies.collect())
            }
            Filter::Nftables(table, bridged_mark) => {
                let mark = if packet.bridged { *bridged_mark } else { 0 };
                let packet = nftables::Packet { mark, ..nftables::Packet::from(packet) };
                let traced = trace_packet(table, point, &packet);
                (traced.is_accepted(), traced.logged)
            }
        }
    }
}

/// A rendered ruleset, as if the kernel held it.
pub struct Rendered(pub Ruleset);

impl SetLookup for Rendered {
    fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        let desired = self.0.sets.get(name).unwrap_or_else(|| panic!("a rule names {name}, which is no set"));
        desired.set.contains(address, port)
    }
}

impl Rules for Rendered {
    fn filter(&self) -> Filter<'_> {
        let Some(inet) = &self.0.inet else {
            return Filter::Iptables(Family::BOTH.map(|family| self.0.tables[&family].chains.clone()), self);
        };
        // Everything that a rule refers to must exist.
        for table in [inet].into_iter().chain(&self.0.bridge) {
            Batch::replacing(table).apply(&mut None).unwrap_or_else(|refused| panic!("{refused}: {table}"));
        }
        Filter::of_tables(inet, self.0.bridge.as_ref())
    }
}

impl Rules for Fake {
    fn filter(&self) -> Filter<'_> {
        match self.backend().variant() {
            Some(_) => Filter::Iptables(Family::BOTH.map(|family| self.chains(family)), self),
            None => {
                let inet = self.table_of_nft(TableFamily::Inet, INET_TABLE).expect("a table of family inet");
                Filter::of_tables(inet, self.table_of_nft(TableFamily::Bridge, BRIDGE_TABLE))
            }
        }
    }
}

/// The rendered rules of both nodes for a world, in the order of [`NODES`].
pub fn rules_of_both(backend: BackendName, world: &World) -> [Rendered; 2] {
    NODES.map(|node| Rendered(enforcer(backend, world, node.name).ruleset()))
}

/// The rules of both nodes.
pub struct Judge<'a> {
    world: &'a World,
    nodes: Vec<(Node, Filter<'a>)>,
}

/// The node of an end, and how the end is connected to it.
struct Endpoint {
    address: IpAddr,
    node: Option<&'static str>,
    /// Connected to the node's bridge, and not the node itself.
    on_bridge: bool,
}

impl<'a> Judge<'a> {
    /// A judge of a world whose nodes hold these rules, in the order of [`NODES`].
    pub fn new(world: &'a World, rules: [&'a dyn Rules; 2]) -> Judge<'a> {
        let filters = rules.map(|rules| rules.filter());
        Judge { world, nodes: NODES.into_iter().zip(filters).collect() }
    }

    /// Whether the rules of every node on the way let the first packet of a flow pass.
    pub fn allows(&self, flow: &FlowQuery) -> bool {
        self.passes(flow, |_| {})
    }

    /// The directions in which audited policies of the nodes on the way would deny the first packet of a flow, as the rules report it;
    /// `None` if it is denied.
    pub fn audits(&self, flow: &FlowQuery) -> Option<Vec<Direction>> {
        let copies = RefCell::new(Vec::new());
        let allowed = self.walk(flow, |_| {}, |prefixes| copies.borrow_mut().extend(prefixes));
        let of = |prefix: &str| match prefix {
            AUDITED_EGRESS => Some(Direction::Egress),
            AUDITED_INGRESS => Some(Direction::Ingress),
            _ => None,
        };
        let mut directions: Vec<Direction> =
            copies.into_inner().iter().filter_map(|prefix| of(prefix)).collect();
        directions.sort();
        allowed.then_some(directions)
    }

    /// The same for another packet between these ends.
    pub fn passes(&self, flow: &FlowQuery, other: impl Fn(&mut Packet)) -> bool {
        self.walk(flow, other, |_| {})
    }

    fn walk(&self, flow: &FlowQuery, other: impl Fn(&mut Packet), copied: impl Fn(Vec<Box<str>>)) -> bool {
        let source = self.endpoint(&flow.source, flow.family);
        let destination = self.endpoint(&flow.destination, flow.family);
        self.nodes.iter().all(|(node, filter)| {
            let sends = source.node == Some(node.name);
            let receives = destination.node == Some(node.name);
            let (point, bridged) = match (sends, receives) {
                (true, true) if source.on_bridge && destination.on_bridge => (HookPoint::Forward, true),
                (true, true) if destination.on_bridge => (HookPoint::Output, false),
                (true, false) if source.on_bridge => (HookPoint::Forward, false),
                (true, false) => (HookPoint::Output, false),
                (false, true) if destination.on_bridge => (HookPoint::Forward, false),
                (true | false, true) | (false, false) => return true,
            };
            let mut packet = Packet {
                source: source.address,
                destination: destination.address,
                payload: Payload::Transport { protocol: flow.protocol, port: flow.port },
                state: State::New,
                // A packet from a pod to itself is forwarded by the node only through a Service.
                translated: source.address == destination.address,
                connection_mark: 0,
                bridged,
                in_interface: if source.on_bridge && sends { "cni0" } else { "eth0" }.into(),
                out_interface: if destination.on_bridge && receives { "cni0" } else { "eth0" }.into(),
                source_is_local: sends && !source.on_bridge,
            };
            other(&mut packet);
            let (allowed, prefixes) = filter.follow(point, &packet);
            copied(prefixes);
            allowed
        })
    }

    fn endpoint(&self, end: &QueryEnd, family: Family) -> Endpoint {
        match end {
            QueryEnd::Pod(index) => endpoint_of_pod(&self.world.pods[*index], family),
            QueryEnd::Address(address) => {
                let holder = self.world.pods.iter().find(|pod| {
                    let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
                    !finished && pod.status.pod_ips.iter().any(|ip| ip.ip.parse() == Ok(*address))
                });
                holder.map_or(Endpoint { address: *address, node: None, on_bridge: false }, |pod| {
                    endpoint_of_pod(pod, family)
                })
            }
            QueryEnd::Node { name, address } => {
                let node = Node::named(name).map(|node| node.name);
                Endpoint { address: *address, node, on_bridge: false }
            }
        }
    }
}

fn endpoint_of_pod(pod: &Pod, family: Family) -> Endpoint {
    let mut addresses = pod.status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok());
    let address = addresses.find(|address| Family::of(*address) == family);
    let node = pod.spec.node_name.as_deref().and_then(Node::named);
    let on_bridge = pod.spec.host_network != Some(true);
    Endpoint { address: address.expect("an end of this family"), node: node.map(|node| node.name), on_bridge }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds;

    fn rendered(change: impl FnOnce(&mut Table)) -> Rendered {
        let [Rendered(mut ruleset), _] = rules_of_both(BackendName::Nftables, &worlds::world(0));
        change(ruleset.inet.as_mut().expect("a table of family inet"));
        Rendered(ruleset)
    }

    #[test]
    #[should_panic(expected = "there is no set LOCAL-4")]
    fn set_that_a_rule_of_the_table_names_must_be_there() {
        rendered(|table| drop(table.sets.remove("LOCAL-4"))).filter();
    }

    #[test]
    #[should_panic(expected = "there is no counter")]
    fn counter_that_a_rule_of_the_table_names_must_be_there() {
        rendered(|table| table.counters.clear()).filter();
    }

    #[test]
    fn bridged_packets_have_the_mark_that_the_table_of_ports_gives_them() {
        let rendered = rendered(|_| {});
        let mark = options(BackendName::Nftables).mark;
        assert!(matches!(rendered.filter(), Filter::Nftables(_, marked) if marked == mark));
    }
}
