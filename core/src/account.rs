//! Explains a denied flow: the pods at its ends, the policies that deny it, and the rule that comes nearest to allowing
//! it.
//!
//! Comes in: a cluster, a plan and a flow that the kernel has denied. Goes out: an `Account` for people.
//! `explain::nearest` finds the nearest rule.

use crate::compile::{Cause, Judgement, Plan, Subject};
use crate::explain::{NearestRule, nearest};
use crate::flow::{
    self, Account, DeniedFlow, DeniedPayload, FlowEnd, FlowVerdict, Place, PortDrop, PortReason, Reason,
};
use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use crate::net;
use std::net::IpAddr;

/// Explains a flow that was denied a moment ago. The cluster may have changed since.
pub fn account(cluster: &Cluster, plan: &Plan, flow: &DeniedFlow) -> Account {
    match flow.place {
        Place::Port(drop) => account_at_port(cluster, flow, drop),
        Place::Pod(_) | Place::ToNode | Place::Audit(_) => account_of_policies(cluster, plan, flow),
    }
}

/// Explains a frame that was dropped at a port. The cluster knows which pod is behind the port; the addresses may be
/// forged.
fn account_at_port(cluster: &Cluster, flow: &DeniedFlow, drop: PortDrop) -> Account {
    let packet = flow.packet;
    let port = drop.to.or(drop.from);
    let at = |port: Option<u32>, address| match port.and_then(|port| cluster.sandbox_at(port)) {
        Some(sandbox) => end_of(cluster, Some(&sandbox.key.pod), address),
        None => end(cluster, address),
    };
    let (source, destination) = (at(drop.from, packet.source), at(drop.to, packet.destination));
    let uid = port.and_then(|port| cluster.sandbox_at(port)?.uid.as_deref().map(str::to_owned));
    Account {
        verdict: flow.place.verdict(),
        direction: flow.place.direction(),
        source,
        destination,
        protocol: protocol(packet.payload),
        port: packet.payload.port().map(|(_, number)| number),
        reason: match drop.why {
            PortReason::Spoofed => Reason::SpoofedSource,
            PortReason::Discovery => Reason::ForgedDiscovery,
            PortReason::Unassigned => Reason::NotAnAddressOfItsOwn,
            PortReason::LinkLocal => Reason::LinkLocalUnderIsolation,
            PortReason::Group => Reason::GroupUnderIsolation,
            PortReason::Protocol => Reason::ProtocolUnderIsolation,
            PortReason::Tunnel => Reason::ToTunnel,
            PortReason::Reserved => Reason::ReservedAddress,
        },
        policies: Vec::new(),
        nearest: None,
        bridge_port: port.and_then(|port| cluster.port(port)).map(|port| port.name.to_string()),
        uid,
    }
}

fn protocol(payload: DeniedPayload) -> String {
    match payload {
        DeniedPayload::Transport(protocol, _) => protocol.to_string(),
        DeniedPayload::Icmp(..)
        | DeniedPayload::Other(_)
        | DeniedPayload::Arp
        | DeniedPayload::Ethernet(_) => payload.to_string(),
    }
}

