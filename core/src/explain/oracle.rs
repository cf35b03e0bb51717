//! The oracle: a literal implementation of the NetworkPolicy API's text.
//!
//! Comes in: objects as the API returns them, and one flow. Goes out: whether the policies allow it. The oracle is slow
//! and simple, and shares no code with the compiler: if the two disagree, one of them is wrong. Quoted comments are
//! sentences of the API's field documentation.

mod label;
mod peer;
mod pod;
mod port;

use crate::api::{Namespace, NetworkPolicy, ObjectMeta, Pod};
use crate::model::Direction;
use crate::net::{Family, Protocol};
use std::net::IpAddr;
use thiserror::Error;

/// The objects of the API that can decide about a flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The namespaces, in any order.
    pub namespaces: Vec<Namespace>,
    /// The pods; [`QueryEnd::Pod`] is an index in this list.
    pub pods: Vec<Pod>,
    /// The policies, in any order.
    pub policies: Vec<NetworkPolicy>,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryEnd {
    /// The pod at this index of [`World::pods`].
    Pod(usize),
    /// The pod with this address, or the address itself if no pod has it.
    Address(IpAddr),
    /// A node itself, not one of its pods.
    Node {
        /// The node's name, as in a pod's `spec.nodeName`.
        name: String,
        /// The address that it uses.
        address: IpAddr,
    },
}

/// A connection, as a query to the oracle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowQuery {
    /// The end that opens it.
    pub source: QueryEnd,
    /// The other end, after any Service address was translated.
    pub destination: QueryEnd,
    /// Its protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// The family of its addresses.
    pub family: Family,
}

/// Whether the policies allow a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is allowed.
    Allowed,
    /// It is denied.
    Denied {
        /// The direction that denies it: the source's egress is checked first.
        by: Direction,
        /// The policies that isolate the pod in that direction (`namespace/name`); none of them allows the flow.
        isolated_by: Vec<String>,
    },
}

/// Why a flow cannot exist, so that there is no ruling on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Impossible {
    /// The index is beyond the end of the list.
    #[error("cannot judge a flow of pod {index}: the world has {pods} pods")]
    NoSuchPod {
        /// The index.
        index: usize,
        /// How many pods there are.
        pods: usize,
    },
    /// The pod's containers have ended.
    #[error("cannot judge a flow of pod {pod}: it has finished, so nothing of it sends or listens")]
    Finished {
        /// `namespace/name`.
        pod: String,
    },
    /// The pod has no address of the flow's family.
    #[error("cannot judge an {family} flow of pod {pod}: it has no {family} address")]
    NoAddress {
        /// `namespace/name`.
        pod: String,
        /// The flow's family.
        family: Family,
    },
    /// An address is not of the flow's family.
    #[error("cannot judge an {family} flow of {address}: the address is of the other family")]
    WrongFamily {
        /// The address.
        address: IpAddr,
        /// The flow's family.
        family: Family,
    },
}

/// One end of a flow, found in the world.
struct ResolvedEnd<'w> {
    /// Its address.
    address: IpAddr,
    /// The pods that have this address: none for a node or an address outside the cluster, two while one pod takes over
    /// the address of another.
    pods: Vec<&'w Pod>,
    /// The node, if this is a node itself.
    node: Option<&'w str>,
}

impl ResolvedEnd<'_> {
    /// Whether all pods that have its address meet a condition.
    fn is(&self, such: impl Fn(&Pod) -> bool) -> bool {
        !self.pods.is_empty() && self.pods.iter().all(|pod| such(pod))
    }
}

/// Judges a flow.
///
/// # Errors
/// [`Impossible`] when one of the ends cannot take part in such a flow.
pub fn decide(world: &World, flow: &FlowQuery) -> Result<Ruling, Impossible> {
    let source = world.find(&flow.source, flow.family)?;
    let destination = world.find(&flow.destination, flow.family)?;
    // "a pod cannot block access to itself" (Network Policies, the concept page).
    if source.address == destination.address {
        return Ok(Ruling::Allowed);
    }
    let query = ResolvedQuery {
        world,
        source: &source,
        destination: &destination,
        protocol: flow.protocol,
        port: flow.port,
    };
    // "For a connection from a source pod to a destination pod to be allowed, both the egress policy on the source
    // pod and the ingress policy on the destination pod need to allow the connection."
    for direction in [Direction::Egress, Direction::Ingress] {
        if let Some(isolated_by) = query.denied_by(direction) {
            return Ok(Ruling::Denied { by: direction, isolated_by });
        }
    }
    Ok(Ruling::Allowed)
}

