//! Which subjects a direction has at an address.

use super::Subject;
use crate::model::{Direction, PodKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Subjects by direction and address, in order. More than one has an address only for a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct SubjectsByAddress(BTreeSet<(Direction, IpAddr, Subject)>);

impl SubjectsByAddress {
    pub(super) fn insert(&mut self, direction: Direction, address: IpAddr, subject: &Subject) {
        self.0.insert((direction, address, subject.clone()));
    }

    pub(super) fn remove(&mut self, direction: Direction, address: IpAddr, subject: &Subject) {
        self.0.remove(&(direction, address, subject.clone()));
    }

    /// The addresses of a direction, each with the subject that has it.
    pub(super) fn in_direction(&self, direction: Direction) -> impl Iterator<Item = (IpAddr, &Subject)> {
        let all = self.0.iter().filter(move |(own, ..)| *own == direction);
        all.map(|(_, address, subject)| (*address, subject))
    }

    /// The subjects of a direction with an address.
    pub(super) fn at(&self, direction: Direction, address: IpAddr) -> impl Iterator<Item = &Subject> {
        let least = (direction, address, Subject::Pod(PodKey::new("", "")));
        let here = self.0.range(least..);
        here.take_while(move |(own, at, _)| (*own, *at) == (direction, address)).map(|(.., subject)| subject)
    }
}
