//! What is tried, and how it looks on the link.

use super::Neighbour;
use bridgewarden::flow::Reason;
use std::net::IpAddr;
use support::frame::{
    ARP, BROADCAST, Bytes, ICMPV6, IPV4, IPV6, TCP, UDP, VLAN, arp, ethernet, icmpv6, ip, ipv6, tagged, udp,
};

/// The port that everything is sent to.
pub(super) const PORT: u16 = 7777;
/// The VLAN of a tagged frame.
const VLAN_ID: u16 = 100;
/// An echo request of ICMPv6.
const ECHO_REQUEST: u8 = 128;
/// An ARP reply.
const REPLY: u16 = 2;

/// One way past a policy, or the honest datagram beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// A datagram of UDP from its own address.
    Own,
    /// A datagram of UDP to the receiver's link-local address, by an ordinary socket.
    LinkLocalUdp,
    /// A connection of TCP to the receiver's link-local address, by an ordinary socket.
    LinkLocalTcp,
    /// An echo request to the receiver's link-local address.
    LinkLocalEcho,
    /// A gratuitous ARP reply: the claimed address is at the sender's Ethernet address.
    ArpClaim,
    /// A datagram from the claimed address.
    ClaimedAddress,
    /// A datagram from the claimed address, in a frame from its Ethernet address.
    ClaimedAddressAndMac,
    /// A datagram from its own address, in a frame with a tag of priority, which the receiver's kernel takes off.
    TaggedPriority,
    /// The same with the tag of a VLAN.
    TaggedVlan,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Who sends.
    pub own: Neighbour,
    /// Whom it sends to.
    pub receiver: Neighbour,
    /// Whose address it claims.
    pub claimed: Neighbour,
}

impl Attempt {
    /// All of them.
    pub const ALL: [Attempt; 9] = [
        Attempt::Own,
        Attempt::LinkLocalUdp,
        Attempt::LinkLocalTcp,
        Attempt::LinkLocalEcho,
        Attempt::ArpClaim,
        Attempt::ClaimedAddress,
        Attempt::ClaimedAddressAndMac,
        Attempt::TaggedPriority,
        Attempt::TaggedVlan,
    ];

    /// Whether pods that nothing isolates may do it.
    pub fn is_honest(self) -> bool {
        match self {
            Attempt::Own | Attempt::LinkLocalUdp | Attempt::LinkLocalTcp | Attempt::LinkLocalEcho => true,
            Attempt::ArpClaim
            | Attempt::ClaimedAddress
            | Attempt::ClaimedAddressAndMac
            | Attempt::TaggedPriority
            | Attempt::TaggedVlan => false,
        }
    }

    /// How it is reported that it was refused: why, the protocol, and the label of the metric; none for that of iptables.
    pub fn report(self) -> (Reason, &'static str, Option<&'static str>) {
        match self {
            Attempt::Own => (Reason::NoRuleAllows, "UDP", None),
            Attempt::LinkLocalUdp => (Reason::LinkLocalUnderIsolation, "UDP", Some("link-local")),
            Attempt::LinkLocalTcp => (Reason::LinkLocalUnderIsolation, "TCP", Some("link-local")),
            Attempt::LinkLocalEcho => (Reason::LinkLocalUnderIsolation, "ICMP 128/0", Some("link-local")),
            Attempt::ArpClaim => (Reason::SpoofedSource, "ARP", Some("spoofed")),
            Attempt::ClaimedAddress | Attempt::ClaimedAddressAndMac => {
                (Reason::SpoofedSource, "UDP", Some("spoofed"))
            }
            Attempt::TaggedPriority | Attempt::TaggedVlan => {
                // The frame inside the tag is reported.
                (Reason::ProtocolUnderIsolation, "UDP", Some("protocol"))
            }
        }
    }

    /// What its packet carries, so that it is known where it arrives.
    pub(super) fn token(self) -> Bytes {
        format!("bridgewarden-e2e {self:?}.").into_bytes()
    }

