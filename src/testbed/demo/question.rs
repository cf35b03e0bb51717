//! Which connections are measured, and the expected outcome of each. Pure.

use crate::explain::oracle::{FlowQuery, Impossible, QueryEnd, Ruling, World, decide};
use crate::model::{Direction, PodKey};
use crate::net::{Family, Protocol};
use crate::testbed::{Endpoint, OUTSIDE, PodPlacement, Port, Probe, ProbeOutcome};
use std::fmt;
use std::net::IpAddr;

/// A connection to measure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProbedConnection {
    /// The sender.
    pub(super) from: Endpoint,
    /// The receiver.
    pub(super) to: Endpoint,
    /// The protocol.
    pub(super) protocol: Protocol,
    /// The destination port.
    pub(super) port: u16,
    /// The family of both addresses.
    pub(super) family: Family,
    /// The source address.
    pub(super) source: IpAddr,
    /// The destination address.
    pub(super) address: IpAddr,
}

impl ProbedConnection {
    /// The probe that tries it.
    pub(super) fn probe(&self) -> Probe {
        Probe::new(self.from.clone(), self.address, self.protocol, self.port).from_address(self.source)
    }

    /// The verdict of the policies.
    ///
    /// # Errors
    /// An end is not in the world, or cannot take part.
    pub(super) fn verdict(&self, world: &World) -> Result<Ruling, Impossible> {
        let flow = FlowQuery {
            source: end(world, &self.from, self.source),
            destination: end(world, &self.to, self.address),
            protocol: self.protocol,
            port: self.port,
            family: self.family,
        };
        decide(world, &flow)
    }
}

impl fmt::Display for ProbedConnection {
    /// `shop/web → shop/db:5432/TCP over IPv4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (short(&self.from), short(&self.to));
        write!(f, "{from} → {to}:{}/{} over {}", self.port, self.protocol, self.family)
    }
}

/// An endpoint without the word for its kind: `shop/web`, `outside`.
pub(super) fn short(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Pod(pod) => pod.to_string(),
        Endpoint::Node(node) => format!("node {node}"),
        Endpoint::Outside => "outside".to_owned(),
    }
}

fn end(world: &World, endpoint: &Endpoint, address: IpAddr) -> QueryEnd {
    match endpoint {
        Endpoint::Pod(pod) => QueryEnd::Pod(index(world, pod)),
        Endpoint::Node(name) => QueryEnd::Node { name: name.clone(), address },
        Endpoint::Outside => QueryEnd::Address(address),
    }
}

/// The index of the pod in the world; if it is missing, the index after the last.
fn index(world: &World, pod: &PodKey) -> usize {
    let is_it = |metadata: &crate::api::ObjectMeta| {
        metadata.name == *pod.name
            && metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
                == pod.namespace.as_str()
    };
    world.pods.iter().position(|other| is_it(&other.metadata)).unwrap_or(world.pods.len())
}

/// Every connection from a pod or the outside to a port that another pod or the outside listens on.
pub(super) fn connections(places: &[PodPlacement], outside_listens: &[Port]) -> Vec<ProbedConnection> {
    let pods = || places.iter().map(|place| (Endpoint::Pod(place.pod.clone()), &place.addresses[..]));
    let senders: Vec<(Endpoint, &[IpAddr])> =
        std::iter::once((Endpoint::Outside, &OUTSIDE[..])).chain(pods()).collect();
    let listens = places.iter().map(|place| &place.listens[..]);
    let listeners = pods().zip(listens).chain([((Endpoint::Outside, &OUTSIDE[..]), outside_listens)]);
    let mut connections = Vec::new();
    for ((to, to_addresses), ports) in listeners {
        for (from, from_addresses) in senders.iter().filter(|(from, _)| *from != to) {
            for &(protocol, port) in ports {
                for family in Family::BOTH {
                    let ends = first(from_addresses, family).zip(first(to_addresses, family));
                    let Some((source, address)) = ends else { continue };
                    let (from, to) = (from.clone(), to.clone());
                    connections.push(ProbedConnection { from, to, protocol, port, family, source, address });
                }
            }
        }
    }
    connections
}

fn first(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| Family::of(*address) == family)
}

/// A connection and its expected outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExpectedOutcome {
    /// The connection.
    pub(super) connection: ProbedConnection,
    /// The verdict of the policies.
    pub(super) expected: Ruling,
}

/// Determines the expected outcome of every connection.
///
/// # Errors
/// One of them cannot exist in this world.
pub(super) fn questions(
    world: &World,
    connections: Vec<ProbedConnection>,
) -> Result<Vec<ExpectedOutcome>, Impossible> {
    let ask = |connection: ProbedConnection| {
        connection.verdict(world).map(|expected| ExpectedOutcome { connection, expected })
    };
    connections.into_iter().map(ask).collect()
}