fn account_of_policies(cluster: &Cluster, plan: &Plan, flow: &DeniedFlow) -> Account {
    let direction = flow.place.direction();
    let packet = flow.packet;
    let port = packet.payload.port();
    let denied = net::Flow { source: packet.source, destination: packet.destination, port };
    let isolated = plan.isolated_at(direction, direction.own_end(&denied)).next();
    let (reason, subject, judgement) = match flow.place {
        Place::ToNode => {
            let judgement = isolated.and_then(|subject| plan.isolations().get(subject)?.judgement(direction));
            (Reason::OwnNode, isolated, judgement.map(|judgement| &**judgement))
        }
        Place::Audit(_) => match plan.would_deny(cluster, direction, &denied) {
            Some((subject, judgement)) => (Reason::NoRuleAllows, Some(subject), Some(judgement)),
            None => {
                let audited = plan.audits().at(direction, direction.own_end(&denied)).next();
                (Reason::AllowedByNow, audited, None)
            }
        },
        Place::Pod(_) | Place::Port(_) => match plan.decide_in(cluster, direction, &denied).because {
            Cause::Isolated { subject: Subject::Unknown(_), .. } => (Reason::PodNotYetKnown, None, None),
            Cause::Isolated { subject, judgement, .. } => {
                (Reason::NoRuleAllows, Some(subject), Some(judgement))
            }
            Cause::SameAddress | Cause::NotIsolated | Cause::Rule { .. } => {
                (Reason::AllowedByNow, isolated, None)
            }
        },
    };
    let policies: Vec<PolicyKey> = judgement.into_iter().flat_map(Judgement::policies).cloned().collect();
    let verdict = flow.place.verdict();
    let is_named = |key: &&PolicyKey| {
        verdict == FlowVerdict::Denied || plan.policies().get(*key).is_some_and(|block| block.audited)
    };
    let uid = match subject {
        Some(Subject::Pod(pod)) => cluster.uid_of(pod),
        Some(Subject::Unknown(_)) | None => None,
    };
    Account {
        verdict,
        direction,
        source: end(cluster, packet.source),
        destination: end(cluster, packet.destination),
        protocol: protocol(packet.payload),
        port: port.map(|(_, number)| number),
        reason,
        nearest: (reason == Reason::NoRuleAllows)
            .then(|| nearest(cluster, &policies, direction, &denied))
            .flatten()
            .map(|nearest| nearest_record(nearest, direction)),
        policies: policies.iter().filter(is_named).map(ToString::to_string).collect(),
        bridge_port: None,
        uid: uid.map(str::to_owned),
    }
}

fn nearest_record(nearest: NearestRule, direction: Direction) -> flow::NearestRecord {
    flow::NearestRecord {
        policy: nearest.policy.to_string(),
        rule: format!("spec.{direction}[{}]", nearest.rule),
        differs: nearest.differs.word().to_owned(),
        note: nearest.note,
    }
}

/// Who has an address.
pub fn end(cluster: &Cluster, address: IpAddr) -> FlowEnd {
    let unknown = || {
        let mut there = cluster.unknown_sandboxes().filter(|(_, addresses)| addresses.contains(&address));
        there.next().map(|(sandbox, _)| &sandbox.pod)
    };
    let pod: Option<&PodKey> = cluster.pods_at(address).first().map(|(pod, _)| *pod).or_else(unknown);
    end_of(cluster, pod, address)
}

