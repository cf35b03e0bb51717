//! Decides about connections in a cluster, rule by rule, from the model's policies.

use super::case::{
    AskedPort, Bystander, Case, CaseAnswer, CaseEnd, PeerAnswer, PolicyAnswer, PortAnswer, RuleAnswer,
    SideAnswer,
};
use super::difference::{PeerDifference, PortDifference, lacking, of_pod};
use crate::model::{Block, Direction, Peer, Peers, Pod, Policy, PortMatch, Ports, Rule, Snapshot};
use crate::net::{Family, IpNet, PortRange, PortSet, Protocol, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Answers for connections in a cluster.
#[derive(Debug)]
pub struct SnapshotJudge<'s> {
    snapshot: &'s Snapshot,
    /// The pods at each address; two for the moment in which one takes over the address of another.
    holders: BTreeMap<IpAddr, Vec<&'s Pod>>,
}

/// An end as policies see it.
struct FoundEnd<'s, 'c> {
    end: &'c CaseEnd,
    pods: Vec<&'s Pod>,
}

impl FoundEnd<'_, '_> {
    fn is_node_of(&self, pod: &Pod) -> bool {
        match self.end {
            CaseEnd::Node { name: Some(name), .. } => pod.node.as_ref() == Some(name),
            CaseEnd::Node { name: None, .. } | CaseEnd::Pod { .. } | CaseEnd::Address(_) => false,
        }
    }

    /// The numbers that every pod here declares under a name.
    fn declared(&self, protocol: Protocol, name: &str) -> BTreeSet<u16> {
        let of = |pod: &&Pod| -> BTreeSet<u16> {
            let ports = pod.ports.iter().filter(|port| port.protocol == protocol && *port.name == *name);
            ports.map(|port| port.port).collect()
        };
        self.pods.iter().map(of).reduce(|all, own| &all & &own).unwrap_or_default()
    }
}

impl<'s> SnapshotJudge<'s> {
    /// A judge of this cluster's connections.
    pub fn new(snapshot: &'s Snapshot) -> SnapshotJudge<'s> {
        let mut holders: BTreeMap<IpAddr, Vec<&Pod>> = BTreeMap::new();
        for pod in snapshot.pods.values().filter(|pod| pod.networked && !pod.finished) {
            for address in &pod.addresses {
                holders.entry(*address).or_default().push(pod);
            }
        }
        SnapshotJudge { snapshot, holders }
    }

    /// The cluster.
    pub fn snapshot(&self) -> &'s Snapshot {
        self.snapshot
    }

    /// The pods that hold an address.
    pub fn holders(&self, address: IpAddr) -> &[&'s Pod] {
        self.holders.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// Decides about a connection, with the reasons.
    pub fn judge(&self, case: &Case) -> CaseAnswer<'s> {
        let source = self.find(&case.source);
        let destination = self.find(&case.destination);
        let is_one = match (case.source.address(), case.destination.address()) {
            (Some(source), Some(destination)) => source == destination,
            _ => case.source == case.destination && !source.pods.is_empty(),
        };
        let to_itself = is_one && !case.replicas;
        let mut sides = Vec::new();
        if !to_itself {
            for direction in Direction::BOTH {
                let (own, other) = match direction {
                    Direction::Egress => (&source, &destination),
                    Direction::Ingress => (&destination, &source),
                };
                sides.extend(own.pods.iter().map(|pod| self.side(case, direction, pod, other, &destination)));
            }
        }
        let open = sides.iter().fold(PortSet::all(), |open, side| open.intersection(&side.opens));
        CaseAnswer { case: case.clone(), allowed: case.port.of_set(&open), to_itself, sides }
    }

