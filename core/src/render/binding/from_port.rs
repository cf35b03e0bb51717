//! The shared chains for frames from a port that the port's own chain does not accept.

use super::Choices;
use super::fields::{
    ARP, ARP_SENDER, Asks, DISCOVERS, ETHER_DESTINATION, FROM, ICMP_ERRORS, ICMPV6_ERRORS, IPV4, IPV4_SOURCE,
    IPV6, IPV6_SOURCE, LISTENER_QUERY, LISTENER_REPORTS, ND_TARGET, NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION, QUOTED_IPV4_DESTINATION, QUOTED_IPV6_DESTINATION, REDIRECT, ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION, SERVICE_VLAN, VLAN,
};
use super::fixed::{DISCOVERY, GROUP, LINK_LOCAL, NODE_HARDWARE, NODE_LINK_LOCAL, PROTOCOL, SPOOFED};
use crate::netfilter::nftables::{Rule, Statement, Verdict};

/// From a pod that is not isolated for egress: any frame with the pod's own addresses.
pub(super) fn from_free() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).goto("arp-bound"),
        Rule::when().of_type(IPV4).goto("ipv4-free"),
        Rule::when().of_type(IPV6).goto("ipv6-free"),
        // A tag hides a packet from br_netfilter, and the receiver's kernel removes it.
        Rule::when().of_type(VLAN).goto(PROTOCOL),
        Rule::when().of_type(SERVICE_VLAN).goto(PROTOCOL),
        Rule::when().accept(),
    ]
}

/// From a pod that is isolated for egress: packets that policies evaluate, and what a link needs.
pub(super) fn from_isolated() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).short_as_arp().goto("arp-bound"),
        Rule::when().of_type(IPV4).goto("ipv4-isolated"),
        Rule::when().of_type(IPV6).goto("ipv6-isolated"),
        Rule::when().goto(PROTOCOL),
    ]
}

/// From a port whose pod is not known.
pub(super) fn from_unbound() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).short_as_arp().goto("arp-unbound"),
        Rule::when().of_type(IPV4).goto("ipv4-unbound"),
        Rule::when().of_type(IPV6).goto("ipv6-unbound"),
        Rule::when().goto(PROTOCOL),
    ]
}

pub(super) fn arp() -> Vec<Rule> {
    vec![
        Rule::when().within(&[FROM, ARP_SENDER], "bound4").accept(),
        // A probe for an address that the pod may be assigned (RFC 5227).
        Rule::when().is(ARP_SENDER, &[0; 4]).accept(),
        Rule::when().goto(SPOOFED),
    ]
}

/// CNI announces an address before it writes its result.
pub(super) fn arp_unbound() -> Vec<Rule> {
    vec![Rule::when().within(&[ARP_SENDER], "taken4").goto(SPOOFED), Rule::when().accept()]
}

/// An error is about a packet that its sender received. About another's it would belong to the connection of that, which
/// conntrack lets through to the connection's end.
fn errors_of_others() -> Vec<Rule> {
    let is = |kind| Rule::when().icmp_type(kind);
    let rules = ICMP_ERRORS.into_iter().flat_map(|kind| {
        let of_others = is(kind).outside(&[FROM, QUOTED_IPV4_DESTINATION], "bound4").goto(SPOOFED);
        [is(kind).in_fragments().goto(SPOOFED), of_others]
    });
    rules.collect()
}

pub(super) fn ipv4_free() -> Vec<Rule> {
    let mut rules = errors_of_others();
    rules.extend([
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").accept(),
        Rule::when().dhcp_request().accept(),
        Rule::when().goto(SPOOFED),
    ]);
    rules
}

pub(super) fn ipv4_isolated() -> Vec<Rule> {
    let mut rules = errors_of_others();
    rules.extend([
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").to_one().accept(),
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").igmp().accept(),
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").goto(GROUP),
        Rule::when().dhcp_request().accept(),
        // Sent to a pod's address, it would look like traffic that policies evaluate, and they cannot match a sender
        // without an address.
        Rule::when().is(IPV4_SOURCE, &[0; 4]).to_ipv4_group().igmp().accept(),
        Rule::when().goto(SPOOFED),
    ]);
    rules
}

