//! The sets of a packet filter, in a form in which many addresses can be looked up.

use crate::net::{Family, IpNet, Protocol};
use crate::netfilter::ipset::{Element, Set, Type};
use crate::netfilter::nftables::{self, KeyPart, SetPurpose};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a set says of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressSet {
    /// It holds these addresses.
    Hosts(BTreeSet<IpAddr>),
    /// It holds what these prefixes say, the longest first: those with `true` are exceptions.
    Prefixes(BTreeMap<u8, BTreeMap<IpNet, bool>>),
    /// It holds the addresses between a first, which is the key, and a last one.
    Ranges(BTreeMap<IpAddr, IpAddr>),
    /// It holds ports of addresses.
    Ports(BTreeMap<IpAddr, Vec<(Protocol, u16)>>),
    /// It says nothing of addresses.
    Other,
}

impl AddressSet {
    /// A set of ipset.
    pub(super) fn of_ipset(set: &Set) -> AddressSet {
        match set.kind.of {
            Type::HashIp => AddressSet::Hosts(
                set.elements
                    .iter()
                    .filter_map(|element| match element {
                        Element::Address(address) => Some(*address),
                        Element::Net { .. } | Element::AddressPort(..) => None,
                    })
                    .collect(),
            ),
            Type::HashNet => {
                let mut prefixes: BTreeMap<u8, BTreeMap<IpNet, bool>> = BTreeMap::new();
                for element in &set.elements {
                    if let Element::Net { net, nomatch } = element {
                        prefixes.entry(net.prefix_len()).or_default().insert(net.trunc(), *nomatch);
                    }
                }
                AddressSet::Prefixes(prefixes)
            }
            Type::HashIpPort => {
                let mut ports: BTreeMap<IpAddr, Vec<(Protocol, u16)>> = BTreeMap::new();
                for element in &set.elements {
                    if let Element::AddressPort(address, protocol, port) = element {
                        ports.entry(*address).or_default().push((*protocol, *port));
                    }
                }
                AddressSet::Ports(ports)
            }
        }
    }

    /// A set or map of nf_tables.
    pub(super) fn of_nftables(set: &nftables::Set) -> AddressSet {
        let keys = || set.elements.keys();
        match (set.kind.key.as_slice(), &set.kind.purpose) {
            ([KeyPart::Ipv4 | KeyPart::Ipv6], SetPurpose::Set | SetPurpose::VerdictMap) => {
                AddressSet::Hosts(keys().filter_map(address).collect())
            }
            ([KeyPart::Ipv4 | KeyPart::Ipv6], SetPurpose::Intervals) => {
                let range = |key: &[u8]| {
                    let (first, last) = key.split_at(key.len() / 2);
                    Some((address(first)?, address(last)?))
                };
                AddressSet::Ranges(keys().filter_map(range).collect())
            }
            (
                [part @ (KeyPart::Ipv4 | KeyPart::Ipv6), KeyPart::Protocol, KeyPart::Service],
                SetPurpose::Set,
            ) => {
                let length = part.length() as usize;
                let mut ports: BTreeMap<IpAddr, Vec<(Protocol, u16)>> = BTreeMap::new();
                for key in keys() {
                    if let Some((address, port)) = address_port(key, length) {
                        ports.entry(address).or_default().push(port);
                    }
                }
                AddressSet::Ports(ports)
            }
            _ => AddressSet::Other,
        }
    }

    /// Whether it holds an address, or for a set of ports the address with this port.
    pub(super) fn contains(&self, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        match self {
            AddressSet::Hosts(hosts) => hosts.contains(&address),
            AddressSet::Prefixes(prefixes) => prefixes
                .iter()
                .rev()
                .find_map(|(length, nets)| {
                    let net = IpNet::new(address, *length).ok()?.trunc();
                    nets.get(&net).map(|nomatch| !nomatch)
                })
                .unwrap_or(false),
            AddressSet::Ranges(ranges) => {
                let before = ranges.range(..=address).next_back();
                before.is_some_and(|(first, last)| {
                    Family::of(*first) == Family::of(address) && *last >= address
                })
            }
            AddressSet::Ports(ports) => {
                port.is_some_and(|port| ports.get(&address).is_some_and(|own| own.contains(&port)))
            }
            AddressSet::Other => false,
        }
    }

    /// The ports that it holds of an address.
    pub(super) fn ports(&self, address: IpAddr) -> &[(Protocol, u16)] {
        match self {
            AddressSet::Ports(ports) => ports.get(&address).map_or(&[], Vec::as_slice),
            AddressSet::Hosts(_) | AddressSet::Prefixes(_) | AddressSet::Ranges(_) | AddressSet::Other => &[],
        }
    }

    /// The single addresses that it names.
    pub(super) fn hosts(&self) -> Box<dyn Iterator<Item = IpAddr> + '_> {
        match self {
            AddressSet::Hosts(hosts) => Box::new(hosts.iter().copied()),
            AddressSet::Ports(ports) => Box::new(ports.keys().copied()),
            AddressSet::Prefixes(_) | AddressSet::Ranges(_) | AddressSet::Other => {
                Box::new(std::iter::empty())
            }
        }
    }

    /// The addresses from which on it may say something else than of the address before.
    pub(super) fn edges(&self, edges: &mut BTreeSet<IpAddr>) {
        match self {
            AddressSet::Prefixes(prefixes) => {
                prefixes.values().flat_map(BTreeMap::keys).for_each(|net| edges_of_prefix(*net, edges));
            }
            AddressSet::Ranges(ranges) => {
                for (first, last) in ranges {
                    edges.insert(*first);
                    edges.extend(next(*last));
                }
            }
            AddressSet::Hosts(_) | AddressSet::Ports(_) | AddressSet::Other => {}
        }
    }
}

/// The first address of a prefix, and the first behind it.
pub(super) fn edges_of_prefix(net: IpNet, edges: &mut BTreeSet<IpAddr>) {
    edges.insert(net.network());
    edges.extend(next(net.broadcast()));
}

/// The address behind this one in its family.
pub(super) fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|bits| Ipv6Addr::from(bits).into()),
    }
}

/// An address as the bytes of a key.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The parts of a key of address, protocol and port; each is padded to four bytes.
fn address_port(key: &[u8], length: usize) -> Option<(IpAddr, (Protocol, u16))> {
    let protocol = Protocol::from_number(*key.get(length)?)?;
    let port = <[u8; 2]>::try_from(key.get(length + 4..length + 6)?).ok()?;
    Some((address(key.get(..length)?)?, (protocol, u16::from_be_bytes(port))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::ipset::Kind;

    #[test]
    fn longest_prefix_decides() {
        let net = |text: &str, nomatch| Element::Net { net: text.parse().unwrap(), nomatch };
        let elements = [net("10.0.0.0/8", false), net("10.1.0.0/16", true), net("10.1.2.3/32", false)].into();
        let set = Set { kind: Kind { of: Type::HashNet, family: Family::V4 }, elements };
        let index = AddressSet::of_ipset(&set);
        for text in ["10.2.0.1", "10.1.0.1", "10.1.2.3", "11.0.0.1", "::1"] {
            let address = text.parse().unwrap();
            assert_eq!(index.contains(address, None), set.contains(address, None), "{text}");
        }
        let mut edges = BTreeSet::new();
        index.edges(&mut edges);
        let wanted = ["10.0.0.0", "10.1.0.0", "10.1.2.3", "10.1.2.4", "10.2.0.0", "11.0.0.0"];
        assert_eq!(edges, wanted.iter().map(|text| text.parse().unwrap()).collect());
    }
}
