//! Who can reach whom, on which ports: for every pair of pods and addresses, exactly.
//!
//! Comes in: a `Snapshot`. Goes out: classes of pods and of addresses that no policy can distinguish, and
//! for each pair of classes the connections that the policies allow. This room answers for objects, not for one node: it knows
//! nothing of plans, chains or the limits of an agent.
//!
//! A cluster of 10,000 pods has 100 million pairs and far fewer answers. So selectors are asked once for each set of labels that
//! they can distinguish, addresses are asked once for each range between the ends of blocks, and the answer for a pair is the
//! intersection of two rows: what the source's egress allows and what the destination's ingress allows.

mod address;
mod class;
mod difference;
mod end;
mod pair;
mod reason;
mod row;
mod term;

pub use class::{Class, ClassId, ClassMembers};
pub use difference::{
    Difference, EndGroup, IsolationDifference, PairDifference, PortsDifference, ReachState,
};
pub use end::{ReachEnd, ReachName};
pub use pair::{Connectivity, Pairs};
pub use reason::{AllowingRule, DirectionReason};

use crate::model::{Direction, PodKey, Snapshot};
use crate::net::Family;
use class::{Classes, OutsideClasses};
use row::Rows;
use std::collections::BTreeMap;
use std::net::IpAddr;
use term::Terms;

/// What the policies of a snapshot allow between its pods, and between them and addresses of no pod.
#[derive(Clone, Debug)]
pub struct Reach {
    terms: Terms,
    classes: Vec<Class>,
    class_of: BTreeMap<PodKey, ClassId>,
    outside: [OutsideClasses; 2],
    any_pod: ClassId,
    rows: Rows,
}

impl Reach {
    /// Works out what the policies of a snapshot allow.
    pub fn new(snapshot: &Snapshot) -> Reach {
        let terms = Terms::of(snapshot);
        let Classes { classes, class_of, outside, any_pod } = Classes::of(snapshot, &terms);
        let rows = Rows::of(&terms, &classes);
        Reach { terms, classes, class_of, outside, any_pod, rows }
    }

    /// The classes: those of pods, that of [`any_pod`](Self::any_pod), and those of addresses. A [`ClassId`] is a place in this list.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a pod. `None` for one that is not in the snapshot, has finished, or shares its node's network.
    pub fn class_of(&self, pod: &PodKey) -> Option<ClassId> {
        self.class_of.get(pod).copied()
    }

    /// The class of an address that no pod has.
    pub fn class_of_address(&self, address: IpAddr) -> ClassId {
        self.outside[class::index(Family::of(address))].class_of(address)
    }

    /// The class of a pod without labels in a new namespace without labels, whose address is not known: what it may reach is
    /// open to every pod of the cluster. It has no members, and comes between the pods' classes and those of addresses.
    pub fn any_pod(&self) -> ClassId {
        self.any_pod
    }

    /// Whether policies isolate the pods of a class in a direction.
    pub fn is_isolated(&self, class: ClassId, direction: Direction) -> bool {
        self.classes.get(class as usize).is_some_and(|class| class.is_isolated(direction))
    }

    /// Whether the addresses of the pods of a class are not known, so that no block holds them.
    pub fn has_unknown_addresses(&self, class: ClassId) -> bool {
        self.classes.get(class as usize).is_some_and(|class| class.unknown_addresses)
    }

    /// What answers for pairs of classes.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs::new(&self.classes, &self.rows)
    }
}

#[cfg(test)]
mod tests;
