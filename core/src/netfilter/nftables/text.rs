//! Statements and tables as text, in the words of `nft`, so that people and golden files can read them.

use super::{
    Base, Comparison, ConnectionFact, Field, HookPoint, Meta, RejectWith, Rule, SetPurpose, Statement, Table,
    TableFamily, Verdict,
};
use std::fmt;

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Payload { base, offset, length } => {
                let base = match base {
                    Base::Link => "ll",
                    Base::Network => "nh",
                    Base::Transport => "th",
                };
                write!(f, "@{base},{},{}", u32::from(*offset) * 8, u32::from(*length) * 8)
            }
            Field::Meta(meta) => f.write_str(match meta {
                Meta::Length => "meta length",
                Meta::Mark => "meta mark",
                Meta::InputIndex => "iif",
                Meta::OutputIndex => "oif",
                Meta::TransportProtocol => "meta l4proto",
                Meta::PacketType => "meta pkttype",
                Meta::NfProto => "meta nfproto",
                Meta::InputName => "iifname",
                Meta::OutputName => "oifname",
            }),
            Field::Connection(fact) => f.write_str(match fact {
                ConnectionFact::State => "ct state",
                ConnectionFact::Status => "ct status",
                ConnectionFact::Mark => "ct mark",
            }),
            Field::SourceAddressType => f.write_str("fib saddr type"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn fields(fields: &[Field]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Compare { field, mask, comparison, value } => {
                write!(f, "{field}")?;
                if let Some(mask) = mask {
                    write!(f, " & {}", hex(mask))?;
                }
                let operator = match comparison {
                    Comparison::Equal => "",
                    Comparison::Different => "!= ",
                    Comparison::AtMost => "<= ",
                    Comparison::AtLeast => ">= ",
                };
                write!(f, " {operator}{}", hex(value))
            }
            Statement::In { fields: all, set, inverted } => {
                write!(f, "{}{} @{set}", fields(all), if *inverted { " !=" } else { "" })
            }
            Statement::VerdictOf { fields: all, map } => write!(f, "{} vmap @{map}", fields(all)),
            Statement::Limit { fields: all, set, per_second, burst } => {
                write!(
                    f,
                    "update @{set} {{ {} limit rate {per_second}/second burst {burst} packets }}",
                    fields(all)
                )
            }
            Statement::Counter => f.write_str("counter"),
            Statement::CountIn(counter) => write!(f, "counter name \"{counter}\""),
            Statement::Log { group, prefix } => write!(f, "log prefix \"{prefix}\" group {group}"),
            Statement::SetMark(bits) => write!(f, "meta mark set meta mark | {bits:#x}"),
            Statement::Verdict(verdict) => verdict.fmt(f),
            Statement::Reject(RejectWith::TcpReset) => f.write_str("reject with tcp reset"),
            Statement::Reject(RejectWith::PortUnreachable) => {
                f.write_str("reject with icmpx type port-unreachable")
            }
            Statement::Comment(comment) => write!(f, "comment \"{}\"", comment.as_str()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            TableFamily::Inet => "inet",
            TableFamily::Bridge => "bridge",
        };
        writeln!(f, "table {family} {} {{", self.name)?;
        for (name, set) in &self.sets {
            let word = match set.kind.purpose {
                SetPurpose::Set | SetPurpose::Intervals | SetPurpose::Dynamic { .. } => "set",
                SetPurpose::VerdictMap => "map",
            };
            writeln!(f, "\t{word} {name} {{ # {} of at most {}", set.elements.len(), set.kind.size)?;
            for (key, verdict) in &set.elements {
                match verdict {
                    Some(verdict) => writeln!(f, "\t\t{} : {verdict}", hex(key))?,
                    None => writeln!(f, "\t\t{}", hex(key))?,
                }
            }
            writeln!(f, "\t}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(base) = chain.base {
                let point = match base.point {
                    HookPoint::Prerouting => "prerouting",
                    HookPoint::Input => "input",
                    HookPoint::Forward => "forward",
                    HookPoint::Output => "output",
                };
                writeln!(f, "\t\ttype filter hook {point} priority {}; policy accept;", base.priority)?;
            }
            chain.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))?;
            writeln!(f, "\t}}")?;
        }
        f.write_str("}\n")
    }
}