    /// The frame; none for what an ordinary socket sends.
    pub(super) fn frame(self, link: &Link) -> Option<Bytes> {
        let Link { own, receiver, claimed } = link;
        let datagram = |from: IpAddr| {
            let to = receiver.v4.into();
            ip(from, to, UDP, &udp(from, to, [PORT, PORT], &self.token()))
        };
        let honest = || ethernet(receiver.mac, own.mac, IPV4, &datagram(own.v4.into()));
        Some(match self {
            Attempt::LinkLocalUdp | Attempt::LinkLocalTcp => return None,
            Attempt::Own => honest(),
            Attempt::LinkLocalEcho => {
                let (from, to) = (own.link_local, receiver.link_local);
                let body = [&[0, 1, 0, 1], &self.token()[..]].concat();
                let message = icmpv6(from, to, [ECHO_REQUEST, 0], &body);
                ethernet(receiver.mac, own.mac, IPV6, &ipv6(from, to, ICMPV6, 64, &message))
            }
            Attempt::ArpClaim => {
                let message = arp(REPLY, (own.mac, claimed.v4), (BROADCAST, claimed.v4));
                ethernet(BROADCAST, own.mac, ARP, &message)
            }
            Attempt::ClaimedAddress => ethernet(receiver.mac, own.mac, IPV4, &datagram(claimed.v4.into())),
            Attempt::ClaimedAddressAndMac => {
                ethernet(receiver.mac, claimed.mac, IPV4, &datagram(claimed.v4.into()))
            }
            Attempt::TaggedPriority => tagged(&honest(), VLAN, 0),
            Attempt::TaggedVlan => tagged(&honest(), VLAN, VLAN_ID),
        })
    }

    /// Whether a frame that came to the receiver is this.
    pub fn is_in(self, frame: &[u8], link: &Link) -> bool {
        let at = |place: usize, bytes: &[u8]| frame.get(place..place + bytes.len()) == Some(bytes);
        match self {
            // The claim itself, and not an answer of its owner.
            Attempt::ArpClaim => {
                at(12, &ARP.to_be_bytes()) && at(22, &link.own.mac) && at(28, &link.claimed.v4.octets())
            }
            // A connection begins without a word of its own.
            Attempt::LinkLocalTcp => {
                at(12, &IPV6.to_be_bytes())
                    && at(20, &[TCP])
                    && at(22, &link.own.link_local.octets())
                    && at(56, &PORT.to_be_bytes())
            }
            Attempt::Own
            | Attempt::LinkLocalUdp
            | Attempt::LinkLocalEcho
            | Attempt::ClaimedAddress
            | Attempt::ClaimedAddressAndMac
            | Attempt::TaggedPriority
            | Attempt::TaggedVlan => {
                let token = self.token();
                // What the receiver itself sends, such as an error that quotes it, is seen as well.
                !at(6, &link.receiver.mac) && frame.windows(token.len()).any(|window| window == token)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use support::frame::{SYN, tcp};

    fn neighbour(number: u8) -> Neighbour {
        Neighbour {
            mac: [2, 0, 0, 0, 0, number],
            v4: Ipv4Addr::new(10, 244, 1, number),
            link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number.into()),
        }
    }

    #[test]
    fn each_frame_is_known_where_it_arrives_and_for_no_other() {
        let link = Link { own: neighbour(1), receiver: neighbour(2), claimed: neighbour(3) };
        let (from, to) = (link.own.link_local, link.receiver.link_local);
        for sent in Attempt::ALL {
            let frame = sent.frame(&link).unwrap_or_else(|| {
                let (protocol, segment) = if sent == Attempt::LinkLocalTcp {
                    (TCP, tcp(from.into(), to.into(), [40_000, PORT], [1, 0], SYN, b""))
                } else {
                    (UDP, udp(from.into(), to.into(), [40_000, PORT], &sent.token()))
                };
                ethernet(link.receiver.mac, link.own.mac, IPV6, &ipv6(from, to, protocol, 64, &segment))
            });
            for attempt in Attempt::ALL {
                assert_eq!(attempt.is_in(&frame, &link), attempt == sent, "{attempt:?} in {sent:?}");
            }
        }
        let answer = arp(REPLY, (link.claimed.mac, link.claimed.v4), (link.own.mac, link.own.v4));
        let answer = ethernet(link.own.mac, link.claimed.mac, ARP, &answer);
        assert!(!Attempt::ArpClaim.is_in(&answer, &link), "its owner's own word");
    }
}
