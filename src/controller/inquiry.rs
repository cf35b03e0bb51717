//! What is known of flows that the kernel refused, and of its chains: only the loop knows, as it owns the cluster and the plan.

use super::Enforcer;
use crate::compile::{self, Subject};
use crate::explain::{Nearest, Refused, nearest};
use crate::flow::{self, Account, End, Flow, Payload, Place, PortDrop, PortReason, Reason};
use crate::model::{Cluster, Direction, PodKey, PolicyKey};
use crate::netfilter::ChainName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tokio::sync::{mpsc, oneshot};

/// Something that somebody wants to know.
#[derive(Debug)]
pub enum Inquiry {
    /// What is known of flows that were refused.
    Flows {
        /// Which. Few: the loop answers all at once.
        flows: Vec<Flow>,
        /// Who waits for what is known of each, in their order.
        answer: oneshot::Sender<Vec<Account>>,
    },
    /// Whose each policy's chain is.
    PolicyChains {
        /// Who waits for it.
        answer: oneshot::Sender<BTreeMap<ChainName, (PolicyKey, Direction)>>,
    },
}

impl Inquiry {
    pub(super) fn answer(self, enforcer: &Enforcer) {
        // An error means that nobody waits any longer.
        match self {
            Inquiry::Flows { flows, answer } => {
                answer.send(flows.iter().map(|flow| account(enforcer, flow)).collect()).ok();
            }
            Inquiry::PolicyChains { answer } => {
                answer.send(enforcer.policy_chains()).ok();
            }
        }
    }
}

/// The next inquiry; never, once nobody asks any more.
pub(super) async fn next(inquiries: &mut Option<mpsc::Receiver<Inquiry>>) -> Inquiry {
    if let Some(receiver) = inquiries {
        match receiver.recv().await {
            Some(inquiry) => return inquiry,
            None => *inquiries = None,
        }
    }
    std::future::pending().await
}

/// What is known of a flow that was refused a moment ago.
fn account(enforcer: &Enforcer, flow: &Flow) -> Account {
    match flow.place {
        Place::Port(drop) => account_at_port(enforcer.cluster(), flow, drop),
        Place::Pod(_) | Place::ToNode => account_of_policies(enforcer, flow),
    }
}

/// What is known of a frame that was dropped at a port: whose the port is, the cluster knows; the addresses may be forged.
fn account_at_port(cluster: &Cluster, flow: &Flow, drop: PortDrop) -> Account {
    let packet = flow.packet;
    let port = drop.to.or(drop.from);
    let at = |port: Option<u32>, address| match port.and_then(|port| cluster.sandbox_at(port)) {
        Some(sandbox) => end_of(cluster, Some(&sandbox.key.pod), address),
        None => end(cluster, address),
    };
    let (source, destination) = (at(drop.from, packet.source), at(drop.to, packet.destination));
    let uid = port.and_then(|port| cluster.sandbox_at(port)?.uid.as_deref().map(str::to_owned));
    Account {
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
        },
        policies: Vec::new(),
        nearest: None,
        bridge_port: port.and_then(|port| cluster.port(port)).map(|port| port.name.to_string()),
        uid,
    }
}

fn protocol(payload: Payload) -> String {
    match payload {
        Payload::Transport(protocol, _) => protocol.to_string(),
        Payload::Icmp(..) | Payload::Other(_) | Payload::Arp | Payload::Ethernet(_) => payload.to_string(),
    }
}

fn account_of_policies(enforcer: &Enforcer, flow: &Flow) -> Account {
    let (cluster, plan) = (enforcer.cluster(), enforcer.plan());
    let direction = flow.place.direction();
    let packet = flow.packet;
    let own = match direction {
        Direction::Ingress => packet.destination,
        Direction::Egress => packet.source,
    };
    let port = packet.payload.port();
    let connection = compile::Flow { source: packet.source, destination: packet.destination, port };
    let subject = plan.isolated_at(direction, own).next();
    let isolating = subject.and_then(|subject| plan.guards().get(subject)?.policies(direction));
    let (reason, policies) = match (flow.place, subject) {
        (Place::ToNode, _) => (Reason::OwnNode, isolating),
        (Place::Pod(_), Some(Subject::Unknown(_))) => (Reason::PodNotYetKnown, None),
        (Place::Pod(_), Some(Subject::Pod(_))) if !plan.admits_in(cluster, direction, &connection) => {
            (Reason::NoRuleAllows, isolating)
        }
        (Place::Pod(_) | Place::Port(_), Some(Subject::Pod(_)) | None)
        | (Place::Port(_), Some(Subject::Unknown(_))) => (Reason::AllowedByNow, None),
    };
    let refused = Refused { direction, source: packet.source, destination: packet.destination, port };
    let near = policies.filter(|_| reason == Reason::NoRuleAllows);
    let uid = match subject {
        Some(Subject::Pod(pod)) => cluster.uid_of(pod),
        Some(Subject::Unknown(_)) | None => None,
    };
    Account {
        direction,
        source: end(cluster, packet.source),
        destination: end(cluster, packet.destination),
        protocol: protocol(packet.payload),
        port: port.map(|(_, number)| number),
        reason,
        policies: names(policies),
        nearest: near
            .and_then(|policies| nearest(cluster, policies, &refused))
            .map(|near| told(near, direction)),
        bridge_port: None,
        uid: uid.map(str::to_owned),
    }
}

