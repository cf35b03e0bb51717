//! What rules have counted. It is read concurrently with everything else: reading needs no lock, and no writer waits for it.

use super::exec::Runner;
use super::iptables;
use super::nftables::Nftables;
use crate::apply::KernelError;
use crate::net::Family;
use crate::netfilter::BackendName;
use crate::netfilter::iptables::{Count, CountedChains};
use crate::netfilter::nftables::TableFamily;
use crate::ownership::INET_TABLE;
use std::collections::BTreeMap;

/// Reads what the rules of our chains have counted.
pub struct Counters {
    backend: BackendName,
    runner: Runner,
}

/// What rules have counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedRules {
    /// Rule by rule.
    Iptables(BTreeMap<Family, CountedChains>),
    /// By the counters of our table.
    Nftables(BTreeMap<Box<str>, Count>),
}

impl Counters {
    /// Of this backend, in the network namespace of the thread that will read.
    pub fn new(backend: BackendName) -> Counters {
        Counters { backend, runner: Runner::new() }
    }

    /// Reads them: by a program for each family, or by one dump.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn read(&mut self) -> Result<CountedRules, KernelError> {
        match self.backend.variant() {
            Some(variant) => {
                let read = |family| Ok((family, iptables::save_counts(&mut self.runner, variant, family)?));
                Family::BOTH.into_iter().map(read).collect::<Result<_, _>>().map(CountedRules::Iptables)
            }
            None => {
                let read = Nftables::open()?.read_counters(TableFamily::Inet, INET_TABLE)?;
                Ok(CountedRules::Nftables(read))
            }
        }
    }

    /// How many programs were started so far.
    pub fn started(&self) -> u64 {
        self.runner.started
    }
}
