//! What this node's policies decide about one connection, and why.

use super::{
    Allow, AllowPeers, AllowPort, AllowPorts, Judgement, Member, Plan, PolicyBlock, SetDefinition, Subject,
};
use crate::model::{Cluster, Direction, PolicyKey};
use crate::net::{Flow, Verdict};
use std::net::IpAddr;

/// What the policies of this node decide about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// Whether they allow it.
    pub verdict: Verdict,
    /// The reason for the verdict.
    pub because: Cause<'p>,
}

/// The reason for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'p> {
    /// Allowed: both ends have the same address, and policies do not restrict a pod's traffic to itself.
    SameAddress,
    /// Allowed: no local pod at either end is isolated in its direction.
    NotIsolated,
    /// Allowed: this rule of a policy. If several directions or pods had to allow it, the last of them.
    Rule {
        /// The direction, seen from the isolated pod.
        direction: Direction,
        /// The policy.
        policy: &'p PolicyKey,
        /// The index of the rule in the policy's list, from 0; of rules that the plan has merged, the first.
        rule: usize,
    },
    /// Denied: a pod is isolated, and none of its policies allows the connection. If the object of its sandbox is
    /// unknown, no policy applies, and nothing is allowed.
    Isolated {
        /// The direction, seen from the isolated pod.
        direction: Direction,
        /// The isolated pod.
        subject: &'p Subject,
        /// The policies that evaluated the connection.
        judgement: &'p Judgement,
    },
}

impl<'p> Decision<'p> {
    fn allowed(because: Cause<'p>) -> Decision<'p> {
        Decision { verdict: Verdict::Allowed, because }
    }

    fn denied(because: Cause<'p>) -> Decision<'p> {
        Decision { verdict: Verdict::Denied, because }
    }

    /// Whether the connection may pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }
}

impl Plan {
    /// Decides about a connection in both directions, egress first.
    ///
    /// Policies do not apply to a node's own traffic to its pods: other rules allow it.
    pub fn decide(&self, cluster: &Cluster, flow: &Flow) -> Decision<'_> {
        if flow.source == flow.destination {
            return Decision::allowed(Cause::SameAddress);
        }
        let mut last = Decision::allowed(Cause::NotIsolated);
        for direction in Direction::BOTH {
            let decision = self.decide_in(cluster, direction, flow);
            if !decision.is_allowed() {
                return decision;
            }
            if decision.because != Cause::NotIsolated {
                last = decision;
            }
        }
        last
    }

    /// Decides about a connection in one direction: every isolated pod at the address must allow it.
    pub fn decide_in(&self, cluster: &Cluster, direction: Direction, flow: &Flow) -> Decision<'_> {
        let mut last = Decision::allowed(Cause::NotIsolated);
        for subject in self.isolated_at(direction, direction.own_end(flow)) {
            last = self.decide_for(cluster, direction, subject, flow);
            if !last.is_allowed() {
                break;
            }
        }
        last
    }

