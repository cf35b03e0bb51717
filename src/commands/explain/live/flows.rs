//! The connections of an answer that this node's kernel decides about.

use super::compared::{BridgeEnd, EndOnNode};
use super::text::hardware_text;
use crate::apply::Connection;
use crate::commands::explain::change::few;
use crate::compile::{Plan, PortBinding};
use crate::explain::{Answer, AnsweredCase, AskedPort, CaseEnd, CaseMembers};
use crate::model::{Cluster, Direction, PodKey, Snapshot};
use crate::net::{Family, Flow, Protocol, Verdict};
use crate::render::Binding;
use crate::verify::{EndPlace, Evidence, FollowedFlow, ReadBinding, read_binding};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many connections are followed.
const MOST_FLOWS: usize = 8;

/// An answer, and the node whose kernel is read.
pub(super) struct NodeFlows<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) answer: &'a Answer<'a>,
    pub(super) node: &'a str,
    /// Whether the question names a Service.
    pub(super) by_service: bool,
}

/// A connection with an end at a pod of this node.
#[derive(Clone, Debug)]
pub(in crate::commands::explain) struct LocalFlow {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) followed: FollowedFlow,
    /// The pods at its ends, if they are pods.
    pods: [Option<PodKey>; 2],
    /// What the policies of this node's pods at its ends say; of a connection to the node itself, what `--pod-to-node` makes of them.
    pub(super) verdict: Verdict,
    /// For each end that is elsewhere, who decides about its direction.
    pub(super) elsewhere: Vec<String>,
}

/// One end of a connection.
#[derive(Clone, Debug)]
struct NamedEnd {
    name: String,
    pod: Option<PodKey>,
    /// The node on which it is, as far as it is on one.
    node: Option<String>,
    addresses: Vec<IpAddr>,
}

