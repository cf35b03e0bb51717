//! Binds ports of the bridge to pods: which pod is behind each port, and which frames may pass it in and out.

use super::{Isolation, Subject, UnknownPods};
use crate::model::{Cluster, Direction, Hardware, Labels, NamespaceName};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The label by which a namespace exempts its pods from binding, with the value `off`. It is on namespaces, which
/// administrators control, and not on pods.
pub const BIND_ADDRESSES_LABEL: &str = "bridgewarden.io/bind-addresses";

/// Which frames may pass a port of the bridge, in and out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortBinding {
    /// A known pod is behind it, which sends only from its own addresses.
    Bound(Bound),
    /// A pod may be behind it, but it is not known which. It may send only from addresses of local pods whose port is
    /// not known.
    Unbound,
}

/// A port with a known pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The pod or sandbox behind it.
    pub subject: Subject,
    /// The addresses from which it may send, and to which frames are sent.
    pub addresses: BTreeSet<IpAddr>,
    /// The Ethernet address from which it may send; `None` if the CNI result does not state it.
    pub hardware: Option<Hardware>,
    /// Whether it is isolated for egress: from the port, only packets that policies evaluate and what a link needs are
    /// accepted.
    pub egress_isolated: bool,
    /// Whether it is isolated for ingress: to the port, only packets that policies evaluate and what a link needs are
    /// accepted.
    pub ingress_isolated: bool,
}

/// The bridge accepts no frame from this address (is_valid_ether_addr), so a port that has it sends none.
const NEVER_A_SOURCE: Hardware = [0xff; 6];

impl Bound {
    /// Whether the other binding of this port allows other source addresses. The iptables rules rely on those; they do not
    /// depend on a port's isolation, which only drops frames that they never see.
    pub fn differs_in_sources(&self, other: &Bound) -> bool {
        self.addresses != other.addresses || self.hardware != other.hardware
    }

    /// What both this binding and another one of the same port accept, which is no more than either.
    pub fn both(&self, other: &Bound) -> Bound {
        let hardware = match (self.hardware, other.hardware) {
            (Some(own), Some(others)) if own != others => Some(NEVER_A_SOURCE),
            (own, others) => others.or(own),
        };
        Bound {
            subject: other.subject.clone(),
            addresses: self.addresses.intersection(&other.addresses).copied().collect(),
            hardware,
            egress_isolated: self.egress_isolated || other.egress_isolated,
            ingress_isolated: self.ingress_isolated || other.ingress_isolated,
        }
    }

    /// The same pod, isolated, with those of its addresses for which `keeps` returns true.
    pub fn closed(&self, keeps: impl Fn(IpAddr) -> bool) -> Bound {
        Bound {
            addresses: self.addresses.iter().copied().filter(|address| keeps(*address)).collect(),
            egress_isolated: true,
            ingress_isolated: true,
            ..self.clone()
        }
    }
}

/// The binding of a port; `None` for a port that was removed, that leads to no pod, or whose pod is exempt.
/// `isolation_of` returns the isolation of a subject.
pub fn port_binding<'a>(
    cluster: &Cluster,
    port: u32,
    unknown_pods: UnknownPods,
    isolation_of: impl Fn(&Subject) -> Option<&'a Isolation>,
) -> Option<PortBinding> {
    cluster.port(port).filter(|port| port.is_veth)?;
    let Some(sandbox) = cluster.sandbox_at(port) else { return Some(PortBinding::Unbound) };
    if is_exempt(cluster, &sandbox.key.pod.namespace) {
        return None;
    }
    let subject = match cluster.pod_of_sandbox(sandbox) {
        Some(pod) => Subject::Pod(pod.clone()),
        None => Subject::Unknown(sandbox.key.clone()),
    };
    // A pod that lost all its addresses to later sandboxes is not isolated, but its process may still run.
    let closed = match &subject {
        Subject::Pod(pod) => cluster.pod(pod).is_none(),
        Subject::Unknown(_) => unknown_pods == UnknownPods::Reject,
    };
    let isolation = isolation_of(&subject);
    let isolated = |direction| closed || isolation.is_some_and(|isolation| isolation.is_isolated(direction));
    Some(PortBinding::Bound(Bound {
        addresses: cluster.addresses_at(port).into_iter().collect(),
        hardware: sandbox.hardware,
        egress_isolated: isolated(Direction::Egress),
        ingress_isolated: isolated(Direction::Ingress),
        subject,
    }))
}

fn is_exempt(cluster: &Cluster, namespace: &NamespaceName) -> bool {
    let says_off = |labels: &Labels| labels.get(BIND_ADDRESSES_LABEL) == Some("off");
    cluster.namespace_labels(namespace).is_some_and(says_off)
}
