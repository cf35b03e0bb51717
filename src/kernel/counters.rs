//! What rules have counted. It is read concurrently with everything else: reading needs no lock, and no writer waits for it.

use super::exec::Runner;
use super::iptables;
use crate::apply::KernelError;
use crate::net::Family;
use crate::netfilter::iptables::{CountedChains, Variant};
use std::collections::BTreeMap;

/// Reads what the rules of our chains have counted.
pub struct Counters {
    variant: Variant,
    runner: Runner,
}

impl Counters {
    /// Of this variant of iptables, in the network namespace of the thread that will read.
    pub fn new(variant: Variant) -> Counters {
        Counters { variant, runner: Runner::new() }
    }

    /// Reads them: a program for each family.
    pub fn read(&mut self) -> Result<BTreeMap<Family, CountedChains>, KernelError> {
        let read = |family| Ok((family, iptables::save_counts(&mut self.runner, self.variant, family)?));
        Family::BOTH.into_iter().map(read).collect()
    }

    /// How many programs were started so far.
    pub fn started(&self) -> u64 {
        self.runner.started
    }
}
