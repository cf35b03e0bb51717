//! The attempts, and the frames that they send.

use super::Neighbour;
use bridgewarden::flow::Reason;
use std::net::IpAddr;
use support::frame::{
    ARP, BROADCAST, Bytes, ICMPV6, IPV4, IPV6, TCP, UDP, VLAN, arp, ethernet, icmpv6, ip, ipv6, tagged, udp,
};

/// The destination port of all attempts.
pub(super) const PORT: u16 = 7777;
/// The VLAN of a tagged frame.
const VLAN_ID: u16 = 100;
/// An echo request of ICMPv6.
const ECHO_REQUEST: u8 = 128;
/// An ARP reply.
const REPLY: u16 = 2;

/// One way past a policy, or the legitimate datagram for comparison.
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
    /// A gratuitous ARP reply: claims that the address is at the sender's Ethernet address.
    ArpClaim,
    /// A datagram from the claimed address.
    ClaimedAddress,
    /// A datagram from the claimed address, in a frame from its Ethernet address.
    ClaimedAddressAndMac,
    /// A datagram from its own address, in a frame with a priority tag, which the receiver's kernel removes.
    TaggedPriority,
    /// The same with the tag of a VLAN.
    TaggedVlan,
}

/// The pods that take part.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The sender.
    pub own: Neighbour,
    /// The receiver.
    pub receiver: Neighbour,
    /// The pod whose address is claimed.
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

    /// Whether pods that nothing isolates may do this.
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

    /// How its denial is reported: the reason, the protocol, and the label of the metric; no label if iptables denies
    /// it.
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

    /// The payload by which it is recognised where it arrives.
    pub(super) fn token(self) -> Bytes {
        format!("bridgewarden-e2e {self:?}.").into_bytes()
    }

    /// The frame; `None` for an attempt by an ordinary socket.
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

    /// Whether a frame that the receiver saw is this attempt.
    pub fn is_in(self, frame: &[u8], link: &Link) -> bool {
        let at = |place: usize, bytes: &[u8]| frame.get(place..place + bytes.len()) == Some(bytes);
        match self {
            // The claim itself, not an answer of the address's owner.
            Attempt::ArpClaim => {
                at(12, &ARP.to_be_bytes()) && at(22, &link.own.mac) && at(28, &link.claimed.v4.octets())
            }
            // The first segment of a connection carries no payload.
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
                // Frames that the receiver itself sends are seen, too, such as an error that quotes the attempt.
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