pub(super) fn ipv4_unbound(choices: Choices) -> Vec<Rule> {
    let mut rules = vec![Rule::when().dhcp_request().accept()];
    if choices.unknown_closed {
        rules.extend([
            Rule::when().within(&[IPV4_SOURCE], "unbound4").to_one().accept(),
            Rule::when().within(&[IPV4_SOURCE], "unbound4").igmp().accept(),
            Rule::when().within(&[IPV4_SOURCE], "unbound4").goto(GROUP),
            Rule::when().goto(SPOOFED),
        ]);
    } else {
        rules.extend([
            Rule::when().within(&[IPV4_SOURCE], "taken4").goto(SPOOFED),
            Rule::when().to_one().accept(),
            Rule::when().igmp().accept(),
            Rule::when().goto(GROUP),
        ]);
    }
    rules
}

/// The chain that drops IPv6 of an unknown kind; returns for other packets.
pub(super) const LEGIBLE: &str = "ipv6-legible";

/// A fragment can end before the header that says what the packet is. Netfilter puts fragments together only after the bridge has
/// passed them on, and then the packet is evaluated as what it is by no chain of this table: it could be neighbour discovery, or an
/// error about a connection of others.
pub(super) fn legible() -> Vec<Rule> {
    let returns = |rule: Rule| rule.and(Statement::Verdict(Verdict::Return));
    vec![
        returns(Rule::when().legible_icmpv6()),
        returns(Rule::when().later_icmpv6_fragment()),
        Rule::when().icmpv6().goto(DISCOVERY),
        returns(Rule::when().legible_protocol()),
        Rule::when().goto(PROTOCOL),
    ]
}

pub(super) fn ipv6_free() -> Vec<Rule> {
    vec![
        Rule::when().jump(LEGIBLE),
        Rule::when().icmpv6().jump("icmpv6-bound"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").accept(),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().source_link_local().accept(),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).goto("link-control"),
        Rule::when().goto(SPOOFED),
    ]
}

pub(super) fn ipv6_isolated() -> Vec<Rule> {
    let mut rules = vec![Rule::when().jump(LEGIBLE), Rule::when().icmpv6().jump("icmpv6-bound")];
    // Policies do not evaluate neighbour discovery, whatever its content.
    rules.extend(DISCOVERS.map(|kind| {
        Rule::when().icmpv6_type(kind).within(&[FROM, IPV6_SOURCE], "bound6").goto("link-control")
    }));
    rules.extend([
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").to_link_local().goto("link-control"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").to_ipv6_group().goto("link-control"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").accept(),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().source_link_local().goto("link-control"),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).goto("link-control"),
        Rule::when().goto(SPOOFED),
    ]);
    rules
}

pub(super) fn ipv6_unbound(choices: Choices) -> Vec<Rule> {
    let mut rules = vec![
        Rule::when().jump(LEGIBLE),
        Rule::when().icmpv6().jump("icmpv6-unbound"),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().source_link_local().goto("link-control"),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).goto("link-control"),
        Rule::when().within(&[IPV6_SOURCE], "taken6").goto(SPOOFED),
        Rule::when().to_link_local().goto("link-control"),
        Rule::when().to_ipv6_group().goto("link-control"),
    ];
    if choices.unknown_closed {
        rules.push(Rule::when().outside(&[IPV6_SOURCE], "unbound6").goto(SPOOFED));
    }
    rules.extend(DISCOVERS.map(|kind| Rule::when().icmpv6_type(kind).goto("link-control")));
    rules.push(Rule::when().accept());
    rules
}

