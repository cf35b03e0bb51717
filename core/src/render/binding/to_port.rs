//! The shared chains for frames to a port that the port's own chain does not accept.

use super::Choices;
use super::fields::{
    ARP, Asks, FROM, IPV4, IPV4_DESTINATION, IPV6, IPV6_DESTINATION, LISTENER_QUERY, LISTENER_REPORTS,
    NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION,
};
use super::fixed::{DISCOVERY, GROUP, LINK_LOCAL, PROTOCOL, UNASSIGNED};
use crate::netfilter::nftables::{Field, Rule, Statement, Verdict};

/// To a pod that is not isolated for ingress.
pub(super) fn to_free() -> Vec<Rule> {
    vec![Rule::when().within(&[FROM], "egress").goto("to-pod-from-isolated"), Rule::when().accept()]
}

/// From a pod that is isolated for egress to another pod, but not to an address of that pod: only neighbour discovery.
/// The rest of what a link needs is exchanged only with the node.
pub(super) fn to_pod_from_isolated() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).accept(),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_SOLICITATION).accept(),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_ADVERTISEMENT).accept(),
        Rule::when().jump(HOUSEKEEPING),
        Rule::when().goto(UNASSIGNED),
    ]
}

/// To a pod that is isolated for ingress: packets that policies evaluate, and neighbour discovery. `at` are the fields
/// before the address in the keys of these sets.
pub(super) fn to_isolated(set4: &str, set6: &str, at: &[Field]) -> Vec<Rule> {
    let key = |address| [at, &[address]].concat();
    vec![
        Rule::when().of_type(ARP).short_as_arp().accept(),
        Rule::when().of_type(IPV4).within(&key(IPV4_DESTINATION), set4).to_one().accept(),
        // By its answers a bridge knows which multicast, and so which solicitations, the pod receives. No pod can send it.
        Rule::when().of_type(IPV6).icmpv6_type(LISTENER_QUERY).for_this_link().short_as_nd().accept(),
        Rule::when().jump(HOUSEKEEPING),
        Rule::when().of_type(IPV4).goto("to-ipv4"),
        Rule::when()
            .of_type(IPV6)
            .icmpv6_type(NEIGHBOUR_SOLICITATION)
            .sent_on_this_link()
            .short_as_nd()
            .accept(),
        Rule::when()
            .of_type(IPV6)
            .icmpv6_type(NEIGHBOUR_ADVERTISEMENT)
            .sent_on_this_link()
            .short_as_nd()
            .accept(),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_SOLICITATION).goto(DISCOVERY),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_ADVERTISEMENT).goto(DISCOVERY),
        Rule::when().of_type(IPV6).source_link_local().goto(LINK_LOCAL),
        Rule::when().of_type(IPV6).to_link_local().goto(LINK_LOCAL),
        Rule::when().of_type(IPV6).to_ipv6_group().goto(GROUP),
        Rule::when().of_type(IPV6).within(&key(IPV6_DESTINATION), set6).accept(),
        Rule::when().of_type(IPV6).goto(UNASSIGNED),
        Rule::when().goto(PROTOCOL),
    ]
}

/// To a port whose pod is not known.
pub(super) fn to_unbound(choices: Choices) -> Vec<Rule> {
    let mut rules = to_isolated("unbound4", "unbound6", &[]);
    if !choices.unknown_closed {
        let known = rules.len() - 1;
        rules.splice(
            0..known,
            [
                Rule::when().of_type(ARP).accept(),
                Rule::when().of_type(IPV4).to_one().accept(),
                Rule::when().of_type(IPV4).goto(GROUP),
                Rule::when().of_type(IPV6).accept(),
            ],
        );
    }
    rules
}

/// An IPv4 packet whose destination is not an address of the receiver, or not a unicast address.
pub(super) fn to_ipv4() -> Vec<Rule> {
    vec![
        Rule::when().to_all().goto(GROUP),
        Rule::when().to_group().goto(GROUP),
        Rule::when().goto(UNASSIGNED),
    ]
}

/// The chain for traffic to the node and to routers that is also flooded to pods.
pub(super) const HOUSEKEEPING: &str = "housekeeping";

/// Drops, without reporting, what hosts regularly send to routers and servers and other pods do not need.
pub(super) fn housekeeping() -> Vec<Rule> {
    let quietly = |rule: Rule| rule.and(Statement::Verdict(Verdict::Drop));
    let mut rules = vec![
        quietly(Rule::when().of_type(IPV4).igmp()),
        quietly(Rule::when().of_type(IPV4).dhcp_request()),
        quietly(Rule::when().of_type(IPV6).dhcpv6_request()),
        quietly(Rule::when().of_type(IPV6).icmpv6_type(ROUTER_SOLICITATION)),
        quietly(Rule::when().of_type(IPV6).icmpv6_type(LISTENER_QUERY).for_this_link()),
    ];
    let reports = LISTENER_REPORTS.map(|kind| Rule::when().of_type(IPV6).icmpv6_type(kind).for_this_link());
    rules.extend(reports.map(quietly));
    rules
}
