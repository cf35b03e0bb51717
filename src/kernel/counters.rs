//! Counts of rules. They can be read at any time: reading needs no lock, and writers do not wait for it.

use super::exec::Runner;
use super::iptables;
use super::nftables;
use crate::apply::KernelError;
use crate::net::Family;
use crate::netfilter::BackendName;
use crate::netfilter::iptables::{Count, CountedChains};
use crate::netfilter::nftables::TableFamily;
use crate::ownership::INET_TABLE;
use std::collections::BTreeMap;

/// Reads the counts of the rules of our chains.
pub struct Counters {
    backend: BackendName,
    runner: Runner,
}

/// Counts of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedRules {
    /// Per rule.
    Iptables(BTreeMap<Family, CountedChains>),
    /// Per counter of our table.
    Nftables(BTreeMap<Box<str>, Count>),
}

impl Counters {
    /// For this backend, in the network namespace of the thread that reads.
    pub fn new(backend: BackendName) -> Counters {
        Counters { backend, runner: Runner::new() }
    }

    /// Reads the counts: with one program for each family, or with one dump.
    ///
    /// # Errors
    /// The counts cannot be read.
    pub fn read(&mut self) -> Result<CountedRules, KernelError> {
        match self.backend.variant() {
            Some(variant) => {
                let read = |family| Ok((family, iptables::save_counts(&mut self.runner, variant, family)?));
                Family::BOTH.into_iter().map(read).collect::<Result<_, _>>().map(CountedRules::Iptables)
            }
            None => nftables::read_counters(TableFamily::Inet, INET_TABLE).map(CountedRules::Nftables),
        }
    }

    /// How many programs were started so far.
    pub fn started(&self) -> u64 {
        self.runner.started
    }
}
