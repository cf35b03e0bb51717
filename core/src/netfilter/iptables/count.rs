//! Counts of rules.

use super::Rule;
use crate::netfilter::ChainName;
use std::collections::BTreeMap;

/// How many packets and bytes have matched a rule since it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, including IP headers.
    pub bytes: u64,
}

impl Count {
    /// What was counted since `before`. If the count is smaller than `before`, it was reset, and all of it was counted
    /// since.
    pub fn since(self, before: Count) -> Count {
        if self.packets < before.packets || self.bytes < before.bytes {
            return self;
        }
        Count { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

/// Chains of a table, each with its rules in order and what each has counted.
pub type CountedChains = BTreeMap<ChainName, Vec<(Rule, Count)>>;
