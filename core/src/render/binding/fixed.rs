//! The chains and sets that all ports share.

use super::Choices;
use super::fields::{Asks, DESTINATION_PORT, ETHER_DESTINATION, FROM, TO, TRANSPORT_PROTOCOL};
use super::{from_port, to_port};
use crate::netfilter::nftables::{
    Chain, Field, Hook, HookPoint, KeyPart, Rule, SetKind, SetPurpose, Statement, Verdict,
};
use crate::ownership::{
    DENIED_DISCOVERY, DENIED_GROUP, DENIED_LINK_LOCAL, DENIED_PROTOCOL, DENIED_SPOOFED, DENIED_TUNNEL,
    DENIED_UNASSIGNED,
};
use std::collections::BTreeMap;

/// Before br_netfilter shows a frame to iptables (NF_BR_PRI_BRNF, 0), and before other programs that filter frames
/// (NF_BR_PRI_FILTER_BRIDGED, -200).
pub(super) const PRIORITY: i32 = -300;
/// The Ethernet addresses that bridges keep for themselves, as a mask and what it leaves of them: 01:80:c2:00:00:0x (IEEE 802.1D).
pub(super) const RESERVED_ADDRESSES: ([u8; 6], [u8; 6]) =
    ([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0], [0x01, 0x80, 0xc2, 0, 0, 0]);

pub(super) const FROM_FREE: &str = "from-free";
pub(super) const FROM_ISOLATED: &str = "from-isolated";
pub(super) const FROM_UNBOUND: &str = "from-unbound";
pub(super) const TO_FREE: &str = "to-free";
pub(super) const TO_ISOLATED: &str = "to-isolated";
pub(super) const TO_UNBOUND: &str = "to-unbound";

pub(super) const SPOOFED: &str = "spoofed";
pub(super) const DISCOVERY: &str = "discovery";
pub(super) const UNASSIGNED: &str = "unassigned";
pub(super) const LINK_LOCAL: &str = "link-local";
pub(super) const GROUP: &str = "group";
pub(super) const PROTOCOL: &str = "protocol";
pub(super) const TUNNEL: &str = "tunnel";
pub(super) const RESERVED: &str = "reserved";

/// The reasons why frames are dropped at ports, which are the names of the chains that drop them.
pub const DROP_REASONS: [&str; 8] =
    [SPOOFED, DISCOVERY, UNASSIGNED, LINK_LOCAL, GROUP, PROTOCOL, TUNNEL, RESERVED];
/// Those of the table of family bridge, and what the copy of a frame says that ends in each of them.
const DROPS: [(&str, &str); 7] = [
    (SPOOFED, DENIED_SPOOFED),
    (DISCOVERY, DENIED_DISCOVERY),
    (UNASSIGNED, DENIED_UNASSIGNED),
    (LINK_LOCAL, DENIED_LINK_LOCAL),
    (GROUP, DENIED_GROUP),
    (PROTOCOL, DENIED_PROTOCOL),
    (TUNNEL, DENIED_TUNNEL),
];

const FROM_CHANGING: &str = "from-changing";
const TO_CHANGING: &str = "to-changing";
/// The maps in which a frame is looked up before `from` and `to`: ports whose binding changes while iptables rules
/// change.
pub(super) const CHANGING: [&str; 2] = [FROM_CHANGING, TO_CHANGING];

/// The sets whose elements deny more, where those of the others allow more.
pub(super) const REFUSES: [&str; 2] = ["taken4", "taken6"];

pub(super) const NODE_HARDWARE: &str = "node-hardware";
pub(super) const NODE_LINK_LOCAL: &str = "node-link-local";
pub(super) const TUNNEL_PORTS: &str = "tunnel-ports";
pub(super) const TUNNEL_PROTOCOLS: &str = "tunnel-protocols";
/// The sets that know the node itself, and how many elements each can have.
pub(super) const NODE_SETS: [(&str, KeyPart, u32); 4] = [
    (NODE_HARDWARE, KeyPart::Ethernet, NODE_ADDRESSES),
    (NODE_LINK_LOCAL, KeyPart::Ipv6, NODE_ADDRESSES),
    (TUNNEL_PORTS, KeyPart::Service, TUNNELS),
    (TUNNEL_PROTOCOLS, KeyPart::Protocol, TUNNELS),
];
/// The set of ports that sent what was copied.
pub(super) const REPORTED: &str = "reported";
/// The set of ports behind which pods are.
pub(super) const POD_PORTS: &str = "pod-ports";

/// How many frames per second of one port are copied to NFLOG.
const LOGGED_PER_SECOND: u32 = 10;
/// How long a port is remembered for this limit after its last dropped frame.
const LOGGED_TIMEOUT_MS: u64 = 60_000;
/// A bridge has at most 1,024 ports (BR_MAX_PORTS).
const PORTS: u32 = 1024;
const ADDRESSES: u32 = 16_384;
const NODE_ADDRESSES: u32 = 64;
const TUNNELS: u32 = 1024;

/// The verdict that continues in a chain.
pub(super) fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}

