//! The addresses of this node's pods, isolated or not, and for which of them the port is known.

use super::{Placement, Subject};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counts by address.
#[derive(Clone, Debug, Default)]
struct Counted(BTreeMap<IpAddr, usize>);

impl Counted {
    fn add(&mut self, address: IpAddr) {
        *self.0.entry(address).or_default() += 1;
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(count) = self.0.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&address);
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains_key(&address)
    }
}

/// The addresses of this node's pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Locals {
    subjects: BTreeMap<Subject, Vec<IpAddr>>,
    local: Counted,
    bound: Counted,
}

impl Locals {
    /// Sets the addresses of a subject.
    pub(super) fn set(&mut self, subject: &Subject, addresses: Vec<IpAddr>) {
        let old = if addresses.is_empty() {
            self.subjects.remove(subject)
        } else {
            addresses.iter().for_each(|address| self.local.add(*address));
            self.subjects.insert(subject.clone(), addresses)
        };
        old.into_iter().flatten().for_each(|address| self.local.remove(address));
    }

    /// The addresses of a subject.
    pub(super) fn of(&self, subject: &Subject) -> &[IpAddr] {
        self.subjects.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Replaces the addresses of a port: these are the new and the previous ones.
    pub(super) fn bind<'a>(
        &mut self,
        old: impl IntoIterator<Item = &'a IpAddr>,
        new: impl IntoIterator<Item = &'a IpAddr>,
    ) {
        new.into_iter().for_each(|address| self.bound.add(*address));
        old.into_iter().for_each(|address| self.bound.remove(*address));
    }

    /// Whether a local pod has an address.
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains(address)
    }

    /// Who has an address.
    pub(super) fn placement(&self, address: IpAddr) -> Placement {
        let bound = self.bound.contains(address);
        Placement { bound, unbound: !bound && self.local.contains(address) }
    }

    /// Every address of a local pod.
    pub(super) fn local(&self) -> impl Iterator<Item = IpAddr> {
        self.local.0.keys().copied()
    }

    /// Every address that a port has.
    pub(super) fn bound(&self) -> impl Iterator<Item = IpAddr> {
        self.bound.0.keys().copied()
    }

    /// How many local pods have an address without a known port.
    pub(super) fn unbound_subjects(&self) -> usize {
        let unbound =
            |addresses: &&Vec<IpAddr>| addresses.iter().any(|address| !self.bound.contains(*address));
        self.subjects.values().filter(unbound).count()
    }
}