    fn decide_for<'p>(
        &'p self,
        cluster: &Cluster,
        direction: Direction,
        subject: &'p Subject,
        flow: &Flow,
    ) -> Decision<'p> {
        static EMPTY: Judgement = Judgement { tiers: Vec::new() };
        let judgement = self.isolations().get(subject).and_then(|isolation| isolation.judgement(direction));
        let judgement = judgement.map_or(&EMPTY, |judgement| &**judgement);
        match self.allowing(cluster, judgement, direction, flow) {
            Some((block, allow)) => {
                Decision::allowed(Cause::Rule { direction, policy: &block.key, rule: allow.rule })
            }
            None => Decision::denied(Cause::Isolated { direction, subject, judgement }),
        }
    }

    /// The subject and the judgement that would deny a connection in a direction, if its audited policies were enforced, too; `None`
    /// if none would. Whether the enforced ones allow the connection is another question.
    pub fn would_deny(
        &self,
        cluster: &Cluster,
        direction: Direction,
        flow: &Flow,
    ) -> Option<(&Subject, &Judgement)> {
        let own = direction.own_end(flow);
        let audited = self.audits().at(direction, own).filter(|_| flow.source != flow.destination);
        let judged = audited.filter_map(|subject| {
            let judgement = self.audits().subjects().get(subject)?.judgement(direction)?;
            Some((subject, &**judgement))
        });
        judged.into_iter().find(|(_, judgement)| self.allowing(cluster, judgement, direction, flow).is_none())
    }

    /// What allows a connection, among the policies of a judgement.
    fn allowing<'p>(
        &'p self,
        cluster: &Cluster,
        judgement: &Judgement,
        direction: Direction,
        flow: &Flow,
    ) -> Option<(&'p PolicyBlock, &'p Allow)> {
        let blocks = judgement.policies().filter_map(|key| self.policies().get(key));
        let mut allows = blocks.flat_map(|block| {
            block.allows(direction).unwrap_or_default().iter().map(move |own| (block, own))
        });
        allows.find(|(_, allow)| self.is_allowed_by(cluster, allow, direction, flow))
    }

    fn is_allowed_by(&self, cluster: &Cluster, allow: &Allow, direction: Direction, flow: &Flow) -> bool {
        let peer = direction.peer_end(flow);
        let peers = match &allow.peers {
            AllowPeers::Anywhere => true,
            AllowPeers::In(sets) => sets.iter().any(|set| self.holds_peer(cluster, set, peer)),
        };
        let ports = match &allow.ports {
            AllowPorts::All => true,
            AllowPorts::Any(ports) => ports.iter().any(|port| self.holds_port(cluster, port, flow)),
        };
        peers && ports
    }

    fn holds_peer(&self, cluster: &Cluster, set: &SetDefinition, peer: IpAddr) -> bool {
        match set {
            SetDefinition::Blocks(blocks) => blocks.iter().any(|block| block.contains(peer)),
            SetDefinition::Pods { .. } | SetDefinition::AnyOf(_) | SetDefinition::NamedPort { .. } => {
                self.contains(cluster, set, Member::Address(peer))
            }
        }
    }

    fn holds_port(&self, cluster: &Cluster, port: &AllowPort, flow: &Flow) -> bool {
        let Some((protocol, number)) = flow.port else { return false };
        match port {
            AllowPort::Protocol(wanted) => protocol == *wanted,
            AllowPort::Numbered(wanted, ranges) => {
                protocol == *wanted && ranges.iter().any(|range| range.contains(number))
            }
            AllowPort::Named(wanted, set) => {
                protocol == *wanted
                    && self.contains(cluster, set, Member::Port(flow.destination, protocol, number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::UnknownPods;
    use crate::model::{
        Change, Peers, Pod, PodKey, Policy, PortMatch, Ports, Rule, Sandbox, SandboxKey, Selector,
    };
    use crate::net::{PortRange, Protocol};
    use std::time::Duration;

    const WEB: [u8; 4] = [10, 244, 1, 10];
    const FREE: [u8; 4] = [10, 244, 1, 11];
    const NEW: [u8; 4] = [10, 244, 1, 12];

    fn pod(namespace: &str, address: [u8; 4]) -> Change {
        Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![address.into()],
            ..Pod::new(PodKey::new(namespace, "web"))
        })
    }

    /// A pod that can be reached at one port by a policy's second rule, a pod that no policy isolates, and a sandbox
    /// without a pod.
    fn plan() -> (Cluster, Plan) {
        let http = PortMatch::Numbered(Protocol::Tcp, PortRange::single(80).expect("a port"));
        let rule = |index, ports| Rule { index, peers: Peers::Anywhere, ports };
        let rules = vec![rule(0, Ports::Listed(Vec::new())), rule(1, Ports::Listed(vec![http]))];
        let policy = Policy {
            key: PolicyKey::new("shop", "http"),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(rules),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        };
        let sandbox = Sandbox {
            key: SandboxKey::new(PodKey::new("shop", "new"), "a"),
            uid: None,
            addresses: vec![NEW.into()],
            made: Duration::from_secs(1),
            devices: Vec::new(),
            hardware: None,
        };
        let (mut cluster, mut plan) = (Cluster::new("node-a"), Plan::new(UnknownPods::Reject));
        for change in [pod("shop", WEB), pod("free", FREE), Change::Policy(policy), Change::Sandbox(sandbox)]
        {
            let touched = cluster.apply(change);
            plan.update(&cluster, &touched);
        }
        (cluster, plan)
    }

    fn flow(source: [u8; 4], destination: [u8; 4], port: u16) -> Flow {
        let port = Some((Protocol::Tcp, port));
        Flow { source: source.into(), destination: destination.into(), port }
    }

    #[test]
    fn decision_names_the_rule_that_allows_or_the_pod_that_denies_and_its_policies() {
        let (cluster, plan) = plan();
        let decide = |source, destination, port| plan.decide(&cluster, &flow(source, destination, port));
        let because = |source, destination, port| decide(source, destination, port).because;
        let key = PolicyKey::new("shop", "http");
        let direction = Direction::Ingress;
        assert_eq!(because(WEB, WEB, 81), Cause::SameAddress);
        assert_eq!(because(WEB, FREE, 81), Cause::NotIsolated);
        assert_eq!(because(FREE, WEB, 80), Cause::Rule { direction, policy: &key, rule: 1 });
        assert!(
            [(WEB, WEB, 81), (WEB, FREE, 81), (FREE, WEB, 80)]
                .into_iter()
                .all(|(source, destination, port)| decide(source, destination, port).is_allowed())
        );
        let denied = decide(FREE, WEB, 81);
        let Cause::Isolated { direction: Direction::Ingress, subject, judgement } = denied.because else {
            panic!("it is denied at the destination: {denied:?}");
        };
        assert_eq!((denied.verdict, subject), (Verdict::Denied, &Subject::Pod(PodKey::new("shop", "web"))));
        assert_eq!(judgement.policies().collect::<Vec<_>>(), [&key]);
    }

    #[test]
    fn sandbox_without_a_pod_denies_in_the_direction_that_a_packet_meets_first() {
        let (cluster, plan) = plan();
        for (source, destination, wanted) in [(NEW, WEB, Direction::Egress), (WEB, NEW, Direction::Ingress)] {
            let decision = plan.decide(&cluster, &flow(source, destination, 80));
            let Cause::Isolated { direction, subject: Subject::Unknown(_), judgement } = decision.because
            else {
                panic!("it is denied for the sandbox: {decision:?}");
            };
            assert_eq!((direction, judgement.policies().count()), (wanted, 0));
        }
    }
}
