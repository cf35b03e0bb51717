//! Pods and addresses in classes that no policy can distinguish.

use super::address::{AddressSpace, PartId};
use super::term::{PodTerms, TermId, Terms};
use crate::model::{Direction, Labels, NamedPort, NamespaceName, Pod, PodKey, Snapshot};
use crate::net::{Family, IpNet};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The place of a class in [`Reach::classes`](super::Reach::classes).
pub type ClassId = u32;

/// What a class consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassMembers {
    /// Pods, in the order of their names; they may be in several namespaces.
    Pods(Vec<PodKey>),
    /// Addresses that no pod has, as prefixes in order. Pods' own addresses are not cut out of them.
    Addresses(Vec<IpNet>),
}

/// Pods, or addresses of one family, that no policy can distinguish: as ends of a connection they are all treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// What it consists of.
    pub members: ClassMembers,
    pub(super) isolation: Isolating,
    pub(super) unknown_addresses: bool,
    /// The terms that hold of it in each of [`Family::BOTH`]; `None` where it has no address.
    pub(super) terms: [Option<Vec<TermId>>; 2],
    /// Its named ports, of those that rules name.
    pub(super) ports: Vec<NamedPort>,
}

impl Class {
    /// The pods that it consists of; none if it consists of addresses.
    pub fn pods(&self) -> &[PodKey] {
        match &self.members {
            ClassMembers::Pods(pods) => pods,
            ClassMembers::Addresses(_) => &[],
        }
    }

    /// Whether its members have addresses of a family, or may have them.
    pub fn has(&self, family: Family) -> bool {
        self.terms[index(family)].is_some()
    }

    /// Whether policies isolate its members in a direction.
    pub fn is_isolated(&self, direction: Direction) -> bool {
        self.isolation.by(direction).is_some()
    }

    pub(super) fn terms(&self, family: Family) -> Option<&[TermId]> {
        self.terms[index(family)].as_deref()
    }
}

/// The policies that isolate a pod, as places in the list of all; `None` in a direction where none does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Isolating {
    pub(super) egress: Option<Vec<usize>>,
    pub(super) ingress: Option<Vec<usize>>,
}

impl Isolating {
    pub(super) fn by(&self, direction: Direction) -> Option<&[usize]> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }
}

pub(super) fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// Where a pod is in the addresses of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AddressPlace {
    /// It has none of this family.
    Nowhere,
    /// Its addresses are not known.
    Unknown,
    Part(PartId),
}

/// All that distinguishes a class of pods from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Signature {
    /// The number of what follows from namespace and labels.
    labelled: usize,
    ports: Vec<NamedPort>,
    positions: [AddressPlace; 2],
}

/// What follows from a pod's namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labelled {
    isolation: Isolating,
    terms: Vec<TermId>,
}

/// All classes, and the class of each pod.
pub(super) struct Classes {
    pub(super) classes: Vec<Class>,
    pub(super) class_of: BTreeMap<PodKey, ClassId>,
    /// In each of [`Family::BOTH`].
    pub(super) outside: [OutsideClasses; 2],
    /// The class of a pod that might be created in a new namespace, neither with labels.
    pub(super) any_pod: ClassId,
}

/// The classes of a family's addresses.
#[derive(Clone, Debug)]
pub(super) struct OutsideClasses {
    space: AddressSpace,
    /// The class of the space's first part; those of the others follow.
    first: ClassId,
}

impl OutsideClasses {
    pub(super) fn class_of(&self, address: IpAddr) -> ClassId {
        self.class(self.space.part_of(address))
    }

    pub(super) fn class(&self, part: PartId) -> ClassId {
        self.first + class_id(part)
    }

    pub(super) fn space(&self) -> &AddressSpace {
        &self.space
    }
}

