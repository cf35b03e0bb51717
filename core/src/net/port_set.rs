//! Sets of protocols and ports, and their algebra.

use super::{PortRange, Protocol};
use std::fmt;
use std::str::FromStr;

/// Protocols and their destination ports, as policies allow them.
///
/// Two sets that hold the same are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    /// The ranges of each of [`Protocol::ALL`]: in order, with a gap between each two.
    ranges: [Vec<PortRange>; 3],
    /// Whether protocols without ports, such as ICMP, are in it: a rule without ports allows them, and no other rule does.
    others: bool,
}

const LAST: u16 = u16::MAX;

impl PortSet {
    /// Nothing.
    pub fn none() -> PortSet {
        PortSet::default()
    }

    /// Every port of every protocol, and protocols without ports.
    pub fn all() -> PortSet {
        PortSet { others: true, ..PortSet::every_port() }
    }

    /// Every port of every protocol that has ports.
    pub fn every_port() -> PortSet {
        let every = || PortRange::new(1, LAST).into_iter().collect();
        PortSet { ranges: [every(), every(), every()], others: false }
    }

    /// A range of ports of a protocol.
    pub fn of(protocol: Protocol, range: PortRange) -> PortSet {
        let mut set = PortSet::default();
        set.ranges[index(protocol)].push(range);
        set
    }

    /// Every port of a protocol.
    pub fn of_protocol(protocol: Protocol) -> PortSet {
        PortRange::new(1, LAST).map(|range| PortSet::of(protocol, range)).unwrap_or_default()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.others && self.ranges.iter().all(Vec::is_empty)
    }

    /// Whether everything is in it.
    pub fn is_all(&self) -> bool {
        self.others && Protocol::ALL.into_iter().all(|protocol| self.has_all_of(protocol))
    }

    /// Whether a port is in it.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ranges[index(protocol)].iter().any(|range| range.contains(port))
    }

    /// Whether protocols without ports are in it.
    pub fn contains_others(&self) -> bool {
        self.others
    }

    /// The ranges of ports in it, TCP's first; none touches the next of its protocol.
    pub fn ranges(&self) -> impl Iterator<Item = (Protocol, PortRange)> {
        Protocol::ALL
            .into_iter()
            .flat_map(|protocol| self.ranges[index(protocol)].iter().map(move |range| (protocol, *range)))
    }

    /// Adds what is in another set.
    pub fn add_all(&mut self, other: &PortSet) {
        *self = self.union(other);
    }

    /// What is in either.
    pub fn union(&self, other: &PortSet) -> PortSet {
        let ranges = Protocol::ALL.map(|protocol| {
            let mut both = [&self.ranges[index(protocol)][..], &other.ranges[index(protocol)][..]].concat();
            both.sort_unstable();
            joined(both)
        });
        PortSet { ranges, others: self.others || other.others }
    }

    /// What is in both.
    pub fn intersection(&self, other: &PortSet) -> PortSet {
        let ranges = Protocol::ALL.map(|protocol| {
            let (own, others) = (&self.ranges[index(protocol)], &other.ranges[index(protocol)]);
            let both = own.iter().flat_map(|one| {
                others.iter().filter_map(|other| {
                    PortRange::new(one.first().max(other.first()), one.last().min(other.last()))
                })
            });
            both.collect()
        });
        PortSet { ranges, others: self.others && other.others }
    }

    /// What is in this one and not in the other.
    pub fn difference(&self, other: &PortSet) -> PortSet {
        let ranges = Protocol::ALL.map(|protocol| {
            let (own, others) = (&self.ranges[index(protocol)], &other.ranges[index(protocol)]);
            own.iter().flat_map(|range| without(*range, others)).collect()
        });
        PortSet { ranges, others: self.others && !other.others }
    }

    fn has_all_of(&self, protocol: Protocol) -> bool {
        let ranges = &self.ranges[index(protocol)];
        ranges.first().is_some_and(|range| (range.first(), range.last()) == (1, LAST))
    }

    /// The parts of which it consists, in words: `80/TCP`, `8000-8999/TCP`, `any UDP`, `other protocols`; `all` for everything.
    pub fn words(&self) -> Vec<String> {
        if self.is_all() {
            return vec!["all".to_owned()];
        }
        let mut words: Vec<String> = Vec::new();
        for protocol in Protocol::ALL {
            if self.has_all_of(protocol) {
                words.push(format!("any {protocol}"));
                continue;
            }
            words.extend(self.ranges[index(protocol)].iter().map(|range| {
                let (first, last) = (range.first(), range.last());
                if first == last {
                    format!("{first}/{protocol}")
                } else {
                    format!("{first}-{last}/{protocol}")
                }
            }));
        }
        if self.others {
            words.push("other protocols".to_owned());
        }
        words
    }
}

impl FromStr for PortSet {
    type Err = String;