fn names(policies: Option<&BTreeSet<PolicyKey>>) -> Vec<String> {
    policies.into_iter().flatten().map(ToString::to_string).collect()
}

fn told(nearest: Nearest, direction: Direction) -> flow::Nearest {
    flow::Nearest {
        policy: nearest.policy.to_string(),
        rule: format!("spec.{direction}[{}]", nearest.rule),
        differs: nearest.differs.word().to_owned(),
        note: nearest.note,
    }
}

fn end(cluster: &Cluster, address: IpAddr) -> End {
    let unknown = || {
        let mut there = cluster.unknown_sandboxes().filter(|(_, addresses)| addresses.contains(&address));
        there.next().map(|(sandbox, _)| &sandbox.pod)
    };
    let pod: Option<&PodKey> = cluster.pods_at(address).first().map(|(pod, _)| *pod).or_else(unknown);
    end_of(cluster, pod, address)
}

fn end_of(cluster: &Cluster, pod: Option<&PodKey>, address: IpAddr) -> End {
    End {
        address,
        namespace: pod.map(|pod| pod.namespace.to_string()),
        pod: pod.map(|pod| pod.name.to_string()),
        owner: pod
            .and_then(|pod| cluster.owner_of(pod))
            .map(|owner| flow::Owner { kind: owner.kind.to_string(), name: owner.name.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Packet;
    use crate::model::{Change, Labels, Owner, Pod, Policy, Sandbox, SandboxKey, Selector};
    use crate::net::Protocol;
    use crate::render::Options;
    use std::sync::Arc;
    use std::time::Duration;

    const WEB: [u8; 4] = [10, 244, 1, 10];
    const NEW: [u8; 4] = [10, 244, 1, 11];

    fn enforcer() -> Enforcer {
        let mut enforcer = Enforcer::new("node-a", Options::default());
        enforcer.apply(Change::Pod(Pod {
            key: PodKey::new("shop", "web"),
            uid: Some("uid-of-web".into()),
            node: Some("node-a".into()),
            labels: Labels::default(),
            ports: Vec::new(),
            owner: Some(Arc::new(Owner { kind: "ReplicaSet".into(), name: "web-5d9c".into() })),
            networked: true,
            finished: false,
            addresses: vec![WEB.into()],
        }));
        let key = SandboxKey::new(PodKey::new("shop", "new"), "a");
        let made = Duration::from_secs(1);
        enforcer.apply(Change::Sandbox(Sandbox {
            key,
            uid: None,
            addresses: vec![NEW.into()],
            made,
            devices: Vec::new(),
            hardware: None,
        }));
        enforcer.apply(Change::Policy(Policy {
            key: PolicyKey::new("shop", "closed"),
            uid: None,
            subject: Selector::everything(),
            ingress: Some(Vec::new()),
            egress: None,
            refusals: Vec::new(),
        }));
        enforcer
    }

    fn refused(enforcer: &Enforcer, place: Place, source: [u8; 4], destination: [u8; 4]) -> Account {
        let payload = Payload::Transport(Protocol::Udp, 53);
        let packet = Packet { source: source.into(), destination: destination.into(), payload };
        account(enforcer, &Flow { place, packet })
    }

    #[test]
    fn both_ends_and_the_policies_of_the_refuser_are_told() {
        let told = refused(&enforcer(), Place::Pod(Direction::Ingress), [192, 0, 2, 1], WEB);
        assert_eq!(
            (told.source.to_string(), told.destination.to_string()),
            ("192.0.2.1".into(), "shop/web".into())
        );
        let owner = told.destination.owner.map(|owner| owner.to_string());
        assert_eq!((told.source.owner, owner.as_deref()), (None, Some("ReplicaSet/web-5d9c")));
        assert_eq!((told.reason, told.policies), (Reason::NoRuleAllows, vec!["shop/closed".to_owned()]));
        assert_eq!(
            (told.protocol.as_str(), told.port, told.uid.as_deref()),
            ("UDP", Some(53), Some("uid-of-web"))
        );
    }

    #[test]
    fn pod_that_the_api_has_not_told_of_is_named_as_its_sandbox_says() {
        let told = refused(&enforcer(), Place::Pod(Direction::Egress), NEW, WEB);
        assert_eq!((told.source.to_string(), told.reason), ("shop/new".into(), Reason::PodNotYetKnown));
        assert_eq!((told.policies, told.nearest), (Vec::new(), None));
    }

    #[test]
    fn what_would_be_allowed_by_now_is_told_as_that_and_no_policy_is_blamed() {
        let mut enforcer = enforcer();
        enforcer.apply(Change::PolicyGone(PolicyKey::new("shop", "closed")));
        // It lingers until its pods are gone, as nobody has told of the namespace; so the pod goes, too.
        enforcer.apply(Change::PodGone(PodKey::new("shop", "web")));
        let told = refused(&enforcer, Place::Pod(Direction::Ingress), [192, 0, 2, 1], WEB);
        assert_eq!((told.reason, told.policies), (Reason::AllowedByNow, Vec::new()));
    }
}
