//! The chains and sets that all ports share.

use super::Choices;
use super::fields::{
    ARP, ARP_SENDER, Asks, ETHER_DESTINATION, FROM, IPV4, IPV4_DESTINATION, IPV4_SOURCE, IPV6,
    IPV6_DESTINATION, IPV6_SOURCE, ND_TARGET, SERVICE_VLAN, TO, VLAN,
};
use crate::netfilter::nftables::{
    Chain, Hook, HookPoint, KeyPart, Rule, SetKind, SetPurpose, Statement, Verdict,
};
use crate::ownership::{
    DENIED_DISCOVERY, DENIED_GROUP, DENIED_LINK_LOCAL, DENIED_PROTOCOL, DENIED_SPOOFED, DENIED_UNASSIGNED,
};
use std::collections::BTreeMap;

/// Before br_netfilter shows a frame to iptables (NF_BR_PRI_BRNF, 0), and before whoever else filters frames
/// (NF_BR_PRI_FILTER_BRIDGED, -200).
const PRIORITY: i32 = -300;

pub(super) const FROM_FREE: &str = "from-free";
pub(super) const FROM_ISOLATED: &str = "from-isolated";
pub(super) const FROM_UNBOUND: &str = "from-unbound";
pub(super) const TO_FREE: &str = "to-free";
pub(super) const TO_ISOLATED: &str = "to-isolated";
pub(super) const TO_UNBOUND: &str = "to-unbound";

pub(super) const SPOOFED: &str = "spoofed";
const DISCOVERY: &str = "discovery";
const UNASSIGNED: &str = "unassigned";
const LINK_LOCAL: &str = "link-local";
const GROUP: &str = "group";
const PROTOCOL: &str = "protocol";

/// Why frames are dropped at ports: the names of the chains in which they end.
pub const DROP_REASONS: [&str; 6] = [SPOOFED, DISCOVERY, UNASSIGNED, LINK_LOCAL, GROUP, PROTOCOL];
/// What the copy of a frame says that ends in each of them.
const DROP_PREFIXES: [&str; 6] =
    [DENIED_SPOOFED, DENIED_DISCOVERY, DENIED_UNASSIGNED, DENIED_LINK_LOCAL, DENIED_GROUP, DENIED_PROTOCOL];

/// The sets in which to be refuses, rather than allows.
pub(super) const REFUSES: [&str; 2] = ["taken4", "taken6"];

pub(super) const NODE_HARDWARE: &str = "node-hardware";
pub(super) const NODE_LINK_LOCAL: &str = "node-link-local";
/// The sets that know the node itself.
pub(super) const NODE_SETS: [(&str, KeyPart); 2] =
    [(NODE_HARDWARE, KeyPart::Ethernet), (NODE_LINK_LOCAL, KeyPart::Ipv6)];

/// How many copies of frames from one port the reader gets in a second.
const LOGGED_PER_SECOND: u32 = 10;
/// How long a port that sends nothing more is remembered for that.
const LOGGED_TIMEOUT_MS: u64 = 60_000;
/// A bridge has at most 1,024 ports (BR_MAX_PORTS).
const PORTS: u32 = 1024;
const ADDRESSES: u32 = 16_384;
const NODE_ADDRESSES: u32 = 64;

/// Router solicitation, router advertisement, neighbour solicitation and advertisement, redirect (RFC 4861).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// What a pod says of the groups it listens to (RFC 2710, RFC 3810): report, done, report of version 2.
const LISTENER_REPORTS: [u8; 3] = [131, 132, 143];

/// Going on in a chain.
pub(super) fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}

/// A chain that rules lead to.
pub(super) fn plain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

/// The sets and maps.
pub(super) fn sets() -> Vec<(Box<str>, SetKind)> {
    let of = |purpose, key: &[KeyPart], size| SetKind { key: key.into(), purpose, size };
    let set = |name: &str, key: &[KeyPart], size| (name.into(), of(SetPurpose::Set, key, size));
    let map = |name: &str| (name.into(), of(SetPurpose::VerdictMap, &[KeyPart::Interface], PORTS));
    let mut sets = vec![
        map("from"),
        map("to"),
        set("egress", &[KeyPart::Interface], PORTS),
        set("bound4", &[KeyPart::Interface, KeyPart::Ipv4], ADDRESSES),
        set("bound6", &[KeyPart::Interface, KeyPart::Ipv6], ADDRESSES),
        set("taken4", &[KeyPart::Ipv4], ADDRESSES),
        set("taken6", &[KeyPart::Ipv6], ADDRESSES),
        set("unbound4", &[KeyPart::Ipv4], ADDRESSES),
        set("unbound6", &[KeyPart::Ipv6], ADDRESSES),
        (
            "reported".into(),
            of(SetPurpose::Dynamic { timeout_ms: LOGGED_TIMEOUT_MS }, &[KeyPart::Interface], PORTS),
        ),
    ];
    sets.extend(NODE_SETS.map(|(name, key)| set(name, &[key], NODE_ADDRESSES)));
    sets
}

