//! Frames that are forwarded by a kernel in memory.

use super::{Behind, Carried, Message, Ports, Sent, random_frame};
use crate::topology::Node;
use crate::worlds::Random;
use bridgewarden::apply::Fake;
use bridgewarden::net::Protocol;
use bridgewarden::netfilter::iptables::{Packet, Payload, State};
use bridgewarden::netfilter::nftables::{Frame, HookPoint, TableFamily, trace};
use bridgewarden::ownership::BRIDGE_TABLE;
use std::net::IpAddr;

/// A frame that is forwarded from one port to another.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// The port at which it arrives.
    pub from: u32,
    /// The port by which it is to leave.
    pub to: u32,
    /// The frame.
    pub sent: Sent,
    bytes: Vec<u8>,
}

impl Crossing {
    /// A random crossing, mostly between existing ports; the others may exist again later.
    pub fn random(random: &mut Random, ports: &Ports, node: Node) -> Crossing {
        let there: Vec<u32> = ports.behind.keys().copied().collect();
        let mut any = || {
            let is_there = !there.is_empty() && random.chance(95);
            if is_there { *random.pick(&there) } else { 1 + random.below(17) as u32 }
        };
        let (from, to) = (any(), any());
        let sent = random_frame(random, ports, node, from, to);
        Crossing { from, to, bytes: sent.bytes(), sent }
    }

    /// Whether the table of ports lets it pass from one port to the other.
    pub fn crosses(&self, kernel: &mut Fake) -> bool {
        crosses(kernel, [self.from, self.to], &self.bytes)
    }

    /// Whether it is for a pod's address, and for that pod only.
    pub fn is_to(&self, receiver: Option<&Behind>) -> bool {
        let (Some(Behind::Pod(pod)), Carried::Ip { destination, .. }) = (receiver, &self.sent.carries) else {
            return false;
        };
        self.sent.to[0] & 1 == 0 && pod.addresses.contains(destination)
    }

    /// The packet that iptables sees, if policies apply to the frame.
    pub fn packet(&self) -> Option<Packet> {
        let Carried::Ip { source, destination, message, .. } = &self.sent.carries else { return None };
        let (protocol, port) = match message {
            Message::Datagram => (Protocol::Udp, 7777),
            Message::Syn => (Protocol::Tcp, 80),
            Message::DhcpRequest
            | Message::Dhcpv6Request
            | Message::Igmp
            | Message::Echo
            | Message::Listener(_)
            | Message::Discovery { .. } => return None,
        };
        Some(bridged(*source, *destination, protocol, port))
    }
}

/// Whether a hook of a kernel's table of ports lets a frame pass from one port to another.
fn passes(kernel: &mut Fake, point: HookPoint, [from, to]: [u32; 2], bytes: &[u8]) -> bool {
    let output = if point == HookPoint::Forward { to } else { 0 };
    let frame = Frame { bytes: bytes.to_vec(), input: from, output, mark: 0 };
    trace(kernel.table_of_nft(TableFamily::Bridge, BRIDGE_TABLE).expect("a table"), point, &frame)
        .is_accepted()
}

/// Whether a kernel's table of ports lets a frame pass from one port to another.
///
/// # Panics
/// The kernel has no such table.
pub fn crosses(kernel: &mut Fake, ports: [u32; 2], bytes: &[u8]) -> bool {
    [HookPoint::Prerouting, HookPoint::Forward].into_iter().all(|point| passes(kernel, point, ports, bytes))
}

fn bridged(source: IpAddr, destination: IpAddr, protocol: Protocol, port: u16) -> Packet {
    Packet {
        source,
        destination,
        payload: Payload::Transport { protocol, port },
        state: State::New,
        translated: false,
        connection_mark: 0,
        bridged: true,
        in_interface: "cni0".into(),
        out_interface: "cni0".into(),
        source_is_local: false,
    }
}

/// Differences between what a kernel does with frames and what follows from the pods at the ports.
pub fn differing(kernel: &mut Fake, ports: &Ports, crossings: &[Crossing]) -> Vec<String> {
    let mut found = Vec::new();
    for crossing in crossings {
        let Crossing { from, to, sent, bytes } = crossing;
        let mut passes = |point| passes(kernel, point, [*from, *to], bytes);
        let gets_in = (passes(HookPoint::Prerouting), ports.lets_in(*from, sent));
        let gets_out = (passes(HookPoint::Forward), ports.lets_out(*from, *to, sent));
        for (way, (is, must_be)) in [("in", gets_in), ("out", gets_out)] {
            if is != must_be {
                let ends = [from, to].map(|port| ports.behind.get(port));
                found.push(format!("passes {way}: {is}, promised: {must_be}: {crossing:?} between {ends:?}"));
            }
        }
    }
    found
}
