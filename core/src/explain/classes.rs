//! Which ends a name of a question stands for, in classes that policies cannot distinguish, and which of them are connected.

use super::case::{AskedPort, CaseEnd};
use super::ends::{
    CaseMembers, EndClass, blocks_in, ends_of_node, ends_of_pod, keys_in_use, signature, uncut,
    usual_families,
};
use super::lookup::{FoundName, Lookup, LookupError};
use super::question::{DestinationName, EndName};
use super::snapshot_judge::SnapshotJudge;
use crate::model::{Block, Pod};
use crate::net::{Family, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The classes of one end. `asked` is the destination with its port, if this is the destination.
pub(super) fn classes<'s>(
    judge: &SnapshotJudge<'s>,
    lookup: &Lookup<'s, '_>,
    found: &FoundName<'s>,
    other: &FoundName<'s>,
    asked: Option<&DestinationName>,
) -> Result<Vec<EndClass>, LookupError> {
    let snapshot = judge.snapshot();
    let usual = usual_families(snapshot, other);
    let port_of =
        |pod: Option<&Pod>| asked.map_or(Ok(AskedPort::Any), |asked| lookup.port(asked, found, pod));
    let blocks = blocks_in(snapshot, other);
    let (ends, members) = match found {
        FoundName::Pod(_) | FoundName::Workload(_) | FoundName::Service(..) => {
            // A node's own pods are open to it, and so to pods on its network.
            let nodes_matter =
                matches!(other, FoundName::Node(..)) || other.pods().iter().any(|pod| !pod.networked);
            return of_pods(judge, found, &usual, &blocks, nodes_matter, port_of);
        }
        FoundName::Node(name, Some(address)) => {
            let end = CaseEnd::Node { name: Some(name.clone()), address: Some(*address) };
            (BTreeMap::from([(Family::of(*address), end)]), CaseMembers::Itself)
        }
        FoundName::Node(name, None) => (ends_of_node(snapshot, name, &usual), CaseMembers::Itself),
        FoundName::Address(address) => (at_address(judge, *address), CaseMembers::Itself),
        FoundName::Block(prefix) => {
            let port = port_of(None)?;
            let parts = uncut(*prefix, &blocks).into_iter();
            let class = |part| {
                let end = CaseEnd::Address(free_address(judge, part));
                let ends = BTreeMap::from([(Family::of_net(part), end)]);
                EndClass { ends, second: BTreeMap::new(), members: CaseMembers::Blocks(vec![part]), port }
            };
            return Ok(parts.map(class).collect());
        }
    };
    Ok(vec![EndClass { ends, second: BTreeMap::new(), members, port: port_of(None)? }])
}

/// The end at an address: the pod that holds it alone, or the address.
fn at_address(judge: &SnapshotJudge<'_>, address: IpAddr) -> BTreeMap<Family, CaseEnd> {
    let end = match judge.holders(address) {
        [pod] => CaseEnd::Pod { key: pod.key.clone(), address: Some(address) },
        _ => CaseEnd::Address(address),
    };
    BTreeMap::from([(Family::of(address), end)])
}

/// An address of a prefix that no pod holds, as far as one is found soon.
fn free_address(judge: &SnapshotJudge<'_>, prefix: IpNet) -> IpAddr {
    const TRIES: usize = 4096;
    let mut hosts = prefix.hosts().take(TRIES);
    hosts.find(|address| judge.holders(*address).is_empty()).unwrap_or(prefix.addr())
}

fn of_pods(
    judge: &SnapshotJudge<'_>,
    found: &FoundName<'_>,
    usual: &BTreeSet<Family>,
    blocks: &[&Block],
    nodes_matter: bool,
    port_of: impl Fn(Option<&Pod>) -> Result<AskedPort, LookupError>,
) -> Result<Vec<EndClass>, LookupError> {
    let keys = keys_in_use(judge.snapshot());
    let (mut classes, mut without_port) = (BTreeMap::new(), None);
    for pod in found.pods() {
        let port = match port_of(Some(pod)) {
            // Such a pod is no endpoint of the Service.
            Err(error @ LookupError::PodPort { .. }) if matches!(found, FoundName::Service(..)) => {
                without_port = Some(error);
                continue;
            }
            port => port?,
        };
        // A pod at an address with another is answered for with it.
        let contested = pod.addresses.iter().any(|address| judge.holders(*address).len() > 1);
        let key = (contested.then_some(&pod.key), signature(pod, port, blocks, &keys, nodes_matter));
        let class: &mut EndClass = classes.entry(key).or_insert_with(|| EndClass {
            ends: BTreeMap::new(),
            second: BTreeMap::new(),
            members: CaseMembers::Pods(Vec::new()),
            port,
        });
        if let CaseMembers::Pods(members) = &mut class.members {
            members.push(pod.key.clone());
            match members.len() {
                1 => class.ends = ends_of_pod(judge.snapshot(), pod, usual),
                2 => class.second = ends_of_pod(judge.snapshot(), pod, usual),
                _ => {}
            }
        }
    }
    match without_port {
        Some(error) if classes.is_empty() => Err(error),
        _ => Ok(classes.into_values().collect()),
    }
}

/// Keeps the families of an address that is asked about, or of the addresses of a Service.
pub(super) fn keep_families(classes: &mut [EndClass], name: &EndName, found: &FoundName<'_>) {
    let families: BTreeSet<Family> = match (name, found) {
        (EndName::Address(address), _) => BTreeSet::from([Family::of(*address)]),
        (EndName::Block(block), _) => BTreeSet::from([Family::of_net(*block)]),
        (EndName::Object { .. }, FoundName::Service(service, _)) => {
            service.addresses.iter().map(|address| Family::of(*address)).collect()
        }
        (EndName::Object { .. }, _) => return,
    };
    if !families.is_empty() {
        for class in classes {
            class.ends.retain(|family, _| families.contains(family));
        }
    }
}

/// An end of each of two classes, and not twice the same pod if another one of a class is there: policies never restrict what a pod
/// sends to itself.
pub(super) fn two_ends<'c>(
    source: &'c EndClass,
    destination: &'c EndClass,
    family: Family,
) -> Option<(&'c CaseEnd, &'c CaseEnd)> {
    let (one, other) = (source.ends.get(&family)?, destination.ends.get(&family)?);
    if one != other {
        return Some((one, other));
    }
    match (source.second.get(&family), destination.second.get(&family)) {
        (_, Some(second)) => Some((one, second)),
        (Some(second), None) => Some((second, other)),
        (None, None) => Some((one, other)),
    }
}

/// The members of two classes between which connections are: a pod alone is not among its other ends.
pub(super) fn others(sources: &CaseMembers, destinations: &CaseMembers) -> (CaseMembers, CaseMembers) {
    let without = |all: &CaseMembers, alone: &CaseMembers| match (all, alone) {
        (CaseMembers::Pods(all), CaseMembers::Pods(alone)) if all.len() > 1 && alone.len() == 1 => {
            CaseMembers::Pods(all.iter().filter(|key| !alone.contains(key)).cloned().collect())
        }
        _ => all.clone(),
    };
    (without(sources, destinations), without(destinations, sources))
}
