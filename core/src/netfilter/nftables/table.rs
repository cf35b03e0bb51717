//! A table: chains with rules, sets with elements.

use super::{Elements, Rule};
use std::collections::{BTreeMap, BTreeSet};

/// The family of a table (NFPROTO_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 and IPv6 packets.
    Inet,
    /// Frames that a bridge sees.
    Bridge,
}

/// A table with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: Box<str>,
    /// Its chains by name.
    pub chains: BTreeMap<Box<str>, Chain>,
    /// Its sets and maps by name.
    pub sets: BTreeMap<Box<str>, Set>,
    /// Its counters (objects of type NFT_OBJECT_COUNTER), without their counts. They outlive the rules that count in
    /// them.
    pub counters: BTreeSet<Box<str>>,
}

impl Table {
    /// An empty table.
    pub fn new(family: TableFamily, name: &str) -> Table {
        let (chains, sets, counters) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Table { family, name: name.into(), chains, sets, counters }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The hook of a base chain; `None` for a chain that only rules enter.
    pub base: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The hook of a base chain of type `filter` and policy `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The point in the packet's path.
    pub point: HookPoint,
    /// Its priority. Chains with lower values are evaluated first.
    pub priority: i32,
}

/// A point in the path of a packet through the host, or of a frame through a bridge. NF_INET_* (linux/netfilter.h) and
/// NF_BR_* (linux/netfilter_bridge.h) have the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// It arrived at a device or port. A bridge has not learned its source address yet.
    Prerouting,
    /// It is for the host itself.
    Input,
    /// It will leave by another device or port. When a bridge floods a frame, the hook sees it once for each port.
    Forward,
    /// It comes from the host itself.
    Output,
}

impl HookPoint {
    /// All of them.
    pub const ALL: [HookPoint; 4] =
        [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward, HookPoint::Output];
}

/// The type of one part of a set's key (the data types of `nft`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPart {
    /// An interface index in host byte order, four bytes.
    Interface,
    /// An IPv4 address, four bytes.
    Ipv4,
    /// An IPv6 address, sixteen bytes.
    Ipv6,
    /// An Ethernet address, six bytes and two of padding.
    Ethernet,
    /// A transport protocol, one byte.
    Protocol,
    /// A port, two bytes in network byte order.
    Service,
}

impl KeyPart {
    /// All of them.
    pub const ALL: [KeyPart; 6] = [
        KeyPart::Interface,
        KeyPart::Ipv4,
        KeyPart::Ipv6,
        KeyPart::Ethernet,
        KeyPart::Protocol,
        KeyPart::Service,
    ];

    /// Its length in a key, in bytes.
    pub fn length(self) -> u32 {
        match self {
            KeyPart::Interface | KeyPart::Ipv4 => 4,
            KeyPart::Ipv6 => 16,
            KeyPart::Ethernet => 6,
            KeyPart::Protocol => 1,
            KeyPart::Service => 2,
        }
    }

    /// The number of the type in `nft`.
    pub fn number(self) -> u32 {
        match self {
            KeyPart::Ipv4 => 7,
            KeyPart::Ipv6 => 8,
            KeyPart::Ethernet => 9,
            KeyPart::Protocol => 12,
            KeyPart::Service => 13,
            KeyPart::Interface => 20,
        }
    }
}

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetPurpose {
    /// Keys.
    Set,
    /// Ranges of one-part keys, without overlaps. An element is the first key followed by the last, both included.
    Intervals,
    /// Keys, each with a verdict.
    VerdictMap,
    /// Keys that rules add, each with a limit. A key is removed after this many milliseconds without a packet.
    Dynamic {
        /// The timeout.
        timeout_ms: u64,
    },
}

/// The definition of a set, without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetKind {
    /// The parts of a key.
    pub key: Vec<KeyPart>,
    /// What its elements are.
    pub purpose: SetPurpose,
    /// The maximum number of elements; 0 for no limit, which is not allowed for a dynamic set.
    pub size: u32,
}

impl SetKind {
    /// The length of a key in bytes. If it has several parts, each is padded to four bytes.
    pub fn key_length(&self) -> u32 {
        match self.key.as_slice() {
            [only] => only.length(),
            parts => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
        }
    }

    /// The length of an element in bytes: that of one key, or of two keys for intervals.
    pub fn element_length(&self) -> u32 {
        match self.purpose {
            SetPurpose::Intervals => 2 * self.key_length(),
            SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => self.key_length(),
        }
    }
}

/// A set with its elements, without those that packets add to a dynamic set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its definition.
    pub kind: SetKind,
    /// Its elements.
    pub elements: Elements,
}

impl Set {
    /// For a set of intervals: the first and last key of the last range that begins at or before this key.
    pub fn last_range_from(&self, key: &[u8]) -> Option<[&[u8]; 2]> {
        let up_to = [key, &vec![0xff; key.len()]].concat();
        let range = self.elements.last_up_to(&up_to)?;
        let (first, last) = range.split_at(range.len() / 2);
        Some([first, last])
    }
}