/// What the audited policies at one end of a flow would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRuling {
    /// The direction that would deny it.
    pub by: Direction,
    /// The audited policies that would isolate the pod in that direction (`namespace/name`); none of them allows the flow, and
    /// neither does an enforced one.
    pub audited: Vec<String>,
}

/// Judges a flow that [`decide`] allows: whether it would be denied if audited policies were enforced, at each end on its own.
///
/// # Errors
/// [`Impossible`] when one of the ends cannot take part in such a flow.
pub fn would_deny(world: &World, flow: &FlowQuery) -> Result<Vec<AuditRuling>, Impossible> {
    let source = world.find(&flow.source, flow.family)?;
    let destination = world.find(&flow.destination, flow.family)?;
    if source.address == destination.address {
        return Ok(Vec::new());
    }
    let (source, destination) = (&source, &destination);
    let query = ResolvedQuery { world, source, destination, protocol: flow.protocol, port: flow.port };
    let of = |by| query.would_be_denied_by(by).map(|audited| AuditRuling { by, audited });
    Ok([Direction::Egress, Direction::Ingress].into_iter().filter_map(of).collect())
}

/// A query whose ends were found.
struct ResolvedQuery<'w> {
    world: &'w World,
    source: &'w ResolvedEnd<'w>,
    destination: &'w ResolvedEnd<'w>,
    protocol: Protocol,
    port: u16,
}

impl ResolvedQuery<'_> {
    /// The policies that deny the connection in this direction; `None` if they allow it.
    fn denied_by(&self, direction: Direction) -> Option<Vec<String>> {
        let (subject, other) = self.ends(direction);
        subject.pods.iter().filter(|pod| !is_own_node(other, pod)).find_map(|pod| {
            let isolating = self.isolating(pod, direction).filter(|policy| !self.world.audits(policy));
            let isolating: Vec<&NetworkPolicy> = isolating.collect();
            // "By default, a pod is non-isolated"; once isolated, the allow lists of its policies add up.
            let allowed =
                isolating.is_empty() || isolating.iter().any(|policy| self.allowed_by(policy, direction));
            (!allowed).then(|| isolating.iter().map(|policy| key(policy)).collect())
        })
    }

    /// The audited policies that would isolate a pod in this direction, if they and the enforced ones together would deny the
    /// connection.
    fn would_be_denied_by(&self, direction: Direction) -> Option<Vec<String>> {
        let (subject, other) = self.ends(direction);
        subject.pods.iter().filter(|pod| !is_own_node(other, pod)).find_map(|pod| {
            let audited = self.isolating(pod, direction).filter(|policy| self.world.audits(policy));
            let audited: Vec<String> = audited.map(key).collect();
            let allowed = self.isolating(pod, direction).any(|policy| self.allowed_by(policy, direction));
            (!audited.is_empty() && !allowed).then_some(audited)
        })
    }

    fn ends(&self, direction: Direction) -> (&ResolvedEnd<'_>, &ResolvedEnd<'_>) {
        match direction {
            Direction::Egress => (self.source, self.destination),
            Direction::Ingress => (self.destination, self.source),
        }
    }

    fn isolating(&self, pod: &Pod, direction: Direction) -> impl Iterator<Item = &NetworkPolicy> {
        self.world.policies.iter().filter(move |policy| isolates(policy, pod, direction))
    }

    /// Whether one of the policy's rules allows the connection.
    fn allowed_by(&self, policy: &NetworkPolicy, direction: Direction) -> bool {
        // A policy with an invalid subject isolates, and allows nothing.
        if policy.spec.unknown.first().is_some() || !label::is_valid(&policy.spec.pod_selector) {
            return false;
        }
        match direction {
            // NetworkPolicySpec.ingress: "If this field is empty then this NetworkPolicy does not allow any traffic".
            Direction::Ingress => policy.spec.ingress.iter().flatten().any(|rule| {
                // NetworkPolicyIngressRule: "The traffic must match both ports and from."
                rule.unknown.first().is_none()
                    && peer::any(self.world, policy, rule.from.as_deref(), self.source)
                    && port::any(rule.ports.as_deref(), self)
            }),
            // NetworkPolicySpec.egress: "If this field is empty then this NetworkPolicy limits all outgoing traffic".
            Direction::Egress => policy.spec.egress.iter().flatten().any(|rule| {
                // NetworkPolicyEgressRule: "The traffic must match both ports and to."
                rule.unknown.first().is_none()
                    && peer::any(self.world, policy, rule.to.as_deref(), self.destination)
                    && port::any(rule.ports.as_deref(), self)
            }),
        }
    }
}

