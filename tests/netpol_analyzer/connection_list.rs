//! Lists of connections: `default/web[Deployment] => 10.0.0.0-10.255.255.255[External] : TCP 80`.

use crate::By;
use crate::example::{Compared, Example, name_of};
use crate::notation::{Theirs, end, ports};
use bridgewarden::net::{Family, PortSet};
use bridgewarden::reach::{ClassId, ClassMembers, Reach};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// The connections of a list by their ends.
fn expected_list(text: &str) -> By<PortSet> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((source, rest)) = line.split_once(" => ") else { continue };
        let Some((destination, allowed)) = rest.split_once(" : ") else { continue };
        if let (Some(source), Some(destination)) = (end(source), end(destination)) {
            found.insert((source, destination), ports(allowed));
        }
    }
    found
}

/// Addresses at which either project may begin to answer differently.
pub(crate) fn addresses(reach: &Reach, theirs: impl Iterator<Item = Theirs>) -> BTreeSet<Ipv4Addr> {
    let prefixes = reach.classes().iter().filter_map(|class| match &class.members {
        ClassMembers::Addresses(prefixes) => Some(prefixes),
        ClassMembers::Pods(_) => None,
    });
    let ours = prefixes.flatten().filter_map(|prefix| match prefix.network() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let theirs = theirs.flat_map(|end| match end {
        Theirs::Range(first, last) => vec![first, last],
        Theirs::Workload(_) => Vec::new(),
    });
    ours.chain(theirs).collect()
}

/// What the other project expects between ends, where each range of addresses is asked by one of its addresses.
struct Expected {
    /// By workloads.
    between: BTreeMap<(String, String), PortSet>,
    /// From ranges, by the workload.
    from: BTreeMap<String, Vec<(Ipv4Addr, Ipv4Addr, PortSet)>>,
    /// To ranges.
    to: BTreeMap<String, Vec<(Ipv4Addr, Ipv4Addr, PortSet)>>,
}

impl Expected {
    fn new(list: By<PortSet>) -> Expected {
        let mut expected = Expected { between: BTreeMap::new(), from: BTreeMap::new(), to: BTreeMap::new() };
        for (ends, ports) in list {
            match ends {
                (Theirs::Workload(from), Theirs::Workload(to)) => {
                    expected.between.insert((from, to), ports);
                }
                (Theirs::Range(first, last), Theirs::Workload(to)) => {
                    expected.from.entry(to).or_default().push((first, last, ports));
                }
                (Theirs::Workload(from), Theirs::Range(first, last)) => {
                    expected.to.entry(from).or_default().push((first, last, ports));
                }
                (Theirs::Range(..), Theirs::Range(..)) => {}
            }
        }
        expected
    }

    fn at(ranges: Option<&Vec<(Ipv4Addr, Ipv4Addr, PortSet)>>, address: Ipv4Addr) -> PortSet {
        let ranges = ranges.into_iter().flatten();
        let holding = ranges.filter(|(first, last, _)| (*first..=*last).contains(&address));
        holding.fold(PortSet::default(), |all, (_, _, ports)| all.union(ports))
    }
}

/// Compares a list with what is allowed in an example.
pub(crate) fn compare(example: &Example, text: &str) -> Compared {
    let list = expected_list(text);
    let ends = list.keys().flat_map(|(from, to)| [from.clone(), to.clone()]);
    let addresses = addresses(&example.reach, ends);
    let expected = Expected::new(list);
    let workloads = example.workloads();
    let mut pairs = example.reach.pairs();
    let mut open = |from: &BTreeSet<ClassId>, to: &BTreeSet<ClassId>| {
        let mut all = PortSet::default();
        for from in from {
            for to in to {
                let answer = pairs.between(*from, *to);
                all = pairs.ports(answer, Family::V4).map_or(all.clone(), |ports| all.union(ports));
            }
        }
        all
    };
    let none = PortSet::default();
    let mut compared = Compared::default();
    for (from, from_classes) in &workloads {
        for (to, to_classes) in workloads.iter().filter(|(to, _)| *to != from) {
            let theirs = expected.between.get(&(from.clone(), to.clone())).unwrap_or(&none);
            compared.compare(&format!("{from} => {to}"), &open(from_classes, to_classes), theirs);
        }
        for address in &addresses {
            let outside = BTreeSet::from([example.reach.class_of_address(IpAddr::V4(*address))]);
            let theirs = Expected::at(expected.to.get(from), *address);
            compared.compare(&format!("{from} => {address}"), &open(from_classes, &outside), &theirs);
            let theirs = Expected::at(expected.from.get(from), *address);
            compared.compare(&format!("{address} => {from}"), &open(&outside, from_classes), &theirs);
        }
    }
    for (from, to) in expected.between.keys() {
        for name in [from, to].into_iter().filter(|name| !workloads.contains_key(*name)) {
            // Pods on their node's network, and finished ones, have no row in our table.
            let is_left_out = (example.snapshot.pods.values())
                .any(|pod| name_of(pod) == *name && (!pod.networked || pod.finished));
            if !is_left_out {
                compared.differing.push(format!("{name} is not there"));
            }
        }
    }
    compared
}