/// What a pod may send in neighbour discovery; returns for other packets. `claims` are the rules about advertisements.
pub(super) fn icmpv6(claims: &[Rule]) -> Vec<Rule> {
    let is = |kind| Rule::when().icmpv6_type(kind);
    let mut rules = vec![
        // Pods are no routers. The bridge would take the sender of a query for one, and then send multicast only to ports that
        // answered it (net/bridge/br_multicast.c).
        is(ROUTER_ADVERTISEMENT).goto(DISCOVERY),
        is(REDIRECT).goto(DISCOVERY),
        is(LISTENER_QUERY).goto(DISCOVERY),
    ];
    for kind in DISCOVERS {
        // In fragments or after options, its type and length could not be recognised (RFC 6980).
        rules.extend([
            is(kind).perhaps_routed().goto(DISCOVERY),
            is(kind).behind_extensions().goto(DISCOVERY),
        ]);
    }
    rules.extend_from_slice(claims);
    rules
}

/// A solicitation without a source asks whether an address is free (RFC 4862): it keeps others from using it.
fn claims() -> [Rule; 2] {
    [
        Rule::when().icmpv6_type(NEIGHBOUR_ADVERTISEMENT),
        Rule::when().icmpv6_type(NEIGHBOUR_SOLICITATION).is(IPV6_SOURCE, &[0; 16]),
    ]
}

/// The pod advertises and claims only its own addresses, and sends errors only about packets that it received.
pub(super) fn claims_own() -> Vec<Rule> {
    let is = |kind| Rule::when().icmpv6_type(kind);
    let errors = ICMPV6_ERRORS.into_iter().flat_map(|kind| {
        [
            is(kind).behind_extensions().goto(SPOOFED),
            is(kind).quotes_link_local().and(Statement::Verdict(Verdict::Return)),
            is(kind).outside(&[FROM, QUOTED_IPV6_DESTINATION], "bound6").goto(SPOOFED),
        ]
    });
    let mut rules: Vec<_> = errors.collect();
    rules.extend(claims().into_iter().flat_map(|claim| {
        [
            claim.clone().within(&[ND_TARGET], NODE_LINK_LOCAL).goto(DISCOVERY),
            claim.clone().about_link_local().and(Statement::Verdict(Verdict::Return)),
            claim.outside(&[FROM, ND_TARGET], "bound6").goto(DISCOVERY),
        ]
    }));
    rules
}

/// The pod advertises and claims no address that is known to belong to another one.
pub(super) fn claims_no_others() -> Vec<Rule> {
    let of = |claim: Rule| {
        [
            claim.clone().within(&[ND_TARGET], NODE_LINK_LOCAL).goto(DISCOVERY),
            claim.within(&[ND_TARGET], "taken6").goto(DISCOVERY),
        ]
    };
    claims().into_iter().flat_map(of).collect()
}

/// What every IPv6 link needs, whether its pods are isolated or not, and the node's link-local addresses.
pub(super) fn link_control(choices: Choices) -> Vec<Rule> {
    let to_node = Rule::when().within(&[ETHER_DESTINATION], NODE_HARDWARE).to_link_local();
    let to_node = match choices.to_node_mark {
        Some(mark) => to_node.and(Statement::SetMark(mark)),
        None => to_node,
    };
    let mut rules = vec![
        Rule::when().icmpv6_type(ROUTER_SOLICITATION).to_ipv6_group().short_as_nd().accept(),
        Rule::when().icmpv6_type(NEIGHBOUR_SOLICITATION).short_as_nd().accept(),
        Rule::when().icmpv6_type(NEIGHBOUR_ADVERTISEMENT).short_as_nd().accept(),
        to_node.accept(),
    ];
    // Sent to a pod's address, these would look like traffic that policies evaluate.
    rules.extend(
        LISTENER_REPORTS.map(|kind| Rule::when().icmpv6_type(kind).to_ipv6_group().for_this_link().accept()),
    );
    rules.extend([Rule::when().dhcpv6_request().accept(), Rule::when().goto(LINK_LOCAL)]);
    rules
}
