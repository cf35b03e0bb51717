//! The answer for a pair of classes.

use super::class::{Class, ClassId, index};
use super::row::{NONE, PortSets, PortsId, RowId, Rows};
use crate::model::Direction;
use crate::net::{Family, PortSet};

/// What is allowed from one class to another, by family; `None` where one of them has no address of it, so that there is no
/// connection to allow. Between two members of one class, which must be two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connectivity {
    v4: Option<PortsId>,
    v6: Option<PortsId>,
}

impl Connectivity {
    fn of(self, family: Family) -> Option<PortsId> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// What is allowed in the families of both; in one that both have, what the first allows.
    pub fn or(self, other: Connectivity) -> Connectivity {
        Connectivity { v4: self.v4.or(other.v4), v6: self.v6.or(other.v6) }
    }

    /// Whether nothing is allowed in either family.
    pub fn is_empty(self) -> bool {
        [self.v4, self.v6].iter().flatten().all(|set| *set == NONE)
    }
}

/// Answers for pairs of classes. It keeps what it has intersected, so use one for many.
#[derive(Clone, Debug)]
pub struct Pairs<'r> {
    classes: &'r [Class],
    rows: &'r Rows,
    sets: PortSets,
    /// For each family, the egress row that was written out last and what it allows with each class.
    source: [Option<(RowId, Vec<PortsId>)>; 2],
}

impl<'r> Pairs<'r> {
    pub(super) fn new(classes: &'r [Class], rows: &'r Rows) -> Pairs<'r> {
        Pairs { classes, rows, sets: rows.sets.clone(), source: [None, None] }
    }

    /// What is allowed from one class to another. Quickest if all destinations of a source are asked one after the other.
    pub fn between(&mut self, from: ClassId, to: ClassId) -> Connectivity {
        let [v4, v6] = Family::BOTH.map(|family| self.in_family(family, from, to));
        Connectivity { v4, v6 }
    }

    fn in_family(&mut self, family: Family, from: ClassId, to: ClassId) -> Option<PortsId> {
        let has = |class: ClassId| self.classes.get(class as usize).is_some_and(|class| class.has(family));
        if !has(from) || !has(to) {
            return None;
        }
        let place = index(family);
        let row = self.rows.row_of(Direction::Egress, from);
        let known = self.source[place].as_ref().is_some_and(|(known, _)| *known == row);
        if !known {
            let (_, mut all) = self.source[place].take().unwrap_or_default();
            all.resize(self.classes.len(), NONE);
            self.rows.row(place, row).fill(&mut all);
            self.source[place] = Some((row, all));
        }
        let egress = self.source[place].as_ref().map_or(NONE, |(_, all)| all[to as usize]);
        let ingress = self.rows.row(place, self.rows.row_of(Direction::Ingress, to)).at(from);
        Some(self.sets.intersection(egress, ingress))
    }

    /// The connections of an answer in a family. `None` where there is none of this family.
    pub fn ports(&self, answer: Connectivity, family: Family) -> Option<&PortSet> {
        answer.of(family).map(|id| self.sets.get(id))
    }
}
