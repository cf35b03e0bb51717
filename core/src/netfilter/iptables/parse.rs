//! Parses `iptables-save` text to typed rules.
//!
//! Only what this program writes is parsed. Anything else is an error that names the unexpected word, so that a rule
//! which another program added to one of our chains is always noticed.

use super::{Layer4, Match, RejectWith, Rule, SetSide, State, Target};
use crate::net::{IpNet, PortRange, Protocol};
use crate::netfilter::{ChainName, Comment, SetName};

/// Why a text is not one of our rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A quote was opened and not closed.
    #[error("unfinished quote in {0:?}")]
    Quote(String),
    /// A word that this program never writes in this place.
    #[error("unexpected {word:?} in {rule:?}")]
    Unexpected {
        /// The word.
        word: String,
        /// The whole rule.
        rule: String,
    },
    /// The rule ends too early.
    #[error("{rule:?} ends where {wanted} should follow")]
    End {
        /// What should follow.
        wanted: &'static str,
        /// The whole rule.
        rule: String,
    },
}

/// Reads what follows `-A CHAIN ` in a line of `iptables-save`.
pub fn parse_rule(text: &str) -> Result<Rule, ParseError> {
    let words = split(text)?;
    let mut reader = RuleReader { text, words: &words, at: 0 };
    let mut rule = Rule::new(Target::Return);
    loop {
        match reader.word("-j")? {
            "-s" => rule.source = Some(reader.value("a prefix", prefix)?),
            "-d" => rule.destination = Some(reader.value("a prefix", prefix)?),
            "-i" => rule.in_interface = Some(reader.word("a device")?.into()),
            "-o" => rule.out_interface = Some(reader.word("a device")?.into()),
            "-p" => rule.protocol = Some(reader.value("a protocol", layer4)?),
            "-m" => rule.matches.push(reader.condition(rule.protocol)?),
            "-j" => {
                rule.target = reader.target()?;
                return reader.end().map(|()| rule);
            }
            "-g" => {
                rule.target = reader.value("a chain", ChainName::new).map(Target::Goto)?;
                return reader.end().map(|()| rule);
            }
            _ => return Err(reader.unexpected()),
        }
    }
}

fn split(text: &str) -> Result<Vec<String>, ParseError> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = characters.peek() else { return Ok(words) };
        let mut word = String::new();
        if first == '"' {
            characters.next();
            loop {
                match characters.next() {
                    Some('"') => break,
                    Some('\\') => word.extend(characters.next()),
                    Some(character) => word.push(character),
                    None => return Err(ParseError::Quote(text.into())),
                }
            }
        } else {
            while let Some(character) = characters.next_if(|c| !c.is_whitespace()) {
                word.push(character);
            }
        }
        words.push(word);
    }
}

struct RuleReader<'a> {
    text: &'a str,
    words: &'a [String],
    at: usize,
}