    /// Reads one of its [words](PortSet::words), and also `80` for TCP and `UDP` for `any UDP`.
    fn from_str(text: &str) -> Result<PortSet, String> {
        let wrong = || {
            format!(
                "`{text}` is no port: write for example 80/TCP, 8000-8999/UDP, `any UDP`, `all`, or `other protocols` for those \
                 without ports, such as ICMP"
            )
        };
        match text {
            "all" => return Ok(PortSet::all()),
            "other protocols" => return Ok(PortSet { others: true, ..PortSet::none() }),
            _ => {}
        }
        let word = text.strip_prefix("any ").unwrap_or(text);
        if let Some(protocol) = Protocol::parse(word) {
            return Ok(PortSet::of_protocol(protocol));
        }
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let protocol = Protocol::parse(protocol).ok_or_else(wrong)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let range = PortRange::new(number(first)?, number(last)?).ok_or_else(wrong)?;
        Ok(PortSet::of(protocol, range))
    }
}

impl fmt::Display for PortSet {
    /// Its [words](PortSet::words) with commas; `none` for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("none") } else { f.write_str(&self.words().join(", ")) }
    }
}

fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

/// Ranges that are in order by their first port, with those that meet made one.
fn joined(ranges: Vec<PortRange>) -> Vec<PortRange> {
    let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.first()) <= u32::from(last.last()) + 1 => {
                *last = PortRange::new(last.first(), last.last().max(range.last())).unwrap_or(*last);
            }
            Some(_) | None => joined.push(range),
        }
    }
    joined
}

/// What is left of a range without others, which are in order.
fn without(range: PortRange, others: &[PortRange]) -> Vec<PortRange> {
    let mut left = Vec::new();
    let mut rest = Some(range);
    for other in others {
        let Some(now) = rest else { break };
        if other.last() < now.first() || other.first() > now.last() {
            continue;
        }
        left.extend(other.first().checked_sub(1).and_then(|last| PortRange::new(now.first(), last)));
        rest = other.last().checked_add(1).and_then(|first| PortRange::new(first, now.last()));
    }
    left.extend(rest);
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).unwrap()
    }

    fn tcp(first: u16, last: u16) -> PortSet {
        PortSet::of(Protocol::Tcp, range(first, last))
    }

    #[test]
    fn ranges_that_meet_become_one() {
        assert_eq!(tcp(80, 89).union(&tcp(90, 99)), tcp(80, 99));
        assert_eq!(tcp(1, 80).union(&tcp(81, u16::MAX)), PortSet::of_protocol(Protocol::Tcp));
        assert_eq!(tcp(80, 80).union(&tcp(82, 82)).words(), ["80/TCP", "82/TCP"]);
    }

    #[test]
    fn set_is_written_as_a_person_writes_it() {
        let udp = PortSet::of_protocol(Protocol::Udp);
        assert_eq!(PortSet::default().to_string(), "none");
        assert_eq!(PortSet::all().to_string(), "all");
        assert_eq!(
            tcp(80, 80).union(&tcp(8000, 8999)).union(&udp).to_string(),
            "80/TCP, 8000-8999/TCP, any UDP"
        );
        let rest = PortSet::all().difference(&tcp(80, 80));
        assert_eq!(rest.to_string(), "1-79/TCP, 81-65535/TCP, any UDP, any SCTP, other protocols");
    }

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in ["80/TCP", "8000-8999/UDP", "any SCTP", "other protocols", "all"] {
            assert_eq!(text.parse::<PortSet>().unwrap().to_string(), text);
        }
        assert_eq!("443".parse(), Ok(tcp(443, 443)));
        assert_eq!("UDP".parse(), Ok(PortSet::of_protocol(Protocol::Udp)));
        for text in ["", "0", "70000/TCP", "90-80/TCP", "80/ICMP", "80-/TCP", "http"] {
            assert!(text.parse::<PortSet>().is_err(), "{text}");
        }
    }

    fn any_set() -> impl Strategy<Value = PortSet> {
        let part = (0_usize..3, 1_u16..12, 0_u16..4).prop_map(|(protocol, first, more)| {
            PortSet::of(Protocol::ALL[protocol], range(first, first + more))
        });
        let parts = proptest::collection::vec(part, 0..6);
        (parts, any::<bool>()).prop_map(|(parts, others)| {
            let start = PortSet { others, ..PortSet::default() };
            parts.iter().fold(start, |set, part| set.union(part))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn words_of_a_set_are_read_as_the_set(set in any_set()) {
            let read = set.words().into_iter().map(|word| word.parse::<PortSet>().expect("its own word"));
            prop_assert_eq!(read.fold(PortSet::none(), |all, one| all.union(&one)), set);
        }

        #[test]
        fn algebra_of_sets_is_that_of_their_ports(one in any_set(), other in any_set()) {
            let (union, both, rest) = (one.union(&other), one.intersection(&other), one.difference(&other));
            for protocol in Protocol::ALL {
                for port in (1..20).chain([u16::MAX]) {
                    let (a, b) = (one.contains(protocol, port), other.contains(protocol, port));
                    prop_assert_eq!(union.contains(protocol, port), a || b);
                    prop_assert_eq!(both.contains(protocol, port), a && b);
                    prop_assert_eq!(rest.contains(protocol, port), a && !b);
                }
            }
            prop_assert_eq!(both.union(&rest), one, "equal sets are equal");
        }
    }
}
