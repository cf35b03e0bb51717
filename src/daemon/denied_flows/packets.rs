//! Reads denied packets from the kernel's NFLOG group.

use crate::apply::KernelError;
use crate::flow::{DeniedFlow, DeniedPacket, Place, PortDrop, PortReason};
use crate::kernel::{Logged, PacketLog};
use crate::model::Direction;
use crate::ownership::{
    AUDITED_EGRESS, AUDITED_INGRESS, DENIED_DISCOVERY, DENIED_EGRESS, DENIED_GROUP, DENIED_INGRESS,
    DENIED_LINK_LOCAL, DENIED_PROTOCOL, DENIED_RESERVED, DENIED_SPOOFED, DENIED_TO_NODE, DENIED_TUNNEL,
    DENIED_UNASSIGNED,
};
use tokio::sync::mpsc;

/// How many batches may be queued.
const BATCHES: usize = 4;

/// Packets read at once.
pub(super) struct PacketBatch {
    pub(super) flows: Vec<DeniedFlow>,
    /// How many packets the kernel could not keep for the agent.
    pub(super) lost: u64,
}

/// Reads in its own thread, until the kernel fails or the receiver is dropped. If the receiver is slow, the kernel drops messages:
/// its queue is bounded, and it numbers its messages.
pub(super) fn read(mut log: PacketLog) -> mpsc::Receiver<Result<PacketBatch, KernelError>> {
    let (outbox, inbox) = mpsc::channel(BATCHES);
    std::thread::spawn(move || {
        loop {
            let mut flows = Vec::new();
            let read = log.read(|copy| flows.extend(flow_of(copy)));
            let failed = read.is_err();
            let sent = outbox.blocking_send(read.map(|lost| PacketBatch { flows, lost }));
            if failed || sent.is_err() {
                return;
            }
        }
    });
    inbox
}

/// The flow of a packet, if one of our rules copied it.
fn flow_of(copy: Logged<'_>) -> Option<DeniedFlow> {
    let place = match copy.prefix {
        DENIED_INGRESS => Place::Pod(Direction::Ingress),
        DENIED_EGRESS => Place::Pod(Direction::Egress),
        AUDITED_INGRESS => Place::Audit(Direction::Ingress),
        AUDITED_EGRESS => Place::Audit(Direction::Egress),
        DENIED_TO_NODE => Place::ToNode,
        prefix => {
            let why = port_reason(prefix)?;
            // The bridge handed it to the port's own device.
            let from = if why == PortReason::Reserved { copy.from_device } else { copy.from_port };
            let by_sender = why == PortReason::Tunnel;
            let forwarded = !by_sender && (copy.to_port.is_some() || from.is_none());
            let direction = if forwarded { Direction::Ingress } else { Direction::Egress };
            // A frame to a group is denied for each member: that is one flow, not one for each.
            let to = copy.to_port.filter(|_| why != PortReason::Group);
            Place::Port(PortDrop { why, direction, from, to })
        }
    };
    let packet = match place {
        Place::Pod(_) | Place::Audit(_) | Place::ToNode => DeniedPacket::read(copy.bytes),
        Place::Port(_) => DeniedPacket::of_frame(copy.kind, copy.bytes),
    };
    Some(DeniedFlow { place, packet: packet? })
}

/// The reason that a rule's prefix states, if the rule is about ports.
fn port_reason(prefix: &str) -> Option<PortReason> {
    Some(match prefix {
        DENIED_SPOOFED => PortReason::Spoofed,
        DENIED_DISCOVERY => PortReason::Discovery,
        DENIED_UNASSIGNED => PortReason::Unassigned,
        DENIED_LINK_LOCAL => PortReason::LinkLocal,
        DENIED_GROUP => PortReason::Group,
        DENIED_PROTOCOL => PortReason::Protocol,
        DENIED_TUNNEL => PortReason::Tunnel,
        DENIED_RESERVED => PortReason::Reserved,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_that_our_rules_copied_are_flows() {
        let mut bytes = [0; 24];
        (bytes[0], bytes[9]) = (0x45, 6);
        let copy = |prefix, bytes| Logged {
            prefix,
            kind: 0x0800,
            from_device: Some(3),
            from_port: Some(7),
            to_port: None,
            bytes,
        };
        let place = |prefix| flow_of(copy(prefix, &bytes)).map(|flow| flow.place);
        assert_eq!(place(AUDITED_INGRESS), Some(Place::Audit(Direction::Ingress)));
        assert_eq!(place(AUDITED_EGRESS), Some(Place::Audit(Direction::Egress)));
        assert_eq!(place(DENIED_INGRESS), Some(Place::Pod(Direction::Ingress)));
        assert_eq!(place(DENIED_EGRESS), Some(Place::Pod(Direction::Egress)));
        assert_eq!((place(DENIED_TO_NODE), place("stranger")), (Some(Place::ToNode), None));
        let spoofed =
            PortDrop { why: PortReason::Spoofed, direction: Direction::Egress, from: Some(7), to: None };
        assert_eq!(place(DENIED_SPOOFED), Some(Place::Port(spoofed)));
        let reserved = PortDrop { why: PortReason::Reserved, from: Some(3), ..spoofed };
        assert_eq!(place(DENIED_RESERVED), Some(Place::Port(reserved)));
        assert_eq!(flow_of(copy(DENIED_INGRESS, &bytes[..4])), None);
    }
}
