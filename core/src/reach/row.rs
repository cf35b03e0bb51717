//! What one direction allows, for each way of being isolated and each class at the other end.

use super::class::{Class, ClassId, class_id};
use super::term::{TermId, TermPolicy, TermRule, Terms};
use crate::model::{Direction, NamedPort};
use crate::net::{Family, PortRange, PortSet};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a set of ports; equal sets have equal numbers.
pub(super) type PortsId = u32;

/// The number of the set that is empty, and of the set of everything.
pub(super) const NONE: PortsId = 0;
pub(super) const ALL: PortsId = 1;

/// Sets of ports, each once.
#[derive(Clone, Debug)]
pub(super) struct PortSets {
    sets: Vec<PortSet>,
    ids: BTreeMap<PortSet, PortsId>,
    unions: BTreeMap<(PortsId, PortsId), PortsId>,
    intersections: BTreeMap<(PortsId, PortsId), PortsId>,
}

impl PortSets {
    fn new() -> PortSets {
        let mut sets = PortSets {
            sets: Vec::new(),
            ids: BTreeMap::new(),
            unions: BTreeMap::new(),
            intersections: BTreeMap::new(),
        };
        sets.id(PortSet::default());
        sets.id(PortSet::all());
        sets
    }

    pub(super) fn get(&self, id: PortsId) -> &PortSet {
        &self.sets[id as usize]
    }

    pub(super) fn id(&mut self, set: PortSet) -> PortsId {
        *self.ids.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            class_id(self.sets.len() - 1)
        })
    }

    fn union(&mut self, one: PortsId, other: PortsId) -> PortsId {
        match (one.min(other), one.max(other)) {
            (one, other) if one == other => one,
            (NONE, other) => other,
            (ALL, _) => ALL,
            pair => match self.unions.get(&pair) {
                Some(known) => *known,
                None => {
                    let union = self.get(pair.0).union(self.get(pair.1));
                    let id = self.id(union);
                    self.unions.insert(pair, id);
                    id
                }
            },
        }
    }

    pub(super) fn intersection(&mut self, one: PortsId, other: PortsId) -> PortsId {
        match (one.min(other), one.max(other)) {
            (one, other) if one == other => one,
            (NONE, _) => NONE,
            (ALL, other) => other,
            pair => match self.intersections.get(&pair) {
                Some(known) => *known,
                None => {
                    let both = self.get(pair.0).intersection(self.get(pair.1));
                    let id = self.id(both);
                    self.intersections.insert(pair, id);
                    id
                }
            },
        }
    }
}

/// What is allowed between some pods and each class: a set for most classes, and the exceptions.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    base: PortsId,
    /// In the order of the classes.
    exceptions: Vec<(ClassId, PortsId)>,
}

impl Row {
    pub(super) fn at(&self, class: ClassId) -> PortsId {
        match self.exceptions.binary_search_by_key(&class, |(class, _)| *class) {
            Ok(place) => self.exceptions[place].1,
            Err(_) => self.base,
        }
    }

    /// Writes what is allowed with each class into a list of all classes.
    pub(super) fn fill(&self, all: &mut [PortsId]) {
        all.fill(self.base);
        for (class, set) in &self.exceptions {
            all[*class as usize] = *set;
        }
    }
}

/// The number of a row.
pub(super) type RowId = usize;

/// All rows, and which is that of each class.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) sets: PortSets,
    /// In each of [`Family::BOTH`].
    rows: [Vec<Row>; 2],
    egress: Vec<RowId>,
    ingress: Vec<RowId>,
}

/// All that a row follows from: the policies that isolate, and for ingress the named ports, which are the isolated pod's.
type RowKey<'c> = (Direction, Option<&'c [usize]>, &'c [NamedPort]);

impl Rows {
    pub(super) fn of(terms: &Terms, classes: &[Class]) -> Rows {
        let mut keys: BTreeMap<RowKey<'_>, RowId> = BTreeMap::new();
        let mut row_of = |key| {
            let next = keys.len();
            *keys.entry(key).or_insert(next)
        };
        let egress = classes
            .iter()
            .map(|class| row_of((Direction::Egress, class.isolation.by(Direction::Egress), &[])));
        let egress = egress.collect();
        let ingress = classes.iter().map(|class| {
            let isolation = class.isolation.by(Direction::Ingress);
            let ports: &[NamedPort] = if isolation.is_some() { &class.ports } else { &[] };
            row_of((Direction::Ingress, isolation, ports))
        });
        let ingress = ingress.collect();
        let mut sets = PortSets::new();
        let mut ordered: Vec<(RowId, RowKey<'_>)> = keys.into_iter().map(|(key, id)| (id, key)).collect();
        ordered.sort_unstable_by_key(|(id, _)| *id);
        let rows = Family::BOTH.map(|family| {
            let mut writer = RowWriter::new(terms, classes, family, &mut sets);
            ordered.iter().map(|(_, key)| writer.row(*key)).collect()
        });
        Rows { sets, rows, egress, ingress }
    }

    pub(super) fn row(&self, family: usize, row: RowId) -> &Row {
        &self.rows[family][row]
    }

    pub(super) fn row_of(&self, direction: Direction, class: ClassId) -> RowId {
        match direction {
            Direction::Egress => self.egress[class as usize],
            Direction::Ingress => self.ingress[class as usize],
        }
    }
}

struct RowWriter<'a> {
    terms: &'a Terms,
    classes: &'a [Class],
    /// The classes of which each term holds.
    holders: Vec<Vec<ClassId>>,
    /// The classes that have a named port that some rule names.
    with_ports: Vec<ClassId>,
    sets: &'a mut PortSets,
    /// What is allowed with each class, while a row is written.
    all: Vec<PortsId>,
}

