//! Lists of changes between two examples.

use crate::By;
use crate::connection_list::addresses;
use crate::example::{Compared, Example, name_of};
use crate::notation::{Theirs, end, ports};
use bridgewarden::model::{PodKey, Workload};
use bridgewarden::net::{Family, PortSet};
use bridgewarden::reach::{Difference, EndGroup, PairDifference, ReachName, ReachState};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The old and the new ports of a line.
type Change = (PortSet, PortSet);

fn expected_difference(text: &str) -> By<Change> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let field = |name: &str| {
            let start = line.find(name)? + name.len();
            let rest = &line[start..];
            let ends =
                [", destination: ", ", ref1: ", ", ref2: ", ", dir1: ", ", dir2: ", ", workloads-diff-info"];
            let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
            Some(&rest[..end])
        };
        let (Some(source), Some(destination)) = (field("source: "), field("destination: ")) else { continue };
        let (Some(old), Some(new)) = (field("ref1: "), field("ref2: ")) else { continue };
        if let (Some(source), Some(destination)) = (end(source), end(destination)) {
            found.insert((source, destination), (ports(old), ports(new)));
        }
    }
    found
}

/// What our difference says of two ends.
fn our_difference(difference: &Difference) -> BTreeMap<(usize, usize), Change> {
    let v4 = |pair: &PairDifference| {
        let family = pair.families.iter().find(|family| family.family == Family::V4)?;
        let of = |ports: &PortSet| ports.intersection(&PortSet::every_port());
        let change = (of(&family.old), of(&family.new));
        (change.0 != change.1).then_some(((pair.from, pair.to), change))
    };
    difference.pairs.iter().filter_map(v4).collect()
}

/// The group of each workload, under the name that the other project gives it.
fn groups_by_name(difference: &Difference, examples: [&Example; 2]) -> BTreeMap<String, usize> {
    let mut of_pod: BTreeMap<PodKey, String> = BTreeMap::new();
    let mut of_workload: BTreeMap<Workload, String> = BTreeMap::new();
    for example in examples {
        for (key, pod) in &example.snapshot.pods {
            of_pod.insert(key.clone(), name_of(pod));
            of_workload.insert(Workload::of(pod), name_of(pod));
        }
    }
    let mut names = BTreeMap::new();
    for (place, group) in difference.groups.iter().enumerate() {
        for end in &group.ends {
            match end {
                ReachName::Workload { workload, part } => {
                    let name =
                        part.first().and_then(|pod| of_pod.get(pod)).or_else(|| of_workload.get(workload));
                    names.insert(name.expect("a workload of an example").clone(), place);
                }
                ReachName::Outside { .. } => {}
            }
        }
    }
    names
}

/// Compares a list with what changes between two examples.
pub(crate) fn compare(old: &Example, new: &Example, text: &str) -> Compared {
    let difference = Difference::between(
        ReachState { snapshot: &old.snapshot, reach: &old.reach },
        ReachState { snapshot: &new.snapshot, reach: &new.reach },
    );
    let names = groups_by_name(&difference, [old, new]);
    let ours = our_difference(&difference);
    let expected = expected_difference(text);
    let group_of_address = |address: Ipv4Addr| {
        let classes = [old, new].map(|example| example.reach.class_of_address(IpAddr::V4(address)));
        let at = |group: &EndGroup| {
            (group.old, group.new) == (Some(classes[0]), Some(classes[1]))
                && group.ends.iter().all(ReachName::is_outside)
        };
        difference.groups.iter().position(at).expect("every address is in a group")
    };
    let ranges = || expected.keys().flat_map(|(from, to)| [from.clone(), to.clone()]);
    let mut points = addresses(&old.reach, ranges());
    points.extend(addresses(&new.reach, ranges()));
    let theirs = |from: &dyn Fn(&Theirs) -> bool, to: &dyn Fn(&Theirs) -> bool| {
        let found = expected.iter().find(|((source, destination), _)| from(source) && to(destination));
        found.map(|(_, change)| change.clone())
    };
    let mut compared = Compared::default();
    let mut compare = |what: String, place: (usize, usize), theirs: Option<Change>| {
        compared.pairs += 1;
        let ours = ours.get(&place).cloned();
        if ours != theirs {
            let words = |change: Option<Change>| change.map(|(old, new)| format!("{old} to {new}"));
            compared.differing.push(format!("{what}: ours {:?}, theirs {:?}", words(ours), words(theirs)));
        }
    };
    let is = |name: &str| {
        let name = name.to_owned();
        move |end: &Theirs| *end == Theirs::Workload(name.clone())
    };
    let holds = |address: Ipv4Addr| move |end: &Theirs| matches!(end, Theirs::Range(first, last) if (*first..=*last).contains(&address));
    for (from, from_group) in &names {
        for (to, to_group) in names.iter().filter(|(to, _)| *to != from) {
            compare(format!("{from} => {to}"), (*from_group, *to_group), theirs(&is(from), &is(to)));
        }
        for point in &points {
            let outside = group_of_address(*point);
            compare(format!("{point} => {from}"), (outside, *from_group), theirs(&holds(*point), &is(from)));
            compare(format!("{from} => {point}"), (*from_group, outside), theirs(&is(from), &holds(*point)));
        }
    }
    compared
}
