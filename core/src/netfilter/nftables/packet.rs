//! Frames and packets as a hook sees them, with what the kernel knows about them.

use super::{state, status};
use crate::netfilter::iptables;
use crate::netfilter::iptables::{Payload, State};
use std::net::IpAddr;

/// A frame as a hook of a bridge sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes from the Ethernet header on, with the VLAN tags with which it arrived.
    pub bytes: Vec<u8>,
    /// The index of the port at which it arrived.
    pub input: u32,
    /// The index of the port by which it leaves; 0 before that is known.
    pub output: u32,
    /// The packet mark.
    pub mark: u32,
}

/// A packet as a hook of family inet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its bytes from the IP header on.
    pub bytes: Vec<u8>,
    /// The device by which it arrived: the bridge itself for packets from a bridge port.
    pub input: Device,
    /// The device by which it leaves.
    pub output: Device,
    /// The packet mark.
    pub mark: u32,
    /// What conntrack knows about it.
    pub connection: TrackedConnection,
    /// Whether its source is an address of this host.
    pub source_is_local: bool,
}

/// A network device. The default is no device: index 0 and an empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Box<str>,
}

/// What conntrack knows about a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedConnection {
    /// One of [`state`]. An invalid or untracked packet has no connection, and so no status and no mark.
    pub state: u32,
    /// Bits of [`status`].
    pub status: u32,
    /// The connection mark.
    pub mark: u32,
}

const SOURCE_PORT: u16 = 40_000;

/// The same packet as one that iptables sees. Its devices have no index.
impl From<&iptables::Packet> for Packet {
    fn from(packet: &iptables::Packet) -> Packet {
        let (protocol, payload) = match packet.payload {
            Payload::Transport { protocol, port } => {
                let ports = [SOURCE_PORT.to_be_bytes(), port.to_be_bytes()].concat();
                (protocol.number(), ports)
            }
            Payload::Icmpv6(kind) => (58, vec![kind]),
            Payload::Other(protocol) => (protocol, Vec::new()),
        };
        let mut bytes = match (packet.source, packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
                header.extend([source.octets(), destination.octets()].concat());
                header
            }
            (source, destination) => {
                let octets = |address| match address {
                    IpAddr::V4(address) => std::net::Ipv4Addr::to_ipv6_mapped(&address).octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                let mut header = vec![0x60, 0, 0, 0, 0, 20, protocol, 64];
                header.extend([octets(source), octets(destination)].concat());
                header
            }
        };
        let end = bytes.len() + 20;
        bytes.extend(payload);
        bytes.resize(end, 0);
        let device = |name: &str| Device { index: 0, name: name.into() };
        let state = match packet.state {
            State::Invalid => state::INVALID,
            State::New | State::Dnat => state::NEW,
            State::Related => state::RELATED,
            State::Established => state::ESTABLISHED,
            State::Untracked => state::UNTRACKED,
        };
        let is_translated = packet.translated || packet.state == State::Dnat;
        let status = if is_translated { status::DESTINATION_TRANSLATED } else { 0 };
        Packet {
            bytes,
            input: device(&packet.in_interface),
            output: device(&packet.out_interface),
            mark: 0,
            connection: TrackedConnection { state, status, mark: packet.connection_mark },
            source_is_local: packet.source_is_local,
        }
    }
}