impl<'a> RowWriter<'a> {
    fn new(terms: &'a Terms, classes: &'a [Class], family: Family, sets: &'a mut PortSets) -> RowWriter<'a> {
        let mut holders = vec![Vec::new(); terms.count() as usize];
        let ids = (0..classes.len()).map(class_id);
        for (id, class) in ids.clone().zip(classes) {
            for term in class.terms(family).unwrap_or_default() {
                holders[*term as usize].push(id);
            }
        }
        let with_ports =
            ids.zip(classes).filter(|(_, class)| !class.ports.is_empty()).map(|(id, _)| id).collect();
        RowWriter { terms, classes, holders, with_ports, sets, all: vec![NONE; classes.len()] }
    }

    fn row(&mut self, (direction, isolating, ports): RowKey<'_>) -> Row {
        let Some(isolating) = isolating else { return Row { base: ALL, exceptions: Vec::new() } };
        let terms = self.terms;
        let policies = isolating.iter().filter_map(|place| terms.get(*place));
        let rules: Vec<&TermRule> =
            policies.flat_map(|policy: &TermPolicy| policy.rules(direction).unwrap_or_default()).collect();
        let mut base = NONE;
        for rule in rules.iter().filter(|rule| rule.peers.is_none()) {
            let set = self.by_number(direction, rule, ports);
            base = self.sets.union(base, set);
        }
        let mut touched: BTreeSet<ClassId> = BTreeSet::new();
        self.all.fill(base);
        for rule in rules {
            let set = self.by_number(direction, rule, ports);
            if let Some(peers) = &rule.peers {
                for class in holders(&self.holders, peers) {
                    self.all[class as usize] = self.sets.union(self.all[class as usize], set);
                    touched.insert(class);
                }
            }
            if direction == Direction::Egress && !rule.names.is_empty() {
                self.add_named(rule, &mut touched);
            }
        }
        let exceptions = touched.into_iter().map(|class| (class, self.all[class as usize]));
        Row { base, exceptions: exceptions.filter(|(_, set)| *set != base).collect() }
    }

    /// The ports of a rule that do not depend on the peer.
    fn by_number(&mut self, direction: Direction, rule: &TermRule, ports: &[NamedPort]) -> PortsId {
        match direction {
            Direction::Egress => self.sets.id(rule.ports.clone()),
            Direction::Ingress => self.sets.id(rule.ports.union(&named(rule, ports))),
        }
    }

    /// Adds the named ports of a rule for egress, which each destination resolves.
    fn add_named(&mut self, rule: &TermRule, touched: &mut BTreeSet<ClassId>) {
        let classes: Vec<ClassId> = match &rule.peers {
            None => self.with_ports.clone(),
            Some(peers) => holders(&self.holders, peers).collect(),
        };
        for class in classes {
            let resolved = named(rule, &self.classes[class as usize].ports);
            if !resolved.is_empty() {
                let resolved = self.sets.id(resolved);
                self.all[class as usize] = self.sets.union(self.all[class as usize], resolved);
                touched.insert(class);
            }
        }
    }
}

fn holders(all: &[Vec<ClassId>], terms: &[TermId]) -> impl Iterator<Item = ClassId> {
    terms.iter().flat_map(|term| all[*term as usize].iter().copied())
}

/// What the named ports of a rule are on a pod with these ports.
pub(super) fn named(rule: &TermRule, ports: &[NamedPort]) -> PortSet {
    let declared = ports.iter().filter(|port| {
        rule.names.iter().any(|(protocol, name)| *protocol == port.protocol && **name == *port.name)
    });
    let ranges = declared.filter_map(|port| Some(PortSet::of(port.protocol, PortRange::single(port.port)?)));
    ranges.fold(PortSet::default(), |all, one| all.union(&one))
}
