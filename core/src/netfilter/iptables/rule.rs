//! An iptables rule, typed: what it matches and what it does, in the order in which `iptables-save` prints it.

use crate::net::{IpNet, PortRange, Protocol};
use crate::netfilter::{ChainName, Comment, SetName};

/// One rule of a chain.
///
/// The fixed fields are the kernel's own header fields and print first; `matches` follow in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// `-s`: the source prefix.
    pub source: Option<IpNet>,
    /// `-d`: the destination prefix.
    pub destination: Option<IpNet>,
    /// `-i`: the device the packet came in by; the bridge itself for bridged packets.
    pub in_interface: Option<Box<str>>,
    /// `-o`: the device the packet leaves by; the bridge itself for packets to a port of it.
    pub out_interface: Option<Box<str>>,
    /// `-p`: the protocol.
    pub protocol: Option<Layer4>,
    /// The extension matches; all must hold.
    pub matches: Vec<Match>,
    /// What happens to a packet that matched everything.
    pub target: Target,
}

impl Rule {
    /// A rule that does `target` to every packet.
    pub fn new(target: Target) -> Rule {
        Rule {
            source: None,
            destination: None,
            in_interface: None,
            out_interface: None,
            protocol: None,
            matches: Vec::new(),
            target,
        }
    }

    /// Also demands this source.
    pub fn source(mut self, source: IpNet) -> Rule {
        self.source = Some(source);
        self
    }

    /// Also demands this destination.
    pub fn destination(mut self, destination: IpNet) -> Rule {
        self.destination = Some(destination);
        self
    }

    /// Also demands this input device.
    pub fn in_interface(mut self, name: &str) -> Rule {
        self.in_interface = Some(name.into());
        self
    }

    /// Also demands this output device.
    pub fn out_interface(mut self, name: &str) -> Rule {
        self.out_interface = Some(name.into());
        self
    }

    /// Also demands this protocol.
    pub fn protocol(mut self, protocol: Layer4) -> Rule {
        self.protocol = Some(protocol);
        self
    }

    /// Also demands this match.
    pub fn matching(mut self, condition: Match) -> Rule {
        self.matches.push(condition);
        self
    }

    /// Adds a comment.
    pub fn comment(self, text: &str) -> Rule {
        self.matching(Match::Comment(Comment::new(text)))
    }
}

/// A protocol as `-p` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer4 {
    /// One that carries ports.
    Transport(Protocol),
    /// ICMPv6 (`ipv6-icmp`).
    Icmpv6,
    /// IGMP.
    Igmp,
}

/// A connection-tracking state (`-m conntrack --ctstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No valid place in any connection.
    Invalid,
    /// Opens a connection.
    New,
    /// A new connection that an existing one announced.
    Related,
    /// Part of a connection seen in both directions.
    Established,
    /// Not tracked, as IPv6 neighbour discovery is.
    Untracked,
    /// Dialled at another address than it goes to. Stands beside the others.
    Dnat,
}

/// Which addresses of a packet a set is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetSide {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The destination address and port.
    DestinationPort,
}

/// An extension match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `-m conntrack --ctstate`: the connection is in one of these states.
    ConnectionState(Vec<State>),
    /// `-m set --match-set`: the packet's address is in the set.
    Set(SetName, SetSide),
    /// `-m set ! --match-set`: the packet's address is not in the set.
    NotInSet(SetName, SetSide),
    /// `-m physdev [!] --physdev-is-bridged`: the packet is bridged, not routed.
    Bridged(bool),
    /// `-m mark --mark value/mask`.
    Mark {
        /// The bits wanted.
        value: u32,
        /// The bits looked at.
        mask: u32,
    },
    /// `-m connmark --mark value/mask`: the connection's own mark, not the packet's.
    ConnectionMark {
        /// The bits wanted.
        value: u32,
        /// The bits looked at.
        mask: u32,
    },
    /// `-m addrtype [!] --src-type LOCAL`: the source is an address of this host.
    SourceIsLocal(bool),
    /// `-m tcp|udp|sctp --dport`, by the rule's protocol.
    DestinationPort(PortRange),
    /// `-m multiport --dports`: at most 15 ports, a range counting as two.
    DestinationPorts(Vec<PortRange>),
    /// `-m icmp6 --icmpv6-type`: the type by number.
    Icmpv6Type(u8),
    /// `-m limit --limit n/sec`.
    LimitPerSecond(u32),
    /// `-m comment --comment`.
    Comment(Comment),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `-j CHAIN`: goes on in another chain.
    Jump(ChainName),
    /// `-g CHAIN`: the same, but from there back to where this chain was entered from: rules behind this one are not asked.
    Goto(ChainName),
    /// `-j RETURN`: goes back to the calling chain, or to the policy of a built-in one.
    Return,
    /// `-j ACCEPT`.
    Accept,
    /// `-j DROP`.
    Drop,
    /// `-j REJECT --reject-with`.
    Reject(RejectWith),
    /// `-j MARK --set-xmark value/mask`: clears the bits of `mask`, sets those of `value`.
    SetMark {
        /// The bits set.
        value: u32,
        /// The bits cleared first.
        mask: u32,
    },
    /// `-j NFLOG --nflog-prefix --nflog-group`: hands a copy to a reader and goes on.
    Log {
        /// What the reader is told with the copy: a word of at most 63 letters, digits, `-` and `_`.
        prefix: Box<str>,
        /// The netlink group.
        group: u16,
    },
}

/// How a refusal is told to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectWith {
    /// `tcp-reset`.
    TcpReset,
    /// `icmp-port-unreachable`.
    IcmpPortUnreachable,
    /// `icmp6-port-unreachable`.
    Icmp6PortUnreachable,
}
