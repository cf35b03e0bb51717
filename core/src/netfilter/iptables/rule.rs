//! A typed iptables rule: its matches and its target, in the order in which `iptables-save` prints them. A new match is
//! a variant of [`Match`]; the compiler then requires its text, its parser and its meaning in the tracer.

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
    /// `-i`: the device by which the packet arrived; the bridge itself for bridged packets.
    pub in_interface: Option<Box<str>>,
    /// `-o`: the device by which the packet leaves; the bridge itself for packets to one of its ports.
    pub out_interface: Option<Box<str>>,
    /// `-p`: the protocol.
    pub protocol: Option<Layer4>,
    /// The extension matches; all of them must match.
    pub matches: Vec<Match>,
    /// What happens to a packet that matches the whole rule.
    pub target: Target,
}

/// One condition of a rule, which prints as `iptables-save` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'r> {
    /// `-s`.
    Source(IpNet),
    /// `-d`.
    Destination(IpNet),
    /// `-i`.
    InInterface(&'r str),
    /// `-o`.
    OutInterface(&'r str),
    /// `-p`.
    Protocol(Layer4),
    /// An extension match, and the protocol of its rule.
    Match(&'r Match, Option<Layer4>),
}

impl Rule {
    /// Its conditions, in the order in which they are evaluated and printed.
    pub fn conditions(&self) -> impl Iterator<Item = Condition<'_>> {
        let fixed = [
            self.source.map(Condition::Source),
            self.destination.map(Condition::Destination),
            self.in_interface.as_deref().map(Condition::InInterface),
            self.out_interface.as_deref().map(Condition::OutInterface),
            self.protocol.map(Condition::Protocol),
        ];
        let matches = self.matches.iter().map(|condition| Condition::Match(condition, self.protocol));
        fixed.into_iter().flatten().chain(matches)
    }

    /// A rule that applies `target` to every packet.
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

    /// Also matches this source.
    pub fn source(mut self, source: IpNet) -> Rule {
        self.source = Some(source);
        self
    }

    /// Also matches this destination.
    pub fn destination(mut self, destination: IpNet) -> Rule {
        self.destination = Some(destination);
        self
    }

    /// Also matches this input device.
    pub fn in_interface(mut self, name: &str) -> Rule {
        self.in_interface = Some(name.into());
        self
    }

    /// Also matches this output device.
    pub fn out_interface(mut self, name: &str) -> Rule {
        self.out_interface = Some(name.into());
        self
    }

    /// Also matches this protocol.
    pub fn protocol(mut self, protocol: Layer4) -> Rule {
        self.protocol = Some(protocol);
        self
    }

    /// Adds an extension match.
    pub fn matching(mut self, condition: Match) -> Rule {
        self.matches.push(condition);
        self
    }

    /// Adds a comment.
    pub fn comment(self, text: &str) -> Rule {
        self.matching(Match::Comment(Comment::new(text)))
    }
}

/// A protocol in the notation of `-p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer4 {
    /// A protocol with ports.
    Transport(Protocol),
    /// ICMPv6 (`ipv6-icmp`).
    Icmpv6,
    /// IGMP.
    Igmp,
}

/// A connection-tracking state (`-m conntrack --ctstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Conntrack rejected it: it belongs to no connection.
    Invalid,
    /// The first packet of a connection.
    New,
    /// The first packet of a connection that an existing one expected, or an ICMP error about an existing one.
    Related,
    /// Part of a connection seen in both directions.
    Established,
    /// Not tracked, as IPv6 neighbour discovery is.
    Untracked,
    /// A connection whose destination address was translated. This state applies in addition to one of the others.
    Dnat,
}

/// Which addresses of a packet are looked up in a set.
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
        /// The value of these bits.
        value: u32,
        /// The bits that are compared.
        mask: u32,
    },
    /// `-m connmark --mark value/mask`: the mark of the connection, not of the packet.
    ConnectionMark {
        /// The value of these bits.
        value: u32,
        /// The bits that are compared.
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

/// The target of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `-j CHAIN`: continues in another chain.
    Jump(ChainName),
    /// `-g CHAIN`: the same, but that chain returns to the caller of this one, so the rules after this one are skipped.
    Goto(ChainName),
    /// `-j RETURN`: returns to the calling chain, or applies the policy of a built-in chain.
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
    /// `-j NFLOG --nflog-prefix --nflog-group`: copies the packet to a netlink group and continues.
    Log {
        /// The prefix of the copy: at most 63 letters, digits, `-` and `_`.
        prefix: Box<str>,
        /// The netlink group.
        group: u16,
    },
}

/// How a rejected packet is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectWith {
    /// `tcp-reset`.
    TcpReset,
    /// `icmp-port-unreachable`.
    IcmpPortUnreachable,
    /// `icmp6-port-unreachable`.
    Icmp6PortUnreachable,
}
