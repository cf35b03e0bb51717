//! The pod or port that a flow belongs to: none can use up the room that all share.

use super::{DeniedFlow, Place};
use crate::model::Direction;
use std::net::IpAddr;

/// Who causes a flow or whom it is for: the pod whose policies refused it. Never what its sender may claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The pod at an address.
    Address(IpAddr),
    /// The sender behind a port of the bridge, by its index; `None` for packets that did not come by one.
    Port(Option<u32>),
}

impl DeniedFlow {
    /// The party that this flow belongs to.
    pub fn party(&self) -> Party {
        match self.place {
            Place::Pod(Direction::Ingress) => Party::Address(self.packet.destination),
            Place::Pod(Direction::Egress) | Place::ToNode => Party::Address(self.packet.source),
            Place::Port(drop) => Party::Port(drop.from),
        }
    }
}

/// Whether a party that has `own` of `all` things kept may have one more, if at most `most` are kept. It may have as many as there
/// is room left: one alone fills half, and a party that has none always finds room.
pub(super) fn has_room(own: usize, all: usize, most: usize) -> bool {
    own < most.saturating_sub(all)
}