fn end_of(cluster: &Cluster, pod: Option<&PodKey>, address: IpAddr) -> FlowEnd {
    FlowEnd {
        address,
        namespace: pod.map(|pod| pod.namespace.to_string()),
        pod: pod.map(|pod| pod.name.to_string()),
        owner: pod
            .and_then(|pod| cluster.owner_of(pod))
            .map(|owner| flow::OwnerRecord { kind: owner.kind.to_string(), name: owner.name.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::DeniedPacket;
    use crate::model::{AuditLabel, Change, Owner, Pod, Policy, Sandbox, SandboxKey, Selector};
    use crate::net::Protocol;
    use std::sync::Arc;
    use std::time::Duration;

    const WEB: [u8; 4] = [10, 244, 1, 10];
    const NEW: [u8; 4] = [10, 244, 1, 11];

    /// A cluster, and the plan of a node in it.
    struct Known(Cluster, Plan);

    impl Known {
        fn apply(&mut self, change: Change) {
            let touched = self.0.apply(change);
            self.1.update(&self.0, &touched);
        }
    }

    fn known() -> Known {
        let mut known = Known(Cluster::new("node-a"), Plan::default());
        known.apply(Change::Pod(Pod {
            uid: Some("uid-of-web".into()),
            node: Some("node-a".into()),
            owner: Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: "web-5d9c".into() })),
            addresses: vec![WEB.into()],
            ..Pod::new(PodKey::new("shop", "web"))
        }));
        let key = SandboxKey::new(PodKey::new("shop", "new"), "a");
        let made = Duration::from_secs(1);
        known.apply(Change::Sandbox(Sandbox {
            key,
            uid: None,
            addresses: vec![NEW.into()],
            made,
            devices: Vec::new(),
            hardware: None,
        }));
        known.apply(Change::Policy(Policy {
            key: PolicyKey::new("shop", "closed"),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(Vec::new()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        }));
        known
    }

    fn denied(known: &Known, place: Place, source: [u8; 4], destination: [u8; 4]) -> Account {
        let payload = DeniedPayload::Transport(Protocol::Udp, 53);
        let packet = DeniedPacket { source: source.into(), destination: destination.into(), payload };
        account(&known.0, &known.1, &DeniedFlow { place, packet })
    }

    #[test]
    fn account_names_both_ends_and_the_policies_of_the_pod_that_denies() {
        let account = denied(&known(), Place::Pod(Direction::Ingress), [192, 0, 2, 1], WEB);
        assert_eq!(
            (account.source.to_string(), account.destination.to_string()),
            ("192.0.2.1".into(), "shop/web".into())
        );
        let owner = account.destination.owner.map(|owner| owner.to_string());
        assert_eq!((account.source.owner, owner.as_deref()), (None, Some("ReplicaSet/web-5d9c")));
        assert_eq!(
            (account.reason, account.policies),
            (Reason::NoRuleAllows, vec!["shop/closed".to_owned()])
        );
        assert_eq!(
            (account.protocol.as_str(), account.port, account.uid.as_deref()),
            ("UDP", Some(53), Some("uid-of-web"))
        );
    }

    #[test]
    fn flow_that_audited_policies_would_deny_names_these_and_no_enforced_ones() {
        let mut known = known();
        let Some(closed) = known.0.policy(&PolicyKey::new("shop", "closed")).cloned() else {
            panic!("a policy")
        };
        let open = vec![crate::model::Rule {
            index: 0,
            peers: crate::model::Peers::Listed(Vec::new()),
            ports: crate::model::Ports::All,
        }];
        let audited = Policy { audit: AuditLabel::Audited, ingress: Some(open), ..closed.clone() };
        known.apply(Change::Policy(Policy { key: PolicyKey::new("shop", "audited"), ..audited.clone() }));
        let place = Place::Audit(Direction::Ingress);
        let account = denied(&known, place, [192, 0, 2, 1], WEB);
        assert_eq!((account.verdict, account.reason), (FlowVerdict::WouldBeDenied, Reason::NoRuleAllows));
        assert_eq!(
            (account.policies, account.uid.as_deref()),
            (vec!["shop/audited".to_owned()], Some("uid-of-web"))
        );
        let real = denied(&known, Place::Pod(Direction::Ingress), [192, 0, 2, 1], WEB);
        assert_eq!((real.verdict, real.policies), (FlowVerdict::Denied, vec!["shop/closed".to_owned()]));
        known.apply(Change::Policy(Policy { key: PolicyKey::new("shop", "audited"), ..closed }));
        let account = denied(&known, place, [192, 0, 2, 1], WEB);
        assert_eq!((account.reason, account.policies), (Reason::AllowedByNow, Vec::new()));
    }

    #[test]
    fn pod_that_the_api_has_not_reported_is_named_as_its_sandbox_says() {
        let account = denied(&known(), Place::Pod(Direction::Egress), NEW, WEB);
        assert_eq!((account.source.to_string(), account.reason), ("shop/new".into(), Reason::PodNotYetKnown));
        assert_eq!((account.policies, account.nearest), (Vec::new(), None));
    }

    #[test]
    fn flow_that_would_be_allowed_by_now_is_reported_so_and_names_no_policy() {
        let mut known = known();
        known.apply(Change::PolicyGone(PolicyKey::new("shop", "closed")));
        // The namespace is unknown, so the policy stays until its pods are gone; so the pod must go, too.
        known.apply(Change::PodGone(PodKey::new("shop", "web")));
        let account = denied(&known, Place::Pod(Direction::Ingress), [192, 0, 2, 1], WEB);
        assert_eq!((account.reason, account.policies), (Reason::AllowedByNow, Vec::new()));
    }
}