impl NodeFlows<'_> {
    /// Refuses a question that no packet at this node's hooks answers.
    pub(super) fn check(&self) -> Result<()> {
        let asks_one = |case: &AnsweredCase<'_>| matches!(case.answer.case.port, AskedPort::One(..));
        if !self.answer.cases.iter().all(asks_one) {
            bail!(
                "--live follows one packet through the rules, so it needs a port: name the destination's, for example shop/db:5432 or \
                 kube-system/svc/kube-dns:53/UDP"
            );
        }
        let cases = &self.answer.cases;
        if cases.iter().all(|case| case.answer.to_itself) && !self.by_service {
            bail!(
                "--live has nothing to follow: what a pod or node sends to itself meets no rules of its node"
            );
        }
        let mut places = BTreeSet::new();
        for case in cases {
            for (end, members) in [
                (&case.answer.case.source, &case.sources),
                (&case.answer.case.destination, &case.destinations),
            ] {
                for pod in pods_of(end, members) {
                    let Some(pod) = self.snapshot.pods.get(&pod).filter(|pod| pod.networked) else {
                        continue;
                    };
                    if pod.node.as_deref() == Some(self.node) {
                        return Ok(());
                    }
                    places.insert(match &pod.node {
                        Some(node) => format!("{} is on {node}", pod.key),
                        None => format!("{} is on no node", pod.key),
                    });
                }
            }
        }
        let places = few(places.into_iter());
        bail!(
            "no end of this connection is a pod of this node, {}, so its kernel does not decide about it: {}. Ask on that node; or, if \
             this node has another name in the cluster, give it with --node-name",
            self.node,
            if places.is_empty() { "neither is a pod".to_owned() } else { places }
        );
    }

    /// The connections that this node decides about, at most a few, and whether there are more.
    pub(super) fn of_cluster(&self, cluster: &Cluster) -> (Vec<LocalFlow>, bool) {
        let mut flows = Vec::new();
        for case in self.answer.cases.iter().filter(|case| !case.answer.to_itself || self.by_service) {
            let sources = self.ends(case, Direction::Egress, cluster);
            let destinations = self.ends(case, Direction::Ingress, cluster);
            let is_local = |end: &NamedEnd| end.pod.is_some() && end.node.as_deref() == Some(self.node);
            let (here, others): (Vec<&NamedEnd>, Vec<&NamedEnd>) =
                sources.iter().partition(|end| is_local(end));
            let local_destinations: Vec<&NamedEnd> =
                destinations.iter().filter(|end| is_local(end)).collect();
            let from_here = here.iter().flat_map(|from| destinations.iter().map(move |to| (*from, to)));
            let to_here =
                others.iter().flat_map(|from| local_destinations.iter().map(move |to| (*from, *to)));
            // What a pod sends to itself is another case.
            let are_two = |(from, to): &(&NamedEnd, &NamedEnd)| {
                from.pod.is_none() || from.pod != to.pod || case.answer.to_itself
            };
            for (from, to) in from_here.chain(to_here).filter(are_two) {
                for family in &case.families {
                    flows.extend(self.flow(case, from, to, *family, cluster));
                    if flows.len() > MOST_FLOWS {
                        flows.truncate(MOST_FLOWS);
                        return (flows, true);
                    }
                }
            }
        }
        (flows, false)
    }

    fn ends(&self, case: &AnsweredCase<'_>, direction: Direction, cluster: &Cluster) -> Vec<NamedEnd> {
        let asked = &case.answer.case;
        let (end, members) = match direction {
            Direction::Egress => (&asked.source, &case.sources),
            Direction::Ingress => (&asked.destination, &case.destinations),
        };
        let pods = pods_of(end, members);
        if !pods.is_empty() {
            return pods.into_iter().filter_map(|key| self.pod_end(key, cluster)).collect();
        }
        let others = case.in_other_families.iter().map(|case| match direction {
            Direction::Egress => &case.source,
            Direction::Ingress => &case.destination,
        });
        let addresses: Vec<IpAddr> =
            std::iter::once(end).chain(others).filter_map(CaseEnd::address).collect();
        let (name, node) = if let CaseEnd::Node { name: Some(name), .. } = end {
            (format!("node {name}"), Some(name.to_string()))
        } else {
            (addresses.first().map(ToString::to_string).unwrap_or_default(), None)
        };
        vec![NamedEnd { name, pod: None, node, addresses }]
    }

    fn pod_end(&self, key: PodKey, cluster: &Cluster) -> Option<NamedEnd> {
        let pod = self.snapshot.pods.get(&key)?;
        let (name, node) = (key.to_string(), pod.node.as_deref().map(str::to_owned));
        if !pod.networked {
            let addresses = pod.node.as_ref().and_then(|node| self.snapshot.nodes.get(node));
            let addresses = addresses.cloned().unwrap_or_default();
            return Some(NamedEnd { name, pod: None, node, addresses });
        }
        let known = cluster.pod(&key).map(|(addresses, _)| addresses.to_vec());
        let addresses = known.unwrap_or_else(|| pod.addresses.clone());
        Some(NamedEnd { name, pod: Some(key), node, addresses })
    }

    fn flow(
        &self,
        case: &AnsweredCase<'_>,
        from: &NamedEnd,
        to: &NamedEnd,
        family: Family,
        cluster: &Cluster,
    ) -> Option<LocalFlow> {
        let of_family = |end: &NamedEnd| end.addresses.iter().copied().find(|one| Family::of(*one) == family);
        let (source, destination) = (of_family(from)?, of_family(to)?);
        let AskedPort::One(protocol, port) = case.answer.case.port else { return None };
        let place = |end: &NamedEnd, address: IpAddr| {
            let is_here = end.node.as_deref() == Some(self.node);
            match &end.pod {
                Some(pod) if is_here => local_pod(cluster, pod, address),
                None if is_here => EndPlace::ThisNode,
                Some(_) | None => EndPlace::Elsewhere,
            }
        };
        let followed = FollowedFlow {
            flow: Flow { source, destination, port: Some((protocol, port)) },
            source: place(from, source),
            destination: place(to, destination),
            by_service: self.by_service,
        };
        let decides = |direction| {
            let end = match direction {
                Direction::Egress => followed.source,
                Direction::Ingress => followed.destination,
            };
            matches!(end, EndPlace::LocalPod { .. })
        };
        let denied =
            case.answer.sides.iter().any(|side| side.verdict == Verdict::Denied && decides(side.direction));
        let elsewhere = [(from, Direction::Egress), (to, Direction::Ingress)].into_iter().filter_map(
            |(end, direction)| {
                let (pod, node) = (end.pod.as_ref()?, end.node.as_deref().unwrap_or("no node"));
                (node != self.node)
                    .then(|| format!("{pod} is on {node}, whose kernel decides about its {direction}"))
            },
        );
        Some(LocalFlow {
            source: from.name.clone(),
            destination: to.name.clone(),
            elsewhere: elsewhere.collect(),
            pods: [from.pod.clone(), to.pod.clone()],
            verdict: if denied { Verdict::Denied } else { Verdict::Allowed },
            followed,
        })
    }
}