    fn find<'c>(&self, end: &'c CaseEnd) -> FoundEnd<'s, 'c> {
        let pods = match end {
            CaseEnd::Node { .. } => Vec::new(),
            CaseEnd::Pod { address: Some(address), .. } | CaseEnd::Address(address) => {
                self.holders(*address).to_vec()
            }
            CaseEnd::Pod { key, address: None } => self.snapshot.pods.get(key).into_iter().collect(),
        };
        FoundEnd { end, pods }
    }

    fn side(
        &self,
        case: &Case,
        direction: Direction,
        subject: &'s Pod,
        other: &FoundEnd<'s, '_>,
        destination: &FoundEnd<'s, '_>,
    ) -> SideAnswer<'s> {
        let own_node = other.is_node_of(subject);
        let (mut policies, mut audited, mut bystanders) = (Vec::new(), Vec::new(), Vec::new());
        for policy in self.snapshot.policies_in(&subject.key.namespace) {
            let Some(rules) = policy.rules(direction) else { continue };
            let is_audited = self.snapshot.is_audited(policy);
            let mut lacking = lacking(&policy.subject, &subject.labels);
            match (lacking.next(), lacking.next()) {
                (None, _) => {
                    let rules = rules.iter().map(|rule| self.rule(case, policy, rule, other, destination));
                    let answer = PolicyAnswer { policy, rules: rules.collect() };
                    if is_audited { &mut audited } else { &mut policies }.push(answer);
                }
                (Some(wanted), None) if !is_audited => bystanders.push(Bystander { policy, wanted }),
                (Some(_), _) => {}
            }
        }
        let mut opens = opened_by(&policies);
        let would_open = audited_would_open(&opens, &audited);
        if own_node || policies.is_empty() {
            opens = PortSet::all();
        }
        let is_open = |ports: &PortSet| !case.port.of_set(ports).is_empty();
        let verdict = if is_open(&opens) { Verdict::Allowed } else { Verdict::Denied };
        let would_deny =
            !own_node && verdict == Verdict::Allowed && would_open.is_some_and(|ports| !is_open(&ports));
        let subject = &subject.key;
        SideAnswer { direction, subject, own_node, policies, audited, would_deny, bystanders, opens, verdict }
    }

    fn rule(
        &self,
        case: &Case,
        policy: &'s Policy,
        rule: &'s Rule,
        other: &FoundEnd<'s, '_>,
        destination: &FoundEnd<'s, '_>,
    ) -> RuleAnswer<'s> {
        let peers = match &rule.peers {
            Peers::Anywhere => Vec::new(),
            Peers::Listed(peers) => peers.iter().map(|peer| self.peer(case, policy, peer, other)).collect(),
        };
        let (ports, opens) = match &rule.ports {
            Ports::All => (Vec::new(), PortSet::all()),
            Ports::Listed(ports) => {
                let mut opens = PortSet::none();
                let answers = ports.iter().map(|port| answer_port(case, port, destination, &mut opens));
                (answers.collect(), opens)
            }
        };
        let mut answer = RuleAnswer { rule, peers, ports, opens, allows: false };
        answer.allows = answer.peer_matches() && answer.port_matches();
        answer
    }

    fn peer(
        &self,
        case: &Case,
        policy: &'s Policy,
        peer: &'s Peer,
        other: &FoundEnd<'s, '_>,
    ) -> PeerAnswer<'s> {
        let differences = match peer {
            Peer::Block(block) => of_block(block, other.end.address(), case.family),
            Peer::Pods { .. } if other.pods.is_empty() => vec![PeerDifference::NoPod],
            // A peer is an address if it is every pod there.
            Peer::Pods { namespaces, pods } => (other.pods.iter())
                .flat_map(|pod| {
                    let labels = self.snapshot.namespace_labels(&pod.key.namespace);
                    of_pod(&policy.key.namespace, namespaces, pods, (&pod.key, &pod.labels), labels)
                })
                .collect(),
        };
        PeerAnswer { peer, differences }
    }
}

/// The ports that policies allow to the other end.
fn opened_by(policies: &[PolicyAnswer<'_>]) -> PortSet {
    let mut opens = PortSet::none();
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    rules.filter(|rule| rule.peer_matches()).for_each(|rule| opens.add_all(&rule.opens));
    opens
}

/// The ports that enforced policies would allow together with audited ones; `None` if there are no audited ones.
fn audited_would_open(enforced: &PortSet, audited: &[PolicyAnswer<'_>]) -> Option<PortSet> {
    let mut opens = opened_by(audited);
    opens.add_all(enforced);
    (!audited.is_empty()).then_some(opens)
}

/// The differences between a block and an address. An address that is not known is in a block only if every one is.
fn of_block(block: &Block, address: Option<IpAddr>, family: Family) -> Vec<PeerDifference> {
    let holds_all = |cidr: &IpNet| cidr.prefix_len() == 0 && Family::of_net(*cidr) == family;
    let Some(address) = address else {
        let held = holds_all(&block.cidr) && block.except.is_empty();
        return if held { Vec::new() } else { vec![PeerDifference::UnknownAddress] };
    };
    if !block.cidr.contains(&address) {
        return vec![PeerDifference::OutsideBlock { cidr: block.cidr, address }];
    }
    let excepts = block.except.iter().filter(|except| except.contains(&address));
    excepts.map(|except| PeerDifference::Excepted { except: *except, address }).collect()
}

/// Compares a port of a rule with the asked port, and adds it to the ports that the rule opens.
fn answer_port<'s>(
    case: &Case,
    port: &'s PortMatch,
    destination: &FoundEnd<'_, '_>,
    opens: &mut PortSet,
) -> PortAnswer<'s> {
    let (mut own, mut declared) = (PortSet::none(), Vec::new());
    let protocol = match port {
        PortMatch::Protocol(protocol) => {
            own = PortSet::of_protocol(*protocol);
            protocol
        }
        PortMatch::Numbered(protocol, range) => {
            own = PortSet::of(*protocol, *range);
            protocol
        }
        PortMatch::Named(protocol, name) => {
            declared.extend(destination.declared(*protocol, name));
            let ranges = declared.iter().filter_map(|port| PortRange::single(*port));
            ranges.for_each(|range| own.add_all(&PortSet::of(*protocol, range)));
            protocol
        }
    };
    opens.add_all(&own);
    let named = matches!(port, PortMatch::Named(..));
    let misses_by = || match case.port {
        AskedPort::Of(asked) | AskedPort::One(asked, _) if asked != *protocol => {
            PortDifference::Protocol(asked)
        }
        AskedPort::One(_, asked) if !named => PortDifference::Number(asked),
        AskedPort::Any | AskedPort::Of(_) | AskedPort::One(..) => PortDifference::Declared(declared.clone()),
    };
    let difference = case.port.of_set(&own).is_empty().then(misses_by);
    PortAnswer { port, declared, difference }
}