/// NetworkPolicySpec.ingress: traffic is allowed "if the traffic source is the pod's local node". Traffic from a pod to its own node
/// is not governed by policies in this project.
fn is_own_node(other: &ResolvedEnd<'_>, pod: &Pod) -> bool {
    other.node.is_some() && other.node == pod.spec.node_name.as_deref()
}

/// Whether the policy selects the pod and affects this direction.
fn isolates(policy: &NetworkPolicy, pod: &Pod, direction: Direction) -> bool {
    // NetworkPolicySpec.podSelector: "selects the pods to which this NetworkPolicy object applies"; "an empty
    // podSelector matches all pods in this namespace".
    let subject = &policy.spec.pod_selector;
    pod::namespace(&policy.metadata) == pod::namespace(&pod.metadata)
        && (!label::is_valid(subject) || label::selects(subject, pod::labels(&pod.metadata)))
        && speaks_of(policy, direction)
}

/// NetworkPolicySpec.policyTypes.
fn speaks_of(policy: &NetworkPolicy, direction: Direction) -> bool {
    let types = policy.spec.policy_types.as_deref().unwrap_or_default();
    // An unknown type or key of the spec might have meant either direction.
    let unknown = policy.spec.unknown.first().is_some()
        || types.iter().any(|kind| kind != "Ingress" && kind != "Egress");
    match direction {
        // "all policies (whether or not they contain an ingress section) are assumed to affect ingress", if the
        // field is not specified.
        Direction::Ingress => unknown || types.is_empty() || types.iter().any(|kind| kind == "Ingress"),
        // "policies that contain an egress section are assumed to affect egress"; the API server takes an empty
        // section for none.
        Direction::Egress if types.is_empty() && !unknown => {
            policy.spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
        }
        Direction::Egress => unknown || types.iter().any(|kind| kind == "Egress"),
    }
}

impl World {
    fn find<'w>(&'w self, end: &'w QueryEnd, family: Family) -> Result<ResolvedEnd<'w>, Impossible> {
        match end {
            QueryEnd::Pod(index) => {
                let pods = self.pods.len();
                let pod = self.pods.get(*index).ok_or(Impossible::NoSuchPod { index: *index, pods })?;
                if pod::has_finished(pod) {
                    return Err(Impossible::Finished { pod: pod::key(pod) });
                }
                let address =
                    pod::stated_addresses(pod).into_iter().find(|address| Family::of(*address) == family);
                let address = address.ok_or_else(|| Impossible::NoAddress { pod: pod::key(pod), family })?;
                // A host-network pod has the address of its node.
                let node = if pod::shares_node_network(pod) { pod.spec.node_name.as_deref() } else { None };
                Ok(ResolvedEnd { address, pods: self.holders(address), node })
            }
            QueryEnd::Address(address) if Family::of(*address) == family => {
                Ok(ResolvedEnd { address: *address, pods: self.holders(*address), node: None })
            }
            QueryEnd::Node { name, address } if Family::of(*address) == family => {
                Ok(ResolvedEnd { address: *address, pods: Vec::new(), node: Some(name) })
            }
            QueryEnd::Address(address) | QueryEnd::Node { address, .. } => {
                Err(Impossible::WrongFamily { address: *address, family })
            }
        }
    }

    /// Whether a policy is not enforced: its own label or that of its namespace is exactly `true`.
    fn audits(&self, policy: &NetworkPolicy) -> bool {
        let says_so = |metadata: &ObjectMeta| {
            let labels = metadata.labels.iter().flatten();
            labels.into_iter().any(|(key, value)| key == "bridgewarden.io/audit" && value == "true")
        };
        let namespace = pod::namespace(&policy.metadata);
        let own = self.namespaces.iter().filter(|own| own.metadata.name == namespace);
        says_so(&policy.metadata) || own.into_iter().any(|own| says_so(&own.metadata))
    }

    /// The pods that currently have this address in the pod network.
    fn holders(&self, address: IpAddr) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| pod::addresses(pod).contains(&address)).collect()
    }
}

fn key(policy: &NetworkPolicy) -> String {
    format!("{}/{}", pod::namespace(&policy.metadata), policy.metadata.name)
}