/// A chain that only rules enter.
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
        map(FROM_CHANGING),
        map(TO_CHANGING),
        set("egress", &[KeyPart::Interface], PORTS),
        set(POD_PORTS, &[KeyPart::Interface], PORTS),
        set("bound4", &[KeyPart::Interface, KeyPart::Ipv4], ADDRESSES),
        set("bound6", &[KeyPart::Interface, KeyPart::Ipv6], ADDRESSES),
        set("taken4", &[KeyPart::Ipv4], ADDRESSES),
        set("taken6", &[KeyPart::Ipv6], ADDRESSES),
        set("unbound4", &[KeyPart::Ipv4], ADDRESSES),
        set("unbound6", &[KeyPart::Ipv6], ADDRESSES),
        (REPORTED.into(), reported()),
    ];
    sets.extend(NODE_SETS.map(|(name, key, size)| set(name, &[key], size)));
    sets
}

/// The set of ports of which frames were copied.
pub(super) fn reported() -> SetKind {
    let purpose = SetPurpose::Dynamic { timeout_ms: LOGGED_TIMEOUT_MS };
    SetKind { key: vec![KeyPart::Interface], purpose, size: PORTS }
}

/// The chains.
pub(super) fn chains(choices: Choices) -> BTreeMap<Box<str>, Chain> {
    let mut chains = BTreeMap::new();
    let mut base = |name: &str, point, frames: Rule, field: Field, maps: [&str; 2]| {
        let base = Some(Hook { point, priority: PRIORITY });
        let mark = choices.bridged_mark.filter(|_| point == HookPoint::Forward);
        let mut rules: Vec<Rule> =
            mark.map(|mark| Rule::when().and(Statement::SetMark(mark))).into_iter().collect();
        rules.extend(maps.map(|map| frames.clone().and(verdict_of(field, map))));
        chains.insert(name.into(), Chain { base, rules });
    };
    let (from, to) = ([FROM_CHANGING, "from"], [TO_CHANGING, "to"]);
    base("prerouting", HookPoint::Prerouting, Rule::when(), FROM, from);
    base("forward", HookPoint::Forward, Rule::when(), TO, to);
    // Frames for bridges themselves come here without being routed before (br_handle_frame), but for those for LLDP.
    let to_bridges = Rule::when().masked(ETHER_DESTINATION, &RESERVED_ADDRESSES.0, &RESERVED_ADDRESSES.1);
    base("input", HookPoint::Input, to_bridges, FROM, from);
    // What goes on to the node or by it has left the bridge, and what a map has no chain for leaves by a port to a network. No
    // packet between two pods of the node comes here.
    if let Some(input) = chains.get_mut("input") {
        input.rules.splice(..0, to_tunnels());
    }
    if let Some(forward) = chains.get_mut("forward") {
        forward.rules.extend(to_tunnels());
    }
    let shared = [
        (FROM_FREE, from_port::from_free()),
        (FROM_ISOLATED, from_port::from_isolated()),
        (FROM_UNBOUND, from_port::from_unbound()),
        ("arp-bound", from_port::arp()),
        ("arp-unbound", from_port::arp_unbound()),
        ("ipv4-free", from_port::ipv4_free()),
        ("ipv4-isolated", from_port::ipv4_isolated()),
        ("ipv4-unbound", from_port::ipv4_unbound(choices)),
        (from_port::LEGIBLE, from_port::legible()),
        ("ipv6-free", from_port::ipv6_free()),
        ("ipv6-isolated", from_port::ipv6_isolated()),
        ("ipv6-unbound", from_port::ipv6_unbound(choices)),
        ("icmpv6-bound", from_port::icmpv6(&from_port::claims_own())),
        ("icmpv6-unbound", from_port::icmpv6(&from_port::claims_no_others())),
        ("link-control", from_port::link_control(choices)),
        (TO_FREE, to_port::to_free()),
        ("to-pod-from-isolated", to_port::to_pod_from_isolated()),
        (TO_ISOLATED, to_port::to_isolated("bound4", "bound6", &[TO])),
        (TO_UNBOUND, to_port::to_unbound(choices)),
        ("to-ipv4", to_port::to_ipv4()),
        (to_port::HOUSEKEEPING, to_port::housekeeping()),
    ];
    chains.extend(shared.map(|(name, rules)| (name.into(), plain(rules))));
    chains.extend(DROPS.map(|(name, prefix)| (name.into(), plain(drops(choices, prefix)))));
    chains
}

/// What pods send to the tunnels of this node, or of others that are set up like it.
fn to_tunnels() -> [Rule; 2] {
    let of_pod = |rule: Rule| rule.within(&[FROM], POD_PORTS).goto(TUNNEL);
    [
        of_pod(Rule::when().udp().within(&[DESTINATION_PORT], TUNNEL_PORTS)),
        of_pod(Rule::when().within(&[TRANSPORT_PROTOCOL], TUNNEL_PROTOCOLS)),
    ]
}

fn verdict_of(field: Field, map: &str) -> Statement {
    Statement::VerdictOf { fields: vec![field], map: map.into() }
}

/// Rules that count a frame, copy it rate-limited, and drop it.
pub(super) fn drops(choices: Choices, prefix: &str) -> Vec<Rule> {
    let limit = Statement::Limit {
        fields: vec![FROM],
        set: REPORTED.into(),
        per_second: LOGGED_PER_SECOND,
        burst: LOGGED_PER_SECOND,
    };
    let log = Statement::Log { group: choices.log_group, prefix: prefix.into() };
    vec![Rule::when().and(Statement::Counter), Rule::when().and(limit).and(log), Rule::verdict(Verdict::Drop)]
}
