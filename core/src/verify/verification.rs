//! The comparison itself.

use super::expectation::open_to_node;
use super::frames::FrameCheck;
use super::peers::peer_classes;
use super::question::{Question, Way, ways};
use super::sides::{DistinctPeer, Side, Sides};
use super::{CounterExample, Evidence, Expectation, KernelRules, OthersAhead, Passage, SideRuling, Unjudged};
use crate::compile::Subject;
use crate::model::Direction;
use crate::net::{Family, Protocol};
use crate::netfilter::iptables::{Packet, State};
use crate::render::{Binding, OnRevoke, PodToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How many decisions about packets agreed.
    pub decisions: u64,
    /// How many decisions about frames at ports of the bridge agreed.
    pub frames: u64,
    /// Of how many addresses of this node's pods.
    pub addresses: usize,
    /// Of how many classes of peers, in both families.
    pub peer_classes: usize,
    /// How it ended.
    pub finding: VerificationOutcome,
}

/// How a comparison ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationOutcome {
    /// All decisions agree.
    Verified,
    /// This one does not.
    Differs(Box<CounterExample>),
    /// The kernel holds something that cannot be evaluated, so nothing is known.
    Unjudged(String),
}

/// Compares what the kernel does with what must hold.
///
/// Evaluates one packet of each class that the rules or the policies can distinguish. The work grows with the addresses of this node's
/// pods, and for each of them with the classes of peers and of ports that its policies and rules name; of pods with the same
/// policies and rules, all classes are evaluated once, and of each further pod every peer and every port, but not all pairs. Once for
/// each family, it grows with the pods of the cluster.
pub fn verify(evidence: &Evidence, expectation: &Expectation) -> Verification {
    let mut done = Verification {
        decisions: 0,
        frames: 0,
        addresses: 0,
        peer_classes: 0,
        finding: VerificationOutcome::Verified,
    };
    if let Err(stop) = compare(evidence, expectation, &mut done) {
        done.finding = match stop {
            EarlyEnd::Differs(example) => VerificationOutcome::Differs(example),
            EarlyEnd::Unjudged(Unjudged(what)) => VerificationOutcome::Unjudged(what),
        };
    }
    done
}

/// What ends a comparison early.
pub(super) enum EarlyEnd {
    Differs(Box<CounterExample>),
    Unjudged(Unjudged),
}

impl From<Unjudged> for EarlyEnd {
    fn from(what: Unjudged) -> EarlyEnd {
        EarlyEnd::Unjudged(what)
    }
}

fn compare(evidence: &Evidence, expectation: &Expectation, done: &mut Verification) -> Result<(), EarlyEnd> {
    let rules = KernelRules::of(evidence, OthersAhead::Accepting)?;
    let mut comparison = NodeComparison { evidence, expectation, rules, decisions: 0 };
    for family in Family::BOTH {
        let result = comparison.family(family, done);
        done.decisions = comparison.decisions;
        result?;
    }
    FrameCheck::new(evidence, expectation).run(&mut done.frames)
}

struct NodeComparison<'a> {
    evidence: &'a Evidence,
    expectation: &'a Expectation,
    rules: KernelRules<'a>,
    decisions: u64,
}

