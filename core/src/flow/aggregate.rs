//! Aggregates denied packets to flows. The time is passed in, and the memory is bounded.

use super::party::has_room;
use super::{DeniedPacket, FlowVerdict, Party};
use crate::model::Direction;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// For how long packets that look the same count as one flow.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many flows are tracked at a time.
pub const OPEN_FLOWS: usize = 4096;

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

/// Packets that look the same to policies and were denied at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeniedFlow {
    /// Where they were denied.
    pub place: Place,
    /// The fields by which policies distinguish packets.
    pub packet: DeniedPacket,
}

/// The result of noting a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The packet is the first of a flow, which has this number from now on.
    First(u64),
    /// The packet belongs to a known flow, and was counted.
    Again,
    /// Too many flows are tracked already, in total or of this party.
    TooMany,
}

/// A flow whose window has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The flow.
    pub flow: DeniedFlow,
    /// Its number.
    pub number: u64,
    /// How many packets it had.
    pub count: u64,
    /// When the last of them was noted.
    pub last: Duration,
}

/// The flows of the current windows.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    open: BTreeMap<DeniedFlow, Closed>,
    /// The flows in the order in which they began.
    order: VecDeque<(Duration, DeniedFlow)>,
    /// How many flows each party has.
    parties: BTreeMap<Party, usize>,
    next: u64,
}

impl Aggregate {
    /// Counts a packet of a flow. `now` is the time since any fixed moment, and never goes back.
    pub fn note(&mut self, flow: DeniedFlow, now: Duration) -> Noted {
        if let Some(open) = self.open.get_mut(&flow) {
            open.count += 1;
            open.last = now;
            return Noted::Again;
        }
        let own = self.parties.entry(flow.party()).or_default();
        if !has_room(*own, self.open.len(), OPEN_FLOWS) {
            return Noted::TooMany;
        }
        *own += 1;
        let number = self.next;
        self.next += 1;
        self.open.insert(flow, Closed { flow, number, count: 1, last: now });
        self.order.push_back((now, flow));
        Noted::First(number)
    }

    /// When the next flow's window ends.
    pub fn due(&self) -> Option<Duration> {
        self.order.front().map(|(began, _)| *began + WINDOW)
    }

    /// Ends the flows whose windows have passed.
    pub fn close(&mut self, now: Duration) -> Vec<Closed> {
        let mut closed = Vec::new();
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, flow)) = self.order.pop_front() else { break };
            if let Some(own) = self.parties.get_mut(&flow.party()) {
                *own -= 1;
            }
            closed.extend(self.open.remove(&flow));
        }
        self.parties.retain(|_, own| *own > 0);
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::DeniedPayload;
    use crate::net::Protocol;

    const SECOND: Duration = Duration::from_secs(1);

    fn flow(port: u16) -> DeniedFlow {
        let payload = DeniedPayload::Transport(Protocol::Tcp, port);
        let packet =
            DeniedPacket { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), payload };
        DeniedFlow { place: Place::Pod(Direction::Ingress), packet }
    }

    #[test]
    fn same_packet_within_the_window_is_one_flow_and_after_it_another() {
        let mut flows = Aggregate::default();
        assert_eq!(flows.note(flow(80), SECOND), Noted::First(0));
        assert_eq!(flows.note(flow(80), 3 * SECOND), Noted::Again);
        assert_eq!(flows.due(), Some(SECOND + WINDOW));
        assert_eq!(flows.close(WINDOW), []);
        assert_eq!(
            flows.close(SECOND + WINDOW),
            [Closed { flow: flow(80), number: 0, count: 2, last: 3 * SECOND }]
        );
        assert_eq!(flows.due(), None);
        assert_eq!(flows.note(flow(80), 2 * WINDOW), Noted::First(1));
    }

    #[test]
    fn other_port_or_place_is_another_flow() {
        let mut flows = Aggregate::default();
        flows.note(flow(80), SECOND);
        assert_eq!(flows.note(flow(81), SECOND), Noted::First(1));
        let egress = DeniedFlow { place: Place::Pod(Direction::Egress), ..flow(80) };
        assert_eq!(flows.note(egress, SECOND), Noted::First(2));
        assert_eq!(flows.note(DeniedFlow { place: Place::ToNode, ..flow(80) }, SECOND), Noted::First(3));
    }

    #[test]
    fn flood_of_flows_is_not_remembered_beyond_the_bound_and_leaves_room_for_others() {
        let mut flows = Aggregate::default();
        let ports = 0..u16::try_from(OPEN_FLOWS / 2).unwrap();
        assert!(ports.clone().all(|port| flows.note(flow(port), SECOND) != Noted::TooMany));
        assert_eq!(flows.note(flow(60_000), SECOND), Noted::TooMany);
        assert_eq!(flows.note(flow(7), SECOND), Noted::Again, "known ones are still counted");
        let others = |port| DeniedFlow { place: Place::Pod(Direction::Egress), ..flow(port) };
        assert_eq!(flows.note(others(80), SECOND), Noted::First(u64::from(ports.end)), "of another pod");
        assert_eq!(flows.close(SECOND + WINDOW).len(), OPEN_FLOWS / 2 + 1);
        assert_eq!(flows.note(flow(60_000), SECOND + WINDOW), Noted::First(u64::from(ports.end) + 1));
    }
}
