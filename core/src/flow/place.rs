//! The places at which packets are denied, and the reasons at a port of the bridge.

use super::FlowVerdict;
use crate::model::Direction;

/// Where a packet was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// By the rules that isolate a pod in this direction.
    Pod(Direction),
    /// Nowhere: the rules of audited policies would have denied it for a pod in this direction.
    Audit(Direction),
    /// On the way from a pod to its own node, with `--pod-to-node=drop`.
    ToNode,
    /// At a port of the bridge, or because no pod of this node has the destination.
    Port(PortDrop),
}

/// A frame that was dropped at a port of the bridge, or a packet to an address on the bridge that no pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortDrop {
    /// The reason.
    pub why: PortReason,
    /// `Egress` if its sender may not send it, `Ingress` if its receiver may not receive it.
    pub direction: Direction,
    /// The index of the port at which it arrived, if it came from the bridge.
    pub from: Option<u32>,
    /// The index of the port to which it would have been sent, if the bridge had chosen a single one.
    pub to: Option<u32>,
}

/// Why a frame is dropped at a port. Each reason has a log prefix in `ownership`, rules in `render`, a `Reason` for
/// reports, and a place in `account`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortReason {
    /// Its source is not an address of the pod at the port where it arrived.
    Spoofed,
    /// In neighbour discovery, it claims an address that the pod at its port does not have, or the role of a router.
    Discovery,
    /// Its destination is not an address of the pod to which it would have been sent.
    Unassigned,
    /// It is from or to a link-local address of an isolated pod.
    LinkLocal,
    /// It is a broadcast or multicast from or to an isolated pod.
    Group,
    /// It is from or to an isolated pod and of a protocol that policies cannot name, or it has a VLAN tag.
    Protocol,
    /// It carries a packet to a tunnel of the nodes.
    Tunnel,
    /// It carries a packet to an Ethernet address that bridges keep for themselves.
    Reserved,
}

impl Place {
    /// The direction, seen from the pod.
    pub fn direction(self) -> Direction {
        match self {
            Place::Pod(direction) | Place::Audit(direction) => direction,
            Place::ToNode => Direction::Egress,
            Place::Port(drop) => drop.direction,
        }
    }

    /// Whether it was denied there.
    pub fn verdict(self) -> FlowVerdict {
        match self {
            Place::Audit(_) => FlowVerdict::WouldBeDenied,
            Place::Pod(_) | Place::ToNode | Place::Port(_) => FlowVerdict::Denied,
        }
    }
}