/// A question and its measured answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The expected outcome.
    pub(super) question: ExpectedOutcome,
    /// The measured outcome.
    pub(super) measured: ProbeOutcome,
}

impl Finding {
    /// Whether the outcome is as expected. A denied connection must be refused, not time out.
    pub(super) fn is_as_expected(&self) -> bool {
        self.measured
            == match self.question.expected {
                Ruling::Allowed => ProbeOutcome::Open,
                Ruling::Denied { .. } => ProbeOutcome::Refused,
            }
    }
}

impl fmt::Display for Finding {
    /// `shop/web → shop/db:5432/TCP over IPv4: expected refused (ingress of shop/db: …), measured open`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { question: ExpectedOutcome { connection, expected }, measured } = self;
        write!(f, "{connection}: expected ")?;
        match expected {
            Ruling::Allowed => f.write_str("open (nothing refuses it)")?,
            Ruling::Denied { by, isolated_by } => {
                let (direction, guarded) = match by {
                    Direction::Ingress => ("ingress", &connection.to),
                    Direction::Egress => ("egress", &connection.from),
                };
                let policies = isolated_by.join(", ");
                let guarded = short(guarded);
                write!(f, "refused ({direction} of {guarded} is isolated by {policies}; none allows this)")?;
            }
        }
        write!(f, ", measured {measured}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::parse_manifests;
    use crate::testbed::demo::cluster::DemoCluster;

    /// `web` and `db` on one node, `web` without IPv6, and a policy that isolates `db`.
    pub(in super::super) const TWO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: a, containers: [{name: db, ports: [{containerPort: 5432}]}]}
status: {podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: a, containers: [{name: web, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

    pub(in super::super) fn cluster(text: &str) -> DemoCluster {
        DemoCluster::of(&parse_manifests("a.yaml", text).unwrap())
    }

    /// Findings that are all as expected.
    pub(in super::super) fn findings(text: &str) -> Vec<Finding> {
        let cluster = cluster(text);
        let outside: &[Port] = &[(Protocol::Tcp, 443)];
        let questions = questions(&cluster.world, connections(&cluster.places, outside)).unwrap();
        let right = |question: ExpectedOutcome| {
            let measured = match question.expected {
                Ruling::Allowed => ProbeOutcome::Open,
                Ruling::Denied { .. } => ProbeOutcome::Refused,
            };
            Finding { question, measured }
        };
        questions.into_iter().map(right).collect()
    }

    #[test]
    fn every_pair_and_port_is_asked_in_the_families_that_both_ends_have() {
        let connections: Vec<String> =
            findings(TWO).iter().map(|finding| finding.question.connection.to_string()).collect();
        let expected = [
            "outside → shop/db:5432/TCP over IPv4",
            "outside → shop/db:5432/TCP over IPv6",
            "shop/web → shop/db:5432/TCP over IPv4",
            "outside → shop/web:80/TCP over IPv4",
            "outside → shop/web:53/UDP over IPv4",
            "shop/db → shop/web:80/TCP over IPv4",
            "shop/db → shop/web:53/UDP over IPv4",
            "shop/db → outside:443/TCP over IPv4",
            "shop/db → outside:443/TCP over IPv6",
            "shop/web → outside:443/TCP over IPv4",
        ];
        assert_eq!(connections, expected);
    }

    #[test]
    fn mismatch_says_who_what_and_why() {
        let mut findings = findings(TWO);
        assert!(findings.iter().all(Finding::is_as_expected));
        findings[0].measured = ProbeOutcome::Open;
        findings[2].measured = ProbeOutcome::Timeout;
        assert!(!findings[0].is_as_expected() && !findings[2].is_as_expected());
        assert_eq!(findings[0].to_string(), {
            "outside → shop/db:5432/TCP over IPv4: expected refused \
             (ingress of shop/db is isolated by shop/db; none allows this), measured open"
        });
        assert_eq!(findings[2].to_string(), {
            "shop/web → shop/db:5432/TCP over IPv4: expected open (nothing refuses it), measured timed out"
        });
    }

    #[test]
    fn refusal_that_only_shows_as_silence_is_a_mismatch() {
        let mut findings = findings(TWO);
        findings[0].measured = ProbeOutcome::Timeout;
        assert!(!findings[0].is_as_expected());
    }

    #[test]
    fn connection_of_a_pod_that_is_not_there_is_an_error() {
        let cluster = cluster(TWO);
        let connections = connections(&cluster.places, &[]);
        assert!(questions(&World::default(), connections).is_err());
    }
}
