//! What rules have counted.

use super::Rule;
use crate::netfilter::ChainName;
use std::collections::BTreeMap;

/// How much has matched a rule since it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, IP header included.
    pub bytes: u64,
}

impl Count {
    /// How much has come since `before`. A count that is smaller began anew, and all of it has come since.
    pub fn since(self, before: Count) -> Count {
        if self.packets < before.packets || self.bytes < before.bytes {
            return self;
        }
        Count { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

/// Chains of a table, each with its rules in order and what each has counted.
pub type CountedChains = BTreeMap<ChainName, Vec<(Rule, Count)>>;
