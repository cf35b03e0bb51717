//! Rules as text, exactly as `iptables-save` of both variants prints them.

use super::{Condition, Layer4, Match, RejectWith, Rule, SetSide, State, Target};
use crate::net::{IpNet, PortRange};
use std::fmt;

impl fmt::Display for Rule {
    /// The rule without `-A CHAIN `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conditions().try_for_each(|condition| write!(f, "{condition} "))?;
        write!(f, "{}", self.target)
    }
}

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Condition::Source(net) => write!(f, "-s {}", Prefix(net)),
            Condition::Destination(net) => write!(f, "-d {}", Prefix(net)),
            Condition::InInterface(name) => write!(f, "-i {name}"),
            Condition::OutInterface(name) => write!(f, "-o {name}"),
            Condition::Protocol(protocol) => write!(f, "-p {protocol}"),
            Condition::Match(condition, protocol) => write_match(f, condition, protocol),
        }
    }
}

struct Prefix(IpNet);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.addr(), self.0.prefix_len())
    }
}

impl fmt::Display for Layer4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer4::Transport(protocol) => protocol.lowercase(),
            Layer4::Icmpv6 => "ipv6-icmp",
            Layer4::Igmp => "igmp",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Invalid => "INVALID",
            State::New => "NEW",
            State::Related => "RELATED",
            State::Established => "ESTABLISHED",
            State::Untracked => "UNTRACKED",
            State::Dnat => "DNAT",
        })
    }
}

impl fmt::Display for SetSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetSide::Source => "src",
            SetSide::Destination => "dst",
            SetSide::DestinationPort => "dst,dst",
        })
    }
}

impl fmt::Display for RejectWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectWith::TcpReset => "tcp-reset",
            RejectWith::IcmpPortUnreachable => "icmp-port-unreachable",
            RejectWith::Icmp6PortUnreachable => "icmp6-port-unreachable",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Jump(chain) => write!(f, "-j {chain}"),
            Target::Goto(chain) => write!(f, "-g {chain}"),
            Target::Return => f.write_str("-j RETURN"),
            Target::Accept => f.write_str("-j ACCEPT"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Reject(with) => write!(f, "-j REJECT --reject-with {with}"),
            Target::SetMark { value, mask } => write!(f, "-j MARK --set-xmark {value:#x}/{mask:#x}"),
            Target::Log { prefix, group } => {
                write!(f, "-j NFLOG --nflog-prefix {prefix} --nflog-group {group}")
            }
        }
    }
}

fn write_match(f: &mut fmt::Formatter<'_>, condition: &Match, protocol: Option<Layer4>) -> fmt::Result {
    let not = |wanted: bool| if wanted { "" } else { "! " };
    match condition {
        Match::ConnectionState(states) => {
            write!(f, "-m conntrack --ctstate {}", Joined(states))
        }
        Match::Set(name, side) => write!(f, "-m set --match-set {name} {side}"),
        Match::NotInSet(name, side) => write!(f, "-m set ! --match-set {name} {side}"),
        Match::Bridged(wanted) => write!(f, "-m physdev {}--physdev-is-bridged", not(*wanted)),
        Match::Mark { value, mask } => write!(f, "-m mark --mark {value:#x}/{mask:#x}"),
        Match::ConnectionMark { value, mask } => write!(f, "-m connmark --mark {value:#x}/{mask:#x}"),
        Match::SourceIsLocal(wanted) => write!(f, "-m addrtype {}--src-type LOCAL", not(*wanted)),
        Match::DestinationPort(ports) => {
            if let Some(Layer4::Transport(protocol)) = protocol {
                write!(f, "-m {} --dport {ports}", protocol.lowercase())
            } else {
                Err(fmt::Error)
            }
        }
        Match::DestinationPorts(ports) => write!(f, "-m multiport --dports {}", Joined::<PortRange>(ports)),
        Match::Icmpv6Type(number) => write!(f, "-m icmp6 --icmpv6-type {number}"),
        Match::LimitPerSecond(rate) => write!(f, "-m limit --limit {rate}/sec"),
        Match::Comment(comment) if comment.as_str().contains(|c: char| !c.is_ascii_alphanumeric()) => {
            write!(f, "-m comment --comment \"{comment}\"")
        }
        Match::Comment(comment) => write!(f, "-m comment --comment {comment}"),
    }
}

struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}
