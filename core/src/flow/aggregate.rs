//! Aggregates denied packets to flows. The time is passed in, and the memory is bounded.

use super::party::has_room;
use super::{DeniedPacket, Party, Place};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// For how long packets that look the same count as one flow.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many flows are tracked at a time.
pub const OPEN_FLOWS: usize = 4096;

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
    use crate::model::Direction;
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
