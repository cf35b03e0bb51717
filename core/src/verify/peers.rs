//! The classes of peers that policies or rules of the kernel can distinguish, by an address of each.

use super::address_sets::{edges_of_prefix, next};
use super::{AddressSet, Expectation, Holder};
use crate::net::{Family, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All that can distinguish an address from another, as a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PeerTraits<'e> {
    /// Of a pod of this node, the address itself: each has rules of its own.
    local: Option<IpAddr>,
    holders: &'e [Holder],
    /// The sets that name the address, by number.
    sets: Vec<usize>,
    /// The last edge before the address.
    edge: Option<IpAddr>,
}

/// An address of each class of peers of a family: those of this node's pods one by one, those of other pods by group and by the
/// sets that they are in, and of all others one between each two edges of prefixes.
pub(super) fn peer_classes(
    family: Family,
    expectation: &Expectation,
    sets: &BTreeMap<Box<str>, AddressSet>,
    prefixes: impl Iterator<Item = IpNet>,
) -> Vec<IpAddr> {
    let is_of_family = |address: &IpAddr| Family::of(*address) == family;
    let mut edges = BTreeSet::from([match family {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }]);
    sets.values().for_each(|set| set.edges(&mut edges));
    expectation.blocks().chain(prefixes).for_each(|net| edges_of_prefix(net, &mut edges));
    edges.retain(is_of_family);
    let mut named: Vec<(IpAddr, usize)> = Vec::new();
    for (number, set) in sets.values().enumerate() {
        named.extend(set.hosts().filter(is_of_family).map(|address| (address, number)));
    }
    // A set of ports can name an address in several ways.
    let mut ports: BTreeMap<(usize, Vec<(crate::net::Protocol, u16)>), usize> = BTreeMap::new();
    let count = sets.len();
    for (number, set) in sets.values().enumerate() {
        if let AddressSet::Ports(of) = set {
            for (address, own) in of.iter().filter(|(address, _)| is_of_family(address)) {
                let next = count + ports.len();
                let number = *ports.entry((number, own.clone())).or_insert(next);
                named.push((*address, number));
            }
        }
    }
    named.sort_unstable();
    let mut classes: BTreeMap<PeerTraits<'_>, IpAddr> = BTreeMap::new();
    let mut known: BTreeSet<IpAddr> = BTreeSet::new();
    let mut add = |address: IpAddr, holders, sets: Vec<usize>, known: &mut BTreeSet<IpAddr>| {
        known.insert(address);
        let local = expectation.is_local(address).then_some(address);
        let edge = edges.range(..=address).next_back().copied();
        classes.entry(PeerTraits { local, holders, sets, edge }).or_insert(address);
    };
    let sets_of = |address: IpAddr| -> Vec<usize> {
        let start = named.partition_point(|(own, _)| *own < address);
        named[start..].iter().take_while(|(own, _)| *own == address).map(|(_, set)| *set).collect()
    };
    for (address, holders) in expectation.holders().filter(|(address, _)| is_of_family(address)) {
        add(address, holders, sets_of(address), &mut known);
    }
    for address in named.iter().map(|(address, _)| *address) {
        if !known.contains(&address) {
            add(address, &[], sets_of(address), &mut known);
        }
    }
    let ends: Vec<Option<IpAddr>> = edges.iter().skip(1).copied().map(Some).chain([None]).collect();
    let mut outside: Vec<IpAddr> = Vec::new();
    for (start, end) in edges.iter().zip(ends) {
        outside.extend(outside_between(*start, end, &known));
    }
    // Those that no pod of this node has come first.
    let (local, others): (Vec<IpAddr>, Vec<IpAddr>) =
        classes.into_values().partition(|address| expectation.is_local(*address));
    outside.into_iter().chain(others).chain(local).collect()
}

/// An address from one on and before another that is in no set and that no pod has.
fn outside_between(start: IpAddr, end: Option<IpAddr>, known: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let is_free = |address: &IpAddr| {
        *address >= start && end.is_none_or(|end| *address < end) && !known.contains(address)
    };
    let usual: IpAddr = match start {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 7).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
    };
    if is_free(&usual) {
        return Some(usual);
    }
    let first = if start.is_unspecified() { next(start)? } else { start };
    // At most as many are taken as are known.
    std::iter::successors(Some(first), |address| next(*address))
        .take_while(|address| end.is_none_or(|end| *address < end))
        .take(known.len() + 1)
        .find(is_free)
}
