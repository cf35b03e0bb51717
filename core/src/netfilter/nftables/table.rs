//! A table: chains with rules, sets with elements.

use super::{Rule, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The family of a table (NFPROTO_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 and IPv6 packets.
    Inet,
    /// Frames that a bridge sees.
    Bridge,
}

/// A table with all that is in it.
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
    /// Its counters (objects of type NFT_OBJECT_COUNTER), without what they counted. They outlive the rules that count in them.
    pub counters: BTreeSet<Box<str>>,
}

impl Table {
    /// A table with nothing in it.
    pub fn new(family: TableFamily, name: &str) -> Table {
        let (chains, sets, counters) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Table { family, name: name.into(), chains, sets, counters }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it by themselves; `None` for a chain that rules lead to.
    pub base: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where packets enter a base chain of type `filter` and policy `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub point: HookPoint,
    /// Chains of lower priority come first.
    pub priority: i32,
}

/// A point on a packet's way through the host, or on a frame's way through a bridge: NF_INET_* (linux/netfilter.h) and NF_BR_*
/// (linux/netfilter_bridge.h) have the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// It came in by a device or port. A bridge has not learned from it.
    Prerouting,
    /// It is for the host itself.
    Input,
    /// It leaves by another device or port. A flooding bridge asks once for each port.
    Forward,
    /// It comes from the host itself.
    Output,
}

impl HookPoint {
    /// All of them.
    pub const ALL: [HookPoint; 4] =
        [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward, HookPoint::Output];
}

/// What a key of a set consists of (the data types of `nft`).
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

    /// By which number `nft` knows the type.
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

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetPurpose {
    /// Keys.
    Set,
    /// Ranges of keys of one part, without overlaps. An element is the first key and behind it the last, both included.
    Intervals,
    /// Keys with a verdict each.
    VerdictMap,
    /// Keys that rules add, each with a limit, for so many milliseconds after its last packet.
    Dynamic {
        /// How long.
        timeout_ms: u64,
    },
}

/// What a set is, without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetKind {
    /// What a key consists of.
    pub key: Vec<KeyPart>,
    /// What it holds.
    pub purpose: SetPurpose,
    /// How many elements it can hold; 0 for no limit, which a dynamic set must have.
    pub size: u32,
}

impl SetKind {
    /// The length of a key in bytes: of several parts each is padded to four.
    pub fn key_length(&self) -> u32 {
        match self.key.as_slice() {
            [only] => only.length(),
            parts => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
        }
    }

    /// The length of an element in bytes: a key, or of intervals two.
    pub fn element_length(&self) -> u32 {
        match self.purpose {
            SetPurpose::Intervals => 2 * self.key_length(),
            SetPurpose::Set | SetPurpose::VerdictMap | SetPurpose::Dynamic { .. } => self.key_length(),
        }
    }
}

/// The elements of a set: keys, with verdicts in a map.
pub type Elements = BTreeMap<Box<[u8]>, Option<Verdict>>;

/// A set with its elements. What packets put into a dynamic set is not counted among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it is.
    pub kind: SetKind,
    /// What it holds.
    pub elements: Elements,
}

impl Set {
    /// Of a set of intervals, the first and last key of the last range that begins with this key or before.
    pub fn last_range_from(&self, key: &[u8]) -> Option<[&[u8]; 2]> {
        let up_to = [key, &vec![0xff; key.len()]].concat();
        let before = (Bound::Unbounded, Bound::Included(up_to.as_slice()));
        let (range, _) = self.elements.range::<[u8], _>(before).next_back()?;
        let (first, last) = range.split_at(range.len() / 2);
        Some([first, last])
    }
}