impl Classes {
    pub(super) fn of(snapshot: &Snapshot, terms: &Terms) -> Classes {
        let spaces = Family::BOTH.map(|family| AddressSpace::of(family, terms.blocks()));
        let mut labelling = Labelling::new(snapshot, terms);
        let mut by_signature: BTreeMap<Signature, Vec<PodKey>> = BTreeMap::new();
        for (key, pod) in snapshot.pods.iter().filter(|(_, pod)| pod.networked && !pod.finished) {
            let signature = Signature {
                labelled: labelling.of_pod(pod),
                ports: ports_asked_for(terms, &pod.ports),
                positions: [position(&spaces[0], Family::V4, pod), position(&spaces[1], Family::V6, pod)],
            };
            by_signature.entry(signature).or_default().push(key.clone());
        }
        // In the order of the first pod of each, so that the order of classes depends on names alone.
        let mut found: Vec<(Signature, Vec<PodKey>)> = by_signature.into_iter().collect();
        found.sort_by(|(_, one), (_, other)| one.cmp(other));
        let mut classes: Vec<Class> = Vec::with_capacity(found.len());
        let mut class_of = BTreeMap::new();
        for (signature, pods) in found {
            let id = class_id(classes.len());
            class_of.extend(pods.iter().map(|pod| (pod.clone(), id)));
            let Labelled { isolation, terms } = &labelling.found[signature.labelled];
            let in_family = |space: &AddressSpace, position| match position {
                AddressPlace::Nowhere => None,
                AddressPlace::Unknown => Some(merged(terms, space.everywhere())),
                AddressPlace::Part(part) => Some(merged(terms, space.terms(part))),
            };
            let [v4, v6] = signature.positions;
            classes.push(Class {
                members: ClassMembers::Pods(pods),
                isolation: isolation.clone(),
                unknown_addresses: v4 == AddressPlace::Unknown,
                terms: [in_family(&spaces[0], v4), in_family(&spaces[1], v6)],
                ports: signature.ports,
            });
        }
        let known_anywhere = labelling.pod_terms.holding(&any_namespace(), &Labels::default());
        let any_pod = class_id(classes.len());
        classes.push(Class {
            members: ClassMembers::Pods(Vec::new()),
            isolation: Isolating::default(),
            unknown_addresses: true,
            terms: spaces.each_ref().map(|space| Some(merged(&known_anywhere, space.everywhere()))),
            ports: Vec::new(),
        });
        let outside = spaces.map(|space| {
            let first = class_id(classes.len());
            classes.extend(space.prefixes().into_iter().enumerate().map(|(part, prefixes)| {
                let mut terms = [None, None];
                terms[index(space.family())] = Some(space.terms(part).to_vec());
                let members = ClassMembers::Addresses(prefixes);
                Class {
                    members,
                    isolation: Isolating::default(),
                    unknown_addresses: false,
                    terms,
                    ports: Vec::new(),
                }
            }));
            OutsideClasses { space, first }
        });
        Classes { classes, class_of, outside, any_pod }
    }
}

/// The namespace of [`Classes::any_pod`]. A name that no namespace can have: the API server takes no capitals.
pub(super) fn any_namespace() -> NamespaceName {
    NamespaceName::new("ANY")
}

pub(super) fn class_id(place: usize) -> ClassId {
    ClassId::try_from(place).expect("there are fewer than four billion classes")
}

fn position(space: &AddressSpace, family: Family, pod: &Pod) -> AddressPlace {
    match pod.addresses.iter().find(|address| Family::of(**address) == family) {
        Some(address) => AddressPlace::Part(space.part_of(*address)),
        None if pod.addresses.is_empty() => AddressPlace::Unknown,
        None => AddressPlace::Nowhere,
    }
}

fn ports_asked_for(terms: &Terms, ports: &[NamedPort]) -> Vec<NamedPort> {
    let mut ports: Vec<NamedPort> =
        ports.iter().filter(|port| terms.asks_for_port(port.protocol, &port.name)).cloned().collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Terms of pods and terms of blocks, in order.
fn merged(pods: &[TermId], blocks: &[TermId]) -> Vec<TermId> {
    let mut terms = [pods, blocks].concat();
    terms.sort_unstable();
    terms
}

/// Finds what follows from labels, once for each set of those that selectors ask for.
struct Labelling<'t> {
    terms: &'t Terms,
    pod_terms: PodTerms<'t>,
    known: BTreeMap<NamespaceName, BTreeMap<Labels, usize>>,
    numbers: BTreeMap<Labelled, usize>,
    found: Vec<Labelled>,
}

impl<'t> Labelling<'t> {
    fn new(snapshot: &'t Snapshot, terms: &'t Terms) -> Labelling<'t> {
        let pod_terms = PodTerms::new(snapshot, terms);
        Labelling { terms, pod_terms, known: BTreeMap::new(), numbers: BTreeMap::new(), found: Vec::new() }
    }

    fn of_pod(&mut self, pod: &Pod) -> usize {
        let key = &pod.key;
        let labels = pod.labels.restricted_to(|key| self.terms.asks_for(key));
        if let Some(number) = self.known.get(&key.namespace).and_then(|known| known.get(&labels)) {
            return *number;
        }
        let by = |direction| {
            let policies = self.terms.policies_in(&key.namespace);
            let isolating =
                policies.filter(|(_, policy)| policy.rules(direction).is_some() && policy.selects(&labels));
            let places: Vec<usize> = isolating.map(|(place, _)| place).collect();
            (!places.is_empty()).then_some(places)
        };
        let isolation = Isolating { egress: by(Direction::Egress), ingress: by(Direction::Ingress) };
        let terms = self.pod_terms.holding(&key.namespace, &labels);
        let number = self.number(Labelled { isolation, terms });
        self.known.entry(key.namespace.clone()).or_default().insert(labels, number);
        number
    }

    fn number(&mut self, labelled: Labelled) -> usize {
        *self.numbers.entry(labelled).or_insert_with_key(|labelled| {
            self.found.push(labelled.clone());
            self.found.len() - 1
        })
    }
}