impl NodeComparison<'_> {
    fn finder(&self) -> Sides<'_> {
        Sides { expectation: self.expectation, rules: &self.rules }
    }

    fn family(&mut self, family: Family, done: &mut Verification) -> Result<(), EarlyEnd> {
        let addresses: Vec<IpAddr> = self.expectation.local(family).collect();
        let sides = self.finder().sides(&addresses);
        let prefixes: BTreeSet<_> =
            sides.values().flat_map(|side| side.facts.prefixes.iter().copied()).collect();
        let peers = peer_classes(family, self.expectation, &self.rules.sets, prefixes.into_iter());
        done.peer_classes += peers.len();
        let mut distinct = BTreeMap::new();
        for address in addresses {
            for direction in Direction::BOTH {
                let side = &sides[&(address, direction)];
                let peers = distinct
                    .entry(side.kind)
                    .or_insert_with(|| self.finder().distinct_peers(&sides, side, &peers));
                self.side(&sides, side, peers)?;
            }
            self.itself(address)?;
            self.ask_of_node(address, &peers)?;
            done.addresses += 1;
        }
        self.unassigned(family, &peers)
    }

    /// Decides of every class of peers and ports for one address in one direction.
    fn side(
        &mut self,
        sides: &BTreeMap<(IpAddr, Direction), Side>,
        side: &Side,
        peers: &[DistinctPeer],
    ) -> Result<(), EarlyEnd> {
        let mut is_first = true;
        for DistinctPeer { first, second, is_new } in peers {
            let Some(peer) = Some(*first).filter(|peer| *peer != side.own).or(*second) else { continue };
            let other = sides.get(&(peer, side.direction.opposite()));
            let mut classes = side.ports.clone();
            if side.direction == Direction::Egress {
                classes.declare(self.expectation.declared(peer));
                side.facts.port_sets.iter().for_each(|set| classes.hold(self.finder().held_ports(set, peer)));
            }
            if let Some(other) = other {
                classes.join(&other.ports);
            }
            let mut ports: Vec<_> = classes.representatives().collect();
            if !*is_new || !side.is_first_of_kind && !is_first {
                ports = self.ports_of_each_outcome(side, peer, ports);
            }
            for port in &ports {
                for way in ways(side.direction, other.is_some()) {
                    self.ask(side.question(peer, *port, *way))?;
                }
            }
            self.ask_to_node(side, peer, &ports)?;
            if is_first {
                self.states(side, peer, other.is_some(), &ports)?;
            }
            is_first = false;
        }
        Ok(())
    }

    /// One port of each combination of what the two directions decide.
    fn ports_of_each_outcome(
        &self,
        side: &Side,
        peer: IpAddr,
        ports: Vec<Option<(Protocol, u16)>>,
    ) -> Vec<Option<(Protocol, u16)>> {
        let mut outcomes = BTreeMap::new();
        for port in ports {
            let question = side.question(peer, port, Way::Bridged);
            let [egress, ingress] = self.rulings(&question).map(|ruling| ruling.allows());
            outcomes.entry((egress, ingress)).or_insert(port);
        }
        outcomes.into_values().collect()
    }

    /// Packets that do not open a connection.
    fn states(
        &mut self,
        side: &Side,
        peer: IpAddr,
        is_local: bool,
        ports: &[Option<(Protocol, u16)>],
    ) -> Result<(), EarlyEnd> {
        let mark = self.evidence.options.mark;
        let cuts = self.evidence.options.on_revoke == OnRevoke::Cut;
        let isolated = self.expectation.is_isolated(side.direction, side.own)
            || self.expectation.is_isolated(side.direction.opposite(), peer);
        let denied = |port: &&Option<(Protocol, u16)>| {
            !self.expectation.allows(&side.question(peer, **port, Way::Bridged).flow())
        };
        let Some(port) = ports.iter().find(denied).or(ports.first()).copied() else { return Ok(()) };
        for way in ways(side.direction, is_local) {
            let question = side.question(peer, port, *way);
            let cases = [
                (State::Established, 0, true, "it belongs to a connection that exists"),
                (State::Related, 0, true, "it belongs to a connection that exists"),
                (State::Established, mark, !cuts, "its connection was cut"),
                (State::Invalid, 0, !isolated, "it belongs to no connection, and its pod is isolated"),
            ];
            for (state, connection_mark, must_pass, reason) in cases {
                if connection_mark != 0 && !cuts {
                    continue;
                }
                let packet =
                    Packet { state, connection_mark, ..question.packet(&self.evidence.options.bridge) };
                self.compare(&question, &packet, must_pass, || reason.to_owned())?;
            }
        }
        Ok(())
    }

    /// From a pod to itself by a Service: no policy denies it.
    fn itself(&mut self, own: IpAddr) -> Result<(), EarlyEnd> {
        let is_unknown = self.expectation.subjects(own).any(|subject| matches!(subject, Subject::Unknown(_)));
        if is_unknown || self.expectation.subjects(own).count() > 1 {
            return Ok(());
        }
        let port = Some((Protocol::Tcp, 80));
        let question = Question { source: own, destination: own, port, way: Way::RoutedBack };
        let packet = question.packet(&self.evidence.options.bridge);
        self.compare(&question, &packet, true, || "a pod's traffic to itself is not restricted".into())
    }

    /// The node's own traffic is not restricted; what it sends on is decided as if it were routed.
    fn ask_of_node(&mut self, own: IpAddr, peers: &[IpAddr]) -> Result<(), EarlyEnd> {
        let Some(&peer) = peers.iter().find(|peer| !self.expectation.is_local(**peer)) else { return Ok(()) };
        for port in [Some((Protocol::Tcp, 80)), Some((Protocol::Udp, 53)), None] {
            let question = Question { source: peer, destination: own, port, way: Way::FromNode };
            let packet = question.packet(&self.evidence.options.bridge);
            self.compare(&question, &packet, true, || "the node reaches its own pods".into())?;
            self.ask(Question { way: Way::Relayed, ..question })?;
        }
        Ok(())
    }

    /// From a pod to its node: what `--pod-to-node` says.
    fn ask_to_node(
        &mut self,
        side: &Side,
        peer: IpAddr,
        ports: &[Option<(Protocol, u16)>],
    ) -> Result<(), EarlyEnd> {
        let choice = self.evidence.options.pod_to_node;
        if side.direction != Direction::Egress
            || choice == PodToNode::Allow
            || self.expectation.is_local(peer)
        {
            return Ok(());
        }
        let excused = open_to_node(Family::of(peer));
        for port in ports {
            let question = side.question(peer, *port, Way::ToNode);
            if port.is_some_and(|port| excused.contains(&port)) {
                let packet = question.packet(&self.evidence.options.bridge);
                self.compare(&question, &packet, true, || "DNS and DHCP of the node stay open".into())?;
            } else if choice == PodToNode::Drop {
                let must = !self.expectation.is_isolated(Direction::Egress, side.own);
                let packet = question.packet(&self.evidence.options.bridge);
                self.compare(&question, &packet, must, || {
                    "--pod-to-node=drop denies what isolated pods send to the node".into()
                })?;
            } else {
                self.ask(question)?;
            }
        }
        Ok(())
    }

    /// Nothing is routed to the bridge for an address that no pod of this node has.
    fn unassigned(&mut self, family: Family, peers: &[IpAddr]) -> Result<(), EarlyEnd> {
        let options = &self.evidence.options;
        if options.binding == Binding::Off || !options.refuse_unassigned {
            return Ok(());
        }
        let outside: Vec<IpAddr> =
            peers.iter().copied().filter(|peer| !self.expectation.is_local(*peer)).collect();
        let Some(&source) = outside.first() else { return Ok(()) };
        for destination in outside {
            let port = Some((Protocol::Tcp, 80));
            let question = Question { source, destination, port, way: Way::In };
            let packet = Packet { state: State::New, ..question.packet(&self.evidence.options.bridge) };
            self.compare(&question, &packet, false, || {
                format!("no pod of this node has the {family} address {destination}")
            })?;
        }
        Ok(())
    }

    /// Compares what policies say of a new connection with what the kernel does.
    fn ask(&mut self, question: Question) -> Result<(), EarlyEnd> {
        self.decisions += 1;
        let [egress, ingress] = self.rulings(&question);
        let must_pass = egress.allows() && ingress.allows();
        let packet = question.packet(&self.evidence.options.bridge);
        let passage = self.rules.pass(question.way.point(), &packet, false)?;
        if passage.passes == must_pass {
            return Ok(());
        }
        let limited = [&egress, &ingress].into_iter().any(|ruling| match ruling {
            SideRuling::Allowed(policy, _) => self.expectation.is_limited(policy),
            SideRuling::Free => false,
            SideRuling::Denied { .. } => false,
        });
        if must_pass && limited {
            return Ok(());
        }
        let reason = self.expectation.reason(&question, &egress, &ingress);
        Err(self.differs(&question, &packet, must_pass, reason)?)
    }

    fn compare(
        &mut self,
        question: &Question,
        packet: &Packet,
        must_pass: bool,
        reason: impl Fn() -> String,
    ) -> Result<(), EarlyEnd> {
        let passage = self.rules.pass(question.way.point(), packet, false)?;
        self.decisions += 1;
        if passage.passes == must_pass {
            return Ok(());
        }
        Err(self.differs(question, packet, must_pass, reason())?)
    }

    fn differs(
        &self,
        question: &Question,
        packet: &Packet,
        must_pass: bool,
        reason: String,
    ) -> Result<EarlyEnd, Unjudged> {
        let Passage { path, .. } = self.rules.pass(question.way.point(), packet, true)?;
        let state = match packet.state {
            State::New | State::Dnat => "new connection",
            State::Established | State::Related => "packet of a connection",
            State::Invalid => "invalid packet",
            State::Untracked => "untracked packet",
        };
        let payload = match question.port {
            Some((protocol, port)) => format!("{protocol} port {port}"),
            None => "a protocol without ports".to_owned(),
        };
        let packet = format!(
            "a {state} from {} to {}, {payload}, {}",
            self.expectation.name(question.source),
            self.expectation.name(question.destination),
            question.way.words()
        );
        Ok(EarlyEnd::Differs(Box::new(CounterExample { packet, must_pass, reason, path })))
    }

    /// What the policies of both ends say, egress first. The ends of a packet to this node itself have no ingress.
    fn rulings(&self, question: &Question) -> [SideRuling<'_>; 2] {
        let [egress, ingress] = self.expectation.rulings(&question.flow());
        [egress, if question.way == Way::ToNode { SideRuling::Free } else { ingress }]
    }
}