/// The chains.
pub(super) fn chains(choices: Choices) -> BTreeMap<Box<str>, Chain> {
    let mut chains = BTreeMap::new();
    let mut base = |name: &str, point, rule| {
        let base = Some(Hook { point, priority: PRIORITY });
        chains.insert(name.into(), Chain { base, rules: vec![rule] });
    };
    base("prerouting", HookPoint::Prerouting, Rule::when().and(verdict_of(FROM, "from")));
    base("forward", HookPoint::Forward, Rule::when().and(verdict_of(TO, "to")));
    // Frames to 01:80:c2:00:00:0x are for bridges themselves and come here without being routed before (br_handle_frame).
    let reserved = ([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0], [0x01, 0x80, 0xc2, 0, 0, 0]);
    let to_bridges = Rule::when().masked(ETHER_DESTINATION, &reserved.0, &reserved.1);
    base("input", HookPoint::Input, to_bridges.and(verdict_of(FROM, "from")));
    let shared = [
        (FROM_FREE, from_free()),
        (FROM_ISOLATED, from_isolated()),
        (FROM_UNBOUND, from_unbound()),
        ("arp", arp()),
        ("arp-unbound", arp_unbound()),
        ("ipv4-free", ipv4_free()),
        ("ipv4-isolated", ipv4_isolated()),
        ("ipv4-unbound", ipv4_unbound(choices)),
        ("ipv6-free", ipv6_free()),
        ("ipv6-isolated", ipv6_isolated()),
        ("ipv6-unbound", ipv6_unbound(choices)),
        ("icmpv6", icmpv6(&claims_own())),
        ("icmpv6-unbound", icmpv6(&claims_no_others())),
        ("link-control", link_control(choices)),
        (TO_FREE, to_free()),
        ("to-pod-from-isolated", to_pod_from_isolated()),
        (TO_ISOLATED, to_isolated("bound4", "bound6", &[TO])),
        (TO_UNBOUND, to_unbound(choices)),
        ("to-ipv4", to_ipv4()),
    ];
    chains.extend(shared.map(|(name, rules)| (name.into(), plain(rules))));
    let reasons = DROP_REASONS.into_iter().zip(DROP_PREFIXES);
    chains.extend(reasons.map(|(name, prefix)| (name.into(), plain(drops(choices, prefix)))));
    chains
}

fn verdict_of(field: crate::netfilter::nftables::Field, map: &str) -> Statement {
    Statement::VerdictOf { fields: vec![field], map: map.into() }
}

/// Counts, copies within limits, drops.
fn drops(choices: Choices, prefix: &str) -> Vec<Rule> {
    let limit = Statement::Limit {
        fields: vec![FROM],
        set: "reported".into(),
        per_second: LOGGED_PER_SECOND,
        burst: LOGGED_PER_SECOND,
    };
    let log = Statement::Log { group: choices.log_group, prefix: prefix.into() };
    vec![Rule::when().and(Statement::Counter), Rule::when().and(limit).and(log), Rule::verdict(Verdict::Drop)]
}

/// From a pod that nothing isolates for egress: whatever it likes, under its own name.
fn from_free() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).goto("arp"),
        Rule::when().of_type(IPV4).goto("ipv4-free"),
        Rule::when().of_type(IPV6).goto("ipv6-free"),
        // A tag hides a packet from br_netfilter, and the receiver's kernel takes it off.
        Rule::when().of_type(VLAN).goto(PROTOCOL),
        Rule::when().of_type(SERVICE_VLAN).goto(PROTOCOL),
        Rule::when().accept(),
    ]
}

