//! Which port of the bridge is whose, and what may come and go by it.

use super::{Isolation, Subject, UnknownPods};
use crate::model::{Cluster, Direction, Hardware, Labels, NamespaceName};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// By this label a namespace takes its pods out of binding: `off`. Namespaces are the administrator's, pods are not.
pub const BIND_ADDRESSES_LABEL: &str = "bridgewarden.io/bind-addresses";

/// What may come and go by a port of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortBinding {
    /// A pod is behind it, and sends from its own addresses alone.
    Bound(Bound),
    /// A pod may be behind it, and it is not known which: it sends from addresses of local pods whose port is not known.
    Unbound,
}

/// A port with a known pod behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Who is behind it.
    pub subject: Subject,
    /// The addresses that it may send from, and that it is sent to.
    pub addresses: BTreeSet<IpAddr>,
    /// The Ethernet address that it may send from; `None` if the CNI result does not say it.
    pub hardware: Option<Hardware>,
    /// Whether it is isolated for egress: only what policies judge, and what a link needs, may come by the port.
    pub egress_isolated: bool,
    /// Whether it is isolated for ingress: only what policies judge, and what a link needs, may go by the port.
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

    /// What both this and another binding of the same port let through: neither opens more.
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

    /// The same pod, isolated, with those of its addresses that `keeps` takes.
    pub fn closed(&self, keeps: impl Fn(IpAddr) -> bool) -> Bound {
        Bound {
            addresses: self.addresses.iter().copied().filter(|address| keeps(*address)).collect(),
            egress_isolated: true,
            ingress_isolated: true,
            ..self.clone()
        }
    }
}

/// Works out the binding of a port; `None` for a port that is gone, that leads to no pod, or whose pod is exempt.
/// `isolation_of` gives what isolates a subject, if anything does.
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
    // A pod that lost all its addresses to later sandboxes is not isolated, but its process may still be there.
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
