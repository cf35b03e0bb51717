//! A table: chains with rules, sets with elements.

use super::{Rule, Verdict};
use std::collections::BTreeMap;

/// The family of a table (NFPROTO_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
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
}

impl Table {
    /// A table with nothing in it.
    pub fn new(family: TableFamily, name: &str) -> Table {
        Table { family, name: name.into(), chains: BTreeMap::new(), sets: BTreeMap::new() }
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

/// A point on a frame's way through a bridge (enum nf_br_hook in linux/netfilter_bridge.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// It came in by a port, and the bridge has not learned from it.
    Prerouting,
    /// It is for the host itself.
    Input,
    /// It leaves by another port; asked once for each port of a flood.
    Forward,
}

impl HookPoint {
    /// All of them.
    pub const ALL: [HookPoint; 3] = [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward];
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
}

impl KeyPart {
    /// Its length in a key, in bytes.
    pub fn length(self) -> u32 {
        match self {
            KeyPart::Interface | KeyPart::Ipv4 => 4,
            KeyPart::Ipv6 => 16,
            KeyPart::Ethernet => 6,
        }
    }

    /// By which number `nft` knows the type.
    pub fn number(self) -> u32 {
        match self {
            KeyPart::Ipv4 => 7,
            KeyPart::Ipv6 => 8,
            KeyPart::Ethernet => 9,
            KeyPart::Interface => 20,
        }
    }
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetPurpose {
    /// Keys.
    Set,
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
    /// How many elements it can hold.
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
