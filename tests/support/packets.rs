//! The rules of both nodes as judges of a flow: which hooks its first packet meets, and what they make of it.

use crate::topology::{NODES, Node};
use bridgewarden::api::Pod;
use bridgewarden::controller::Enforcer;
use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, World};
use bridgewarden::model::Change;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::iptables::{Chains, Packet, Payload, SetLookup, State, trace};
use bridgewarden::netfilter::{Ruleset, SetName};
use bridgewarden::render::{Options, forward_chain, output_chain};
use bridgewarden::source::convert;
use std::net::IpAddr;

/// The facts of a world, in the order in which a first list would deliver them.
pub fn facts(world: &World) -> Vec<Change> {
    let namespaces =
        world.namespaces.iter().map(|namespace| Change::Namespace(convert::namespace(namespace)));
    let pods = world.pods.iter().map(|pod| Change::Pod(convert::pod(pod).0));
    let policies = world.policies.iter().map(|policy| Change::Policy(convert::policy(policy)));
    namespaces.chain(pods).chain(policies).collect()
}

/// An enforcer of a node that knows a whole world.
pub fn enforcer(world: &World, node: &str) -> Enforcer {
    let mut enforcer = Enforcer::new(node, Options::default());
    for fact in facts(world) {
        enforcer.apply(fact);
    }
    enforcer
}

/// Rules in force on one node.
pub trait Rules: SetLookup {
    /// Our chains of a family.
    fn chains(&self, family: Family) -> Chains;
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
    fn chains(&self, family: Family) -> Chains {
        self.0.tables[&family].chains.clone()
    }
}

impl Rules for bridgewarden::apply::Fake {
    fn chains(&self, family: Family) -> Chains {
        bridgewarden::apply::Fake::chains(self, family)
    }
}

/// What both nodes render for a world, in the order of [`NODES`].
pub fn rules_of_both(world: &World) -> [Rendered; 2] {
    NODES.map(|node| Rendered(enforcer(world, node.name).ruleset()))
}

/// The rules of both nodes.
pub struct Judge<'a> {
    world: &'a World,
    nodes: Vec<(Node, [Chains; 2], &'a dyn SetLookup)>,
}

/// The node that an end is on, and how it is attached to it.
struct Endpoint {
    address: IpAddr,
    node: Option<&'static str>,
    /// Behind the node's bridge, and not the node itself.
    on_bridge: bool,
}

impl<'a> Judge<'a> {
    /// A judge of a world whose nodes hold these rules, in the order of [`NODES`].
    pub fn new(world: &'a World, rules: [&'a dyn Rules; 2]) -> Judge<'a> {
        let node_rules = |(node, rules): (Node, &'a dyn Rules)| {
            (node, Family::BOTH.map(|family| rules.chains(family)), rules as &dyn SetLookup)
        };
        Judge { world, nodes: NODES.into_iter().zip(rules).map(node_rules).collect() }
    }

    /// Whether the rules of every node on the way let the first packet of a flow pass.
    pub fn allows(&self, flow: &FlowQuery) -> bool {
        self.passes(flow, |_| {})
    }

    /// The same of another packet between these ends.
    pub fn passes(&self, flow: &FlowQuery, other: impl Fn(&mut Packet)) -> bool {
        let source = self.endpoint(&flow.source, flow.family);
        let destination = self.endpoint(&flow.destination, flow.family);
        self.nodes.iter().all(|(node, chains, sets)| {
            let sends = source.node == Some(node.name);
            let receives = destination.node == Some(node.name);
            let (entry, bridged) = match (sends, receives) {
                (true, true) if source.on_bridge && destination.on_bridge => (forward_chain(), true),
                (true, true) if destination.on_bridge => (output_chain(), false),
                (true, false) if source.on_bridge => (forward_chain(), false),
                (true, false) => (output_chain(), false),
                (false, true) if destination.on_bridge => (forward_chain(), false),
                (true | false, true) | (false, false) => return true,
            };
            let mut packet = Packet {
                source: source.address,
                destination: destination.address,
                payload: Payload::Transport { protocol: flow.protocol, port: flow.port },
                state: State::New,
                // A pod reaches itself through the node by a Service alone.
                translated: source.address == destination.address,
                connection_mark: 0,
                bridged,
                in_interface: if source.on_bridge && sends { "cni0" } else { "eth0" }.into(),
                out_interface: if destination.on_bridge && receives { "cni0" } else { "eth0" }.into(),
                source_is_local: sends && !source.on_bridge,
            };
            other(&mut packet);
            let [v4, v6] = chains;
            let chains = match flow.family {
                Family::V4 => v4,
                Family::V6 => v6,
            };
            let traced = trace(chains, &entry, *sets, &packet);
            traced
                .unwrap_or_else(|broken| panic!("{broken} on {} for {packet:?}", node.name))
                .verdict
                .allows()
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
