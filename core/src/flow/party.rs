//! The pod or port to which a flow is attributed, so that none can use up the memory that all share.

use super::{DeniedFlow, Place};
use crate::model::Direction;
use std::net::IpAddr;

/// The pod or port to which a flow is attributed: the pod whose policies denied it, never an address that its sender
/// may have forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The pod at an address.
    Address(IpAddr),
    /// The sender behind a port of the bridge, by the port's index; `None` for packets that did not arrive at a port.
    Port(Option<u32>),
}

impl DeniedFlow {
    /// The party to which this flow is attributed.
    pub fn party(&self) -> Party {
        match self.place {
            Place::Pod(Direction::Ingress) | Place::Audit(Direction::Ingress) => {
                Party::Address(self.packet.destination)
            }
            Place::Pod(Direction::Egress) | Place::Audit(Direction::Egress) | Place::ToNode => {
                Party::Address(self.packet.source)
            }
            Place::Port(drop) => Party::Port(drop.from),
        }
    }
}

/// Whether a party that has `own` of `all` kept things may have one more, if at most `most` are kept. A party may have
/// as many as there is free room: one party alone fills half, and a party that has none always finds room.
pub(super) fn has_room(own: usize, all: usize, most: usize) -> bool {
    own < most.saturating_sub(all)
}