impl<'a> RuleReader<'a> {
    fn word(&mut self, wanted: &'static str) -> Result<&'a str, ParseError> {
        let word =
            self.words.get(self.at).ok_or_else(|| ParseError::End { wanted, rule: self.text.into() })?;
        self.at += 1;
        Ok(word)
    }

    fn value<T>(&mut self, wanted: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, ParseError> {
        let word = self.word(wanted)?;
        read(word).ok_or_else(|| self.unexpected())
    }

    fn expect(&mut self, wanted: &'static str) -> Result<(), ParseError> {
        self.value(wanted, |word| (word == wanted).then_some(()))
    }

    fn not(&mut self) -> bool {
        let negated = self.words.get(self.at).is_some_and(|word| word == "!");
        self.at += usize::from(negated);
        negated
    }

    fn end(&mut self) -> Result<(), ParseError> {
        if self.at == self.words.len() {
            return Ok(());
        }
        self.at += 1;
        Err(self.unexpected())
    }

    fn unexpected(&self) -> ParseError {
        let word = self.words.get(self.at.saturating_sub(1)).cloned().unwrap_or_default();
        ParseError::Unexpected { word, rule: self.text.into() }
    }

    fn condition(&mut self, protocol: Option<Layer4>) -> Result<Match, ParseError> {
        match self.word("a match")? {
            "conntrack" => {
                self.expect("--ctstate")?;
                self.value("states", |word| word.split(',').map(state).collect()).map(Match::ConnectionState)
            }
            "set" => {
                let negated = self.not();
                self.expect("--match-set")?;
                let name = self.value("a set", SetName::new)?;
                let side = self.value("src or dst", set_side)?;
                Ok(if negated { Match::NotInSet(name, side) } else { Match::Set(name, side) })
            }
            "physdev" => {
                let negated = self.not();
                self.expect("--physdev-is-bridged").map(|()| Match::Bridged(!negated))
            }
            "mark" => {
                self.expect("--mark")?;
                let (value, mask) = self.value("a mark", value_mask)?;
                Ok(Match::Mark { value, mask })
            }
            "connmark" => {
                self.expect("--mark")?;
                let (value, mask) = self.value("a mark", value_mask)?;
                Ok(Match::ConnectionMark { value, mask })
            }
            "addrtype" => {
                let negated = self.not();
                self.expect("--src-type")?;
                self.expect("LOCAL").map(|()| Match::SourceIsLocal(!negated))
            }
            "multiport" => {
                self.expect("--dports")?;
                self.value("ports", |word| word.split(',').map(port_range).collect())
                    .map(Match::DestinationPorts)
            }
            "icmp6" => {
                self.expect("--icmpv6-type")?;
                self.value("a type", |word| word.parse().ok()).map(Match::Icmpv6Type)
            }
            "limit" => {
                self.expect("--limit")?;
                self.value("a rate", |word| word.strip_suffix("/sec")?.parse().ok())
                    .map(Match::LimitPerSecond)
            }
            "comment" => {
                self.expect("--comment")?;
                self.word("a comment").map(|text| Match::Comment(Comment::new(text)))
            }
            name if protocol.is_some_and(|protocol| protocol.to_string() == name) => {
                self.expect("--dport")?;
                self.value("ports", port_range).map(Match::DestinationPort)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn target(&mut self) -> Result<Target, ParseError> {
        match self.word("a target")? {
            "RETURN" => Ok(Target::Return),
            "ACCEPT" => Ok(Target::Accept),
            "DROP" => Ok(Target::Drop),
            "REJECT" => {
                self.expect("--reject-with")?;
                self.value("how", reject_with).map(Target::Reject)
            }
            "MARK" => {
                self.expect("--set-xmark")?;
                let (value, mask) = self.value("a mark", value_mask)?;
                Ok(Target::SetMark { value, mask })
            }
            "NFLOG" => {
                self.expect("--nflog-prefix")?;
                let prefix = self.word("a prefix")?.into();
                self.expect("--nflog-group")?;
                self.value("a group", |word| word.parse().ok()).map(|group| Target::Log { prefix, group })
            }
            name => ChainName::new(name).map(Target::Jump).ok_or_else(|| self.unexpected()),
        }
    }
}

fn prefix(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse().ok().map(crate::net::host))
}

fn layer4(word: &str) -> Option<Layer4> {
    if word == "ipv6-icmp" || word == "icmpv6" {
        return Some(Layer4::Icmpv6);
    }
    if word == "igmp" {
        return Some(Layer4::Igmp);
    }
    Protocol::ALL.into_iter().find(|protocol| protocol.lowercase() == word).map(Layer4::Transport)
}

fn state(word: &str) -> Option<State> {
    [State::Invalid, State::New, State::Related, State::Established, State::Untracked, State::Dnat]
        .into_iter()
        .find(|state| state.to_string() == word)
}

fn set_side(word: &str) -> Option<SetSide> {
    [SetSide::Source, SetSide::Destination, SetSide::DestinationPort]
        .into_iter()
        .find(|side| side.to_string() == word)
}

fn reject_with(word: &str) -> Option<RejectWith> {
    [RejectWith::TcpReset, RejectWith::IcmpPortUnreachable, RejectWith::Icmp6PortUnreachable]
        .into_iter()
        .find(|with| with.to_string() == word)
}

fn port_range(word: &str) -> Option<PortRange> {
    let (first, last) = word.split_once(':').unwrap_or((word, word));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}

fn value_mask(word: &str) -> Option<(u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (value, mask) = word.split_once('/')?;
    Some((hex(value)?, hex(mask)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SetName {
        SetName::new(text).unwrap()
    }

    fn round_trips(text: &str) {
        assert_eq!(parse_rule(text).unwrap().to_string(), text);
    }

    #[test]
    fn every_form_we_write_reads_back_as_itself() {
        for text in [
            "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
            "-m set --match-set S4 dst -m comment --comment \"a b:c/d rule 1\" -j KUBE-NWPLCY-INGRESS",
            "-j MARK --set-xmark 0x0/0x10000",
            "-m connmark --mark 0x10000/0x10000 -j KUBE-NWPLCY-REVOKED",
            "-d 10.244.0.10/32 -m physdev --physdev-is-bridged -j KUBE-POD-SPECIFIC-FW-CJLEVZW",
            "-d fd00::1/128 -m physdev ! --physdev-is-bridged -g KUBE-POD-SPECIFIC-FW-CJLEVZW",
            "-d 10.244.0.8/29 -g KUBE-NWPLCY-INGRESS-01",
            "-i cni0 -m addrtype ! --src-type LOCAL -j RETURN",
            "-m mark --mark 0x10000/0x10000 -j RETURN",
            "-m limit --limit 10/sec -j NFLOG --nflog-prefix denied-ingress --nflog-group 101",
            "-p tcp -j REJECT --reject-with tcp-reset",
            "-p tcp -m physdev --physdev-is-bridged -m conntrack --ctstate DNAT -j REJECT --reject-with icmp-port-unreachable",
            "-j REJECT --reject-with icmp-port-unreachable",
            "-j REJECT --reject-with icmp6-port-unreachable",
            "-p tcp -m multiport --dports 80,443,1000:2000 -j DROP",
            "-p sctp -m sctp --dport 80:90 -j DROP",
            "-p udp -m udp --dport 53 -m set --match-set S4 src -j ACCEPT",
            "-p udp -m set --match-set N4 dst,dst -m set --match-set S4 src -m comment --comment plain -j DROP",
            "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
            "-o cni0 -m physdev ! --physdev-is-bridged -m set ! --match-set L4 dst -j KUBE-NWPLCY-UNASSIGNED",
            "-p igmp -m physdev --physdev-is-bridged -j RETURN",
        ] {
            round_trips(text);
        }
    }

    #[test]
    fn foreign_matches_are_noticed() {
        for text in [
            "-m statistic --mode random -j DROP",
            "-j SNAT --to-source 1.2.3.4",
            "-p tcp -j",
            "-g not;a;chain",
            "-j DROP extra",
            "",
        ] {
            assert!(parse_rule(text).is_err(), "{text:?}");
        }
        assert!(matches!(parse_rule("-m comment --comment \"open"), Err(ParseError::Quote(_))));
    }

    #[test]
    fn builder_puts_words_where_the_kernel_prints_them() {
        let rule = Rule::new(Target::Drop)
            .matching(Match::Set(name("S4"), SetSide::Source))
            .protocol(Layer4::Transport(Protocol::Tcp))
            .destination("10.0.0.1/32".parse().unwrap())
            .comment("x y");
        assert_eq!(
            rule.to_string(),
            "-d 10.0.0.1/32 -p tcp -m set --match-set S4 src -m comment --comment \"x y\" -j DROP"
        );
    }
}
