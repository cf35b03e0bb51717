//! Sets of ports: which of a destination's ports rules allow.

use crate::net::{PortRange, Protocol};
use std::fmt;

/// A set of ports of each protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet {
    /// For each of [`Protocol::ALL`], its ports as ranges in order that neither overlap nor touch.
    ranges: [Vec<PortRange>; Protocol::ALL.len()],
}

impl PortSet {
    /// No port.
    pub fn none() -> PortSet {
        PortSet { ranges: Default::default() }
    }

    /// Every port of every protocol.
    pub fn all() -> PortSet {
        Protocol::ALL.into_iter().fold(PortSet::none(), |mut set, protocol| {
            set.add_protocol(protocol);
            set
        })
    }

    /// Adds every port of a protocol.
    pub fn add_protocol(&mut self, protocol: Protocol) {
        self.ranges_mut(protocol).clear();
        self.ranges_mut(protocol).extend(PortRange::new(1, u16::MAX));
    }

    /// Adds a range of ports.
    pub fn add(&mut self, protocol: Protocol, range: PortRange) {
        let own = self.ranges_mut(protocol);
        let touches = |other: &PortRange| {
            u32::from(other.first()) <= u32::from(range.last()) + 1
                && u32::from(range.first()) <= u32::from(other.last()) + 1
        };
        let joined: Vec<PortRange> = own.extract_if(.., |other| touches(other)).chain([range]).collect();
        let first = joined.iter().map(|range| range.first()).min();
        let last = joined.iter().map(|range| range.last()).max();
        own.extend(first.zip(last).and_then(|(first, last)| PortRange::new(first, last)));
        own.sort_unstable();
    }

    /// Adds the ports of another set.
    pub fn add_all(&mut self, other: &PortSet) {
        other.iter().for_each(|(protocol, range)| self.add(protocol, range));
    }

    /// The ports that both sets have.
    pub fn intersection(&self, other: &PortSet) -> PortSet {
        let mut both = PortSet::none();
        for (protocol, range) in self.iter() {
            for shared in other.ranges(protocol) {
                let (first, last) = (range.first().max(shared.first()), range.last().min(shared.last()));
                if let Some(range) = PortRange::new(first, last) {
                    both.add(protocol, range);
                }
            }
        }
        both
    }

    /// Those of its ports that are of one protocol.
    pub fn of(&self, protocol: Protocol) -> PortSet {
        let mut own = PortSet::none();
        self.ranges(protocol).iter().for_each(|range| own.add(protocol, *range));
        own
    }

    /// Whether it has a port.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ranges(protocol).iter().any(|range| range.contains(port))
    }

    /// Whether it has no port.
    pub fn is_empty(&self) -> bool {
        self.ranges.iter().all(Vec::is_empty)
    }

    /// Its ranges, by protocol and then by port.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, PortRange)> {
        Protocol::ALL
            .into_iter()
            .flat_map(|protocol| self.ranges(protocol).iter().map(move |range| (protocol, *range)))
    }

    fn ranges(&self, protocol: Protocol) -> &[PortRange] {
        match protocol {
            Protocol::Tcp => &self.ranges[0],
            Protocol::Udp => &self.ranges[1],
            Protocol::Sctp => &self.ranges[2],
        }
    }

    fn ranges_mut(&mut self, protocol: Protocol) -> &mut Vec<PortRange> {
        match protocol {
            Protocol::Tcp => &mut self.ranges[0],
            Protocol::Udp => &mut self.ranges[1],
            Protocol::Sctp => &mut self.ranges[2],
        }
    }
}

impl fmt::Display for PortSet {
    /// `80/TCP, 8000-8100/TCP, any UDP`; `any port`, `no port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == PortSet::all() {
            return f.write_str("any port");
        }
        if self.is_empty() {
            return f.write_str("no port");
        }
        for (index, (protocol, range)) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match (range.first(), range.last()) {
                (1, u16::MAX) => write!(f, "any {protocol}")?,
                (first, last) if first == last => write!(f, "{first}/{protocol}")?,
                (first, last) => write!(f, "{first}-{last}/{protocol}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(Protocol, u16, u16)]) -> PortSet {
        let mut set = PortSet::none();
        ranges.iter().for_each(|(protocol, first, last)| {
            set.add(*protocol, PortRange::new(*first, *last).unwrap());
        });
        set
    }

    #[test]
    fn ranges_that_touch_or_overlap_are_one() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let one = set(&[(tcp, 5, 9), (tcp, 1, 2), (udp, 3, 4), (tcp, 3, 5), (tcp, 11, 12)]);
        assert_eq!(one.to_string(), "1-9/TCP, 11-12/TCP, 3-4/UDP");
        assert_eq!(set(&[(tcp, 2, u16::MAX), (tcp, 1, 1)]).to_string(), "any TCP");
        assert_eq!((PortSet::all().to_string(), PortSet::none().to_string()), {
            ("any port".to_owned(), "no port".to_owned())
        });
    }

    #[test]
    fn intersection_has_what_both_have() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let one = set(&[(tcp, 1, 10), (tcp, 20, 30), (udp, 1, 5)]);
        let other = set(&[(tcp, 5, 25), (udp, 6, 7)]);
        assert_eq!(one.intersection(&other).to_string(), "5-10/TCP, 20-25/TCP");
        assert_eq!(one.intersection(&PortSet::all()), one);
        assert!(one.intersection(&PortSet::none()).is_empty());
        assert!(one.contains(tcp, 20) && !one.contains(tcp, 19) && !one.of(udp).contains(tcp, 20));
    }
}