/// From a pod that is isolated for egress: what policies judge, and what a link needs.
fn from_isolated() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).short_as_arp().goto("arp"),
        Rule::when().of_type(IPV4).goto("ipv4-isolated"),
        Rule::when().of_type(IPV6).goto("ipv6-isolated"),
        Rule::when().goto(PROTOCOL),
    ]
}

/// From a port whose pod is not known.
fn from_unbound() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).short_as_arp().goto("arp-unbound"),
        Rule::when().of_type(IPV4).goto("ipv4-unbound"),
        Rule::when().of_type(IPV6).goto("ipv6-unbound"),
        Rule::when().goto(PROTOCOL),
    ]
}

fn arp() -> Vec<Rule> {
    vec![
        Rule::when().within(&[FROM, ARP_SENDER], "bound4").accept(),
        // A probe for an address that it may be given (RFC 5227).
        Rule::when().is(ARP_SENDER, &[0; 4]).accept(),
        Rule::when().goto(SPOOFED),
    ]
}

/// CNI announces an address before its result tells of it.
fn arp_unbound() -> Vec<Rule> {
    vec![Rule::when().within(&[ARP_SENDER], "taken4").goto(SPOOFED), Rule::when().accept()]
}

fn ipv4_free() -> Vec<Rule> {
    vec![
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").accept(),
        Rule::when().dhcp_request().accept(),
        Rule::when().goto(SPOOFED),
    ]
}

fn ipv4_isolated() -> Vec<Rule> {
    vec![
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").to_one().accept(),
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").igmp().accept(),
        Rule::when().within(&[FROM, IPV4_SOURCE], "bound4").goto(GROUP),
        Rule::when().dhcp_request().accept(),
        Rule::when().is(IPV4_SOURCE, &[0; 4]).igmp().accept(),
        Rule::when().goto(SPOOFED),
    ]
}

fn ipv4_unbound(choices: Choices) -> Vec<Rule> {
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

fn ipv6_free() -> Vec<Rule> {
    vec![
        Rule::when().icmpv6().jump("icmpv6"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").accept(),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().from_link_local().accept(),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).accept(),
        Rule::when().goto(SPOOFED),
    ]
}

fn ipv6_isolated() -> Vec<Rule> {
    vec![
        Rule::when().icmpv6().jump("icmpv6"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").to_link_local().goto("link-control"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").to_ipv6_group().goto("link-control"),
        Rule::when().within(&[FROM, IPV6_SOURCE], "bound6").accept(),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().from_link_local().goto("link-control"),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).goto("link-control"),
        Rule::when().goto(SPOOFED),
    ]
}

fn ipv6_unbound(choices: Choices) -> Vec<Rule> {
    let mut rules = vec![
        Rule::when().icmpv6().jump("icmpv6-unbound"),
        Rule::when().within(&[IPV6_SOURCE], NODE_LINK_LOCAL).goto(SPOOFED),
        Rule::when().from_link_local().goto("link-control"),
        Rule::when().is(IPV6_SOURCE, &[0; 16]).goto("link-control"),
        Rule::when().within(&[IPV6_SOURCE], "taken6").goto(SPOOFED),
        Rule::when().to_link_local().goto("link-control"),
        Rule::when().to_ipv6_group().goto("link-control"),
    ];
    if choices.unknown_closed {
        rules.push(Rule::when().outside(&[IPV6_SOURCE], "unbound6").goto(SPOOFED));
    }
    rules.push(Rule::when().accept());
    rules
}

/// What a pod may say in neighbour discovery; comes back with the rest. `claims` are the rules about advertisements.
fn icmpv6(claims: &[Rule]) -> Vec<Rule> {
    let is = |kind| Rule::when().icmpv6_type(kind);
    let mut rules = vec![
        // Pods are no routers.
        is(ROUTER_ADVERTISEMENT).goto(DISCOVERY),
        is(REDIRECT).goto(DISCOVERY),
        is(ROUTER_SOLICITATION).from_afar().goto(DISCOVERY),
        is(NEIGHBOUR_SOLICITATION).from_afar().goto(DISCOVERY),
        is(NEIGHBOUR_ADVERTISEMENT).from_afar().goto(DISCOVERY),
    ];
    rules.extend_from_slice(claims);
    rules
}

/// It advertises its own addresses alone.
fn claims_own() -> Vec<Rule> {
    let advertises = || Rule::when().icmpv6_type(NEIGHBOUR_ADVERTISEMENT);
    vec![
        advertises().within(&[ND_TARGET], NODE_LINK_LOCAL).goto(DISCOVERY),
        advertises().about_link_local().and(Statement::Verdict(Verdict::Return)),
        advertises().outside(&[FROM, ND_TARGET], "bound6").goto(DISCOVERY),
    ]
}

/// It advertises no address that is known to be another's.
fn claims_no_others() -> Vec<Rule> {
    let advertises = || Rule::when().icmpv6_type(NEIGHBOUR_ADVERTISEMENT);
    vec![
        advertises().within(&[ND_TARGET], NODE_LINK_LOCAL).goto(DISCOVERY),
        advertises().within(&[ND_TARGET], "taken6").goto(DISCOVERY),
    ]
}

/// What every IPv6 link needs, whoever is isolated, and the node's link-local addresses.
fn link_control(choices: Choices) -> Vec<Rule> {
    let to_node = Rule::when().within(&[ETHER_DESTINATION], NODE_HARDWARE).to_link_local();
    let to_node = match choices.to_node_mark {
        Some(mark) => to_node.and(Statement::SetMark(mark)),
        None => to_node,
    };
    let mut rules = vec![
        Rule::when().icmpv6_type(ROUTER_SOLICITATION).short_as_nd().accept(),
        Rule::when().icmpv6_type(NEIGHBOUR_SOLICITATION).short_as_nd().accept(),
        Rule::when().icmpv6_type(NEIGHBOUR_ADVERTISEMENT).short_as_nd().accept(),
        to_node.accept(),
    ];
    rules.extend(LISTENER_REPORTS.map(|kind| Rule::when().icmpv6_type(kind).for_this_link().accept()));
    rules.extend([Rule::when().dhcpv6_request().accept(), Rule::when().goto(LINK_LOCAL)]);
    rules
}

/// To a pod that nothing isolates for ingress.
fn to_free() -> Vec<Rule> {
    vec![Rule::when().within(&[FROM], "egress").goto("to-pod-from-isolated"), Rule::when().accept()]
}

/// From a pod that is isolated for egress to another pod, and not to an address of that: only what finds neighbours. The rest of
/// what a link needs is between pods and their node.
fn to_pod_from_isolated() -> Vec<Rule> {
    vec![
        Rule::when().of_type(ARP).accept(),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_SOLICITATION).accept(),
        Rule::when().of_type(IPV6).icmpv6_type(NEIGHBOUR_ADVERTISEMENT).accept(),
        Rule::when().goto(UNASSIGNED),
    ]
}

