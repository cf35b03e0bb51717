//! The chains and elements of one port.

use super::BridgeElement;
use super::fields::{
    Asks, ETHER_SOURCE, IPV4, IPV4_DESTINATION, IPV4_SOURCE, IPV6, IPV6_DESTINATION, IPV6_SOURCE,
};
use super::fixed::{self, goto};
use crate::compile::{Bound, PortBinding};
use crate::net::{Family, octets};
use crate::netfilter::nftables::{Change, Elements, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The chains and elements of a port in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortRules {
    /// The port's own chains.
    pub(super) chains: BTreeMap<Box<str>, Vec<Rule>>,
    /// Elements of shared sets and maps.
    pub(super) elements: Vec<BridgeElement>,
}

const OWN_CHAINS: [&str; 2] = ["from-", "to-"];

impl PortRules {
    /// The rules of the port with this index.
    pub(super) fn of(index: u32, binding: &PortBinding) -> PortRules {
        let key: Box<[u8]> = index.to_ne_bytes().as_slice().into();
        match binding {
            PortBinding::Unbound => PortRules {
                chains: BTreeMap::new(),
                elements: vec![
                    ("from", key.clone(), Some(goto(fixed::FROM_UNBOUND))),
                    ("to", key.clone(), Some(goto(fixed::TO_UNBOUND))),
                    (fixed::POD_PORTS, key.clone(), None),
                    ("egress", key, None),
                ],
            },
            PortBinding::Bound(bound) => {
                let [from, to] = OWN_CHAINS.map(|prefix| format!("{prefix}{index}"));
                let mut elements = vec![
                    ("from", key.clone(), Some(goto(&from))),
                    ("to", key.clone(), Some(goto(&to))),
                    (fixed::POD_PORTS, key.clone(), None),
                ];
                elements.extend(bound.egress_isolated.then(|| ("egress", key.clone(), None)));
                elements.extend(bound.addresses.iter().map(|address| bound_element(&key, *address)));
                let chains = [(from.into(), from_port(bound)), (to.into(), to_port(bound))];
                PortRules { chains: chains.into(), elements }
            }
        }
    }

    /// The rules for a port without a known pod while it gets one and the iptables rules change: they are evaluated
    /// before its binding. Writing them only adds to the table. If it replaced anything, `iptables-nft-restore` would
    /// wait until the kernel has freed that.
    pub(super) fn while_it_gets_a_pod(self, index: u32, bound: &Bound) -> PortRules {
        let key: Box<[u8]> = index.to_ne_bytes().as_slice().into();
        let [from, to] = fixed::CHANGING.map(|map| format!("{map}-{index}"));
        let PortRules { mut chains, mut elements } = self;
        elements.extend(
            fixed::CHANGING
                .into_iter()
                .zip([&from, &to])
                .map(|(map, chain)| (map, key.clone(), Some(goto(chain)))),
        );
        elements.extend(bound.addresses.iter().map(|address| bound_element(&key, *address)));
        chains.extend([(from.into(), from_port(bound)), (to.into(), to_port(bound))]);
        PortRules { chains, elements }
    }

    /// The changes from the old rules to these.
    pub(super) fn change(&self, old: &PortRules, changes: &mut Vec<Change>) {
        if self == old {
            return;
        }
        let by_set = |elements: &[BridgeElement], others: &[BridgeElement]| {
            let mut sets = BTreeMap::<&str, Elements>::new();
            for element in elements.iter().filter(|element| !others.contains(element)) {
                let (set, key, verdict) = element.clone();
                sets.entry(set).or_default().insert(&key, verdict);
            }
            sets.into_iter().map(|(set, elements)| (set.into(), elements))
        };
        let gone = by_set(&old.elements, &self.elements);
        changes.extend(gone.map(|(set, elements)| Change::DeleteElements(set, elements)));
        for (name, rules) in &self.chains {
            match old.chains.get(name) {
                Some(there) if there == rules => continue,
                Some(_) => changes.push(Change::FlushChain(name.clone())),
                None => changes.push(Change::AddChain(name.clone(), None)),
            }
            changes.extend(rules.iter().map(|rule| Change::AddRule(name.clone(), rule.clone())));
        }
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            changes.extend([Change::FlushChain(name.clone()), Change::DeleteChain(name.clone())]);
        }
        let come = by_set(&self.elements, &old.elements);
        changes.extend(come.map(|(set, elements)| Change::AddElements(set, elements)));
    }
}

/// The element that assigns an address to a port.
fn bound_element(port: &[u8], address: IpAddr) -> BridgeElement {
    let set = match Family::of(address) {
        Family::V4 => "bound4",
        Family::V6 => "bound6",
    };
    (set, [port, &octets(address)].concat().into(), None)
}

/// The comparisons that most frames from a pod pass; the rest is evaluated in chains that all ports share.
fn from_port(bound: &Bound) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(hardware) = bound.hardware {
        // Before the bridge learns the port of an Ethernet address from the frame.
        rules.push(Rule::when().is_not(ETHER_SOURCE, &hardware).goto(fixed::SPOOFED));
    }
    for &address in &bound.addresses {
        let source = octets(address);
        let rule = match (address, bound.egress_isolated) {
            (IpAddr::V4(_), false) => Rule::when().of_type(IPV4).is(IPV4_SOURCE, &source).no_icmp(),
            (IpAddr::V4(_), true) => Rule::when().of_type(IPV4).is(IPV4_SOURCE, &source).no_icmp().to_one(),
            (IpAddr::V6(_), false) => Rule::when().of_type(IPV6).is(IPV6_SOURCE, &source).no_icmpv6(),
            (IpAddr::V6(_), true) => {
                Rule::when().of_type(IPV6).is(IPV6_SOURCE, &source).no_icmpv6().to_global()
            }
        };
        rules.push(rule.accept());
    }
    let rest = if bound.egress_isolated { fixed::FROM_ISOLATED } else { fixed::FROM_FREE };
    rules.push(Rule::when().goto(rest));
    rules
}

/// The comparisons that most frames to a pod pass.
fn to_port(bound: &Bound) -> Vec<Rule> {
    let mut rules = Vec::new();
    for &address in &bound.addresses {
        let destination = octets(address);
        let rule = match (address, bound.ingress_isolated) {
            (IpAddr::V4(_), false) => Rule::when().of_type(IPV4).is(IPV4_DESTINATION, &destination),
            (IpAddr::V4(_), true) => Rule::when().of_type(IPV4).is(IPV4_DESTINATION, &destination).to_one(),
            (IpAddr::V6(_), false) => Rule::when().of_type(IPV6).is(IPV6_DESTINATION, &destination),
            (IpAddr::V6(_), true) => {
                let rule = Rule::when().of_type(IPV6).is(IPV6_DESTINATION, &destination);
                rule.source_not_link_local().no_icmpv6()
            }
        };
        rules.push(rule.accept());
    }
    let rest = if bound.ingress_isolated { fixed::TO_ISOLATED } else { fixed::TO_FREE };
    rules.push(Rule::when().goto(rest));
    rules
}