/// The pods that an end is, if it is any.
fn pods_of(end: &CaseEnd, members: &CaseMembers) -> Vec<PodKey> {
    match (members, end) {
        (CaseMembers::Pods(pods), _) => pods.clone(),
        (CaseMembers::Itself, CaseEnd::Pod { key, .. }) => vec![key.clone()],
        (CaseMembers::Itself | CaseMembers::Blocks(_), _) => Vec::new(),
    }
}

fn local_pod(cluster: &Cluster, pod: &PodKey, address: IpAddr) -> EndPlace {
    let port = port_of(cluster, pod, address);
    let hardware = port.and_then(|port| cluster.sandbox_at(port)).and_then(|sandbox| sandbox.hardware);
    EndPlace::LocalPod { port, hardware }
}

/// The port of a pod at which it has an address, or else any port of it.
fn port_of(cluster: &Cluster, pod: &PodKey, address: IpAddr) -> Option<u32> {
    let has_it = |port: &u32| cluster.addresses_at(*port).contains(&address);
    cluster.ports_of(pod).find(has_it).or_else(|| cluster.ports_of(pod).next())
}

impl LocalFlow {
    /// Whether it is from a pod of this node to the node itself.
    pub(super) fn is_to_node(&self) -> bool {
        matches!(self.followed.source, EndPlace::LocalPod { .. })
            && self.followed.destination == EndPlace::ThisNode
    }

    /// Whether a connection that the kernel tracks is this one.
    pub(super) fn is_of(&self, connection: &Connection) -> bool {
        let Flow { source, destination, port } = self.followed.flow;
        let own = (connection.protocol, connection.destination_port);
        connection.source == source
            && connection.destination == destination
            && port.map(|(protocol, port): (Protocol, u16)| (protocol.number(), port)) == Some(own)
    }

    /// The ends that are pods of this node, with their ports of the bridge.
    pub(super) fn ends(&self, evidence: &Evidence, cluster: &Cluster, plan: &Plan) -> Vec<EndOnNode> {
        let ends = [
            (self.followed.source, self.followed.flow.source, &self.pods[0]),
            (self.followed.destination, self.followed.flow.destination, &self.pods[1]),
        ];
        let ends = ends.into_iter().filter_map(|(end, address, pod)| {
            let EndPlace::LocalPod { port, .. } = end else { return None };
            let port = port.map(|index| {
                let binding = read_binding(evidence, index);
                let expected =
                    plan.ports().get(&index).filter(|_| evidence.options.binding == Binding::Ports);
                let problem = expected.and_then(|expected| binding_problem(expected, &binding));
                let name = cluster.port(index).map(|port| port.name.to_string()).unwrap_or_default();
                BridgeEnd { index, name, binding, problem }
            });
            Some(EndOnNode { pod: pod.as_ref()?.to_string(), address, port })
        });
        ends.collect()
    }
}

/// Why what the kernel holds of a port is not the binding that it should have.
fn binding_problem(expected: &PortBinding, read: &Result<ReadBinding, String>) -> Option<String> {
    let PortBinding::Bound(expected) = expected else { return None };
    let list = |addresses: &BTreeSet<IpAddr>| few(addresses.iter());
    match read {
        Err(why) => Some(format!("has a binding that cannot be read: {why}")),
        Ok(ReadBinding { absence: Some(absence), .. }) => Some(format!("is not bound: {absence}")),
        Ok(ReadBinding { chain: None, .. }) => Some(
            "is not bound: the map `from` of table bridge bridgewarden does not have it, so that its pod may send under any address"
                .to_owned(),
        ),
        Ok(read) if read.addresses != expected.addresses => Some(format!(
            "is bound to {}, and its pod has {}",
            if read.addresses.is_empty() { "no address".to_owned() } else { list(&read.addresses) },
            list(&expected.addresses)
        )),
        Ok(read) if read.hardware != expected.hardware => Some(format!(
            "is bound to {}, and its pod has {}",
            read.hardware.map_or_else(|| "any Ethernet address".to_owned(), hardware_text),
            expected.hardware.map_or_else(|| "none that is known".to_owned(), hardware_text)
        )),
        Ok(_) => None,
    }
}