/// To a pod that is isolated for ingress: what policies judge, and what finds neighbours. `at` are the fields before the address
/// in the keys of these sets.
fn to_isolated(set4: &str, set6: &str, at: &[crate::netfilter::nftables::Field]) -> Vec<Rule> {
    let key = |address| [at, &[address]].concat();
    vec![
        Rule::when().of_type(ARP).short_as_arp().accept(),
        Rule::when().of_type(IPV4).within(&key(IPV4_DESTINATION), set4).to_one().accept(),
        Rule::when().of_type(IPV4).goto("to-ipv4"),
        Rule::when()
            .of_type(IPV6)
            .icmpv6_type(NEIGHBOUR_SOLICITATION)
            .from_this_link()
            .short_as_nd()
            .accept(),
        Rule::when()
            .of_type(IPV6)
            .icmpv6_type(NEIGHBOUR_ADVERTISEMENT)
            .from_this_link()
            .short_as_nd()
            .accept(),
        Rule::when().of_type(IPV6).from_link_local().goto(LINK_LOCAL),
        Rule::when().of_type(IPV6).to_link_local().goto(LINK_LOCAL),
        Rule::when().of_type(IPV6).to_ipv6_group().goto(GROUP),
        Rule::when().of_type(IPV6).within(&key(IPV6_DESTINATION), set6).accept(),
        Rule::when().of_type(IPV6).goto(UNASSIGNED),
        Rule::when().goto(PROTOCOL),
    ]
}

/// To a port whose pod is not known.
fn to_unbound(choices: Choices) -> Vec<Rule> {
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

/// An IPv4 packet that is not to an address of the receiver, or not to it alone.
fn to_ipv4() -> Vec<Rule> {
    vec![
        Rule::when().to_all().goto(GROUP),
        Rule::when().to_group().goto(GROUP),
        Rule::when().goto(UNASSIGNED),
    ]
}
