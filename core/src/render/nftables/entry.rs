//! The fixed chains and sets: where packets enter, what passes without evaluation, which addresses are isolated, and
//! how packets are denied.

use super::fields::{
    CONNECTION_MARK, address_part, by_device, destination, established, from_link, from_link_local, icmpv6,
    igmp, of_family, source, subject, to_port, to_service, with_mark, with_protocol,
};
use crate::model::Direction;
use crate::net::{Family, Protocol, octets};
use crate::netfilter::nftables::{
    Chain, Field, Hook, HookPoint, KeyPart, LOCAL_ADDRESS, Meta, RejectWith, Rule, SetKind, SetPurpose,
    Statement, Verdict,
};
use crate::ownership::{DENIED_EGRESS, DENIED_INGRESS, DENIED_SPOOFED, DENIED_TO_NODE, DENIED_UNASSIGNED};
use crate::render::{Binding, Deny, OnRevoke, Options, PodToNode};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The priorities of the two directions: after conntrack (-200), destination NAT (-100) and the filter chains of
/// kube-proxy (-110), before those of iptables (0), so that packets which are denied here do not reach other programs'
/// rules first.
const EGRESS_PRIORITY: i32 = -10;
const INGRESS_PRIORITY: i32 = -9;
/// The priorities of the chains that evaluate the policies of a second pod with the same address.
const SECOND_EGRESS_PRIORITY: i32 = -8;
const SECOND_INGRESS_PRIORITY: i32 = -7;

/// Denies packets of connections that were cut.
const REVOKED: &str = "REVOKED";
/// Accepts what policies must not deny.
const EXCUSED: &str = "EXCUSED";
/// Denies packets to addresses that no pod of this node has.
const UNASSIGNED: &str = "UNASSIGNED";
/// Denies packets from a pod to its node, with `--pod-to-node=drop`.
const TO_NODE: &str = "TO-NODE";
/// Accepts packets from a pod to itself.
pub(super) const TO_ITSELF: &str = "TO-ITSELF";

const UNASSIGNED_LIMIT: &str = "REPORTED-DEVICES";
/// How many denied packets per second of one pod and direction are copied to NFLOG.
const LOGGED_PER_SECOND: u32 = 10;
const LOGGED_BURST: u32 = 5;
/// How long a pod is remembered for this limit after its last denied packet.
pub(super) const LOGGED_TIMEOUT_MS: u64 = 60_000;
/// How many pods or devices are remembered for this limit at once. Packets of further ones are not copied.
pub(super) const LOGGED_MOST: u32 = 4096;

/// Router solicitation, neighbour solicitation and neighbour advertisement (RFC 4861). Bridged ones pass the forward
/// hook, and without them address resolution fails.
pub(super) const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
/// Router advertisement and redirect (RFC 4861): a pod that sends one claims to be a router.
const ROUTER_ONLY: [u8; 2] = [134, 137];
/// Multicast listener reports: report, done, report of version 2 (RFC 2710, RFC 3810).
const LISTENER_REPORTS: [u8; 3] = [131, 132, 143];
const DNS: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// The name of a direction in the names of chains and sets.
pub(super) fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "EGRESS",
        Direction::Ingress => "INGRESS",
    }
}

/// The map from an isolated address to the chain that evaluates its traffic.
pub(super) fn isolated_map(direction: Direction, family: Family) -> String {
    format!("ISOLATED-{}-{}", word(direction), family.digit())
}

/// The same map for the second pod with an address.
pub(super) fn second_map(direction: Direction, family: Family) -> String {
    format!("SECOND-{}-{}", word(direction), family.digit())
}

/// The map from an address that is isolated for egress to the chain that denies its packets to the node.
pub(super) fn to_node_map(family: Family) -> String {
    format!("{TO_NODE}-{}", family.digit())
}

/// The set of the addresses of this node's pods.
pub(super) fn local_set(family: Family) -> String {
    format!("LOCAL-{}", family.digit())
}

/// The set of isolated addresses, each as a pair of source and destination: the packets of a pod to itself.
pub(super) fn itself_set(family: Family) -> String {
    format!("ITSELF-{}", family.digit())
}

/// The chain that denies what policies do not allow, except from a pod to itself.
pub(super) fn denied_chain(direction: Direction) -> String {
    format!("DENIED-{}", word(direction))
}

fn reported_set(direction: Direction, family: Family) -> String {
    format!("REPORTED-{}-{}", word(direction), family.digit())
}

/// The verdict of the to-node map for an isolated address.
pub(super) fn to_node_verdict() -> Verdict {
    Verdict::Goto(TO_NODE.into())
}

/// The sets and maps, without elements.
pub(super) fn sets(options: &Options, has_second: bool) -> BTreeMap<Box<str>, SetKind> {
    let mut sets = BTreeMap::new();
    let mut set = |name: String, key: &[KeyPart], purpose, size| {
        sets.insert(name.into(), SetKind { key: key.into(), purpose, size });
    };
    let reported = SetPurpose::Dynamic { timeout_ms: LOGGED_TIMEOUT_MS };
    for family in Family::BOTH {
        let address = address_part(family);
        for direction in Direction::BOTH {
            set(isolated_map(direction, family), &[address], SetPurpose::VerdictMap, 0);
            if has_second {
                set(second_map(direction, family), &[address], SetPurpose::VerdictMap, 0);
            }
            set(reported_set(direction, family), &[address], reported, LOGGED_MOST);
        }
        set(itself_set(family), &[address, address], SetPurpose::Set, 0);
        if knows_local(options) {
            set(local_set(family), &[address], SetPurpose::Set, 0);
        }
        if options.pod_to_node == PodToNode::Drop {
            set(to_node_map(family), &[address], SetPurpose::VerdictMap, 0);
        }
    }
    set(UNASSIGNED_LIMIT.to_owned(), &[KeyPart::Interface], reported, LOGGED_MOST);
    sets
}

/// Whether the rules use the set of the addresses of this node's pods.
pub(super) fn knows_local(options: &Options) -> bool {
    options.binding != Binding::Off && options.refuse_unassigned
}

/// The chains whose content depends only on the options.
pub(super) fn chains(options: &Options, has_second: bool) -> BTreeMap<Box<str>, Chain> {
    let mut chains = BTreeMap::new();
    let mut base = |name: &str, point, priority, rules| {
        chains.insert(name.into(), Chain { base: Some(Hook { point, priority }), rules });
    };
    let directions = [(Direction::Egress, EGRESS_PRIORITY), (Direction::Ingress, INGRESS_PRIORITY)];
    for (direction, priority) in directions {
        base(
            &format!("FORWARD-{}", word(direction)),
            HookPoint::Forward,
            priority,
            forward(options, direction),
        );
        base(&format!("OUTPUT-{}", word(direction)), HookPoint::Output, priority, output(options, direction));
    }
    if has_second {
        let seconds =
            [(Direction::Egress, SECOND_EGRESS_PRIORITY), (Direction::Ingress, SECOND_INGRESS_PRIORITY)];
        for (direction, priority) in seconds {
            let word = word(direction);
            let [forward, output] = second(direction);
            base(&format!("FORWARD-SECOND-{word}"), HookPoint::Forward, priority, forward);
            base(&format!("OUTPUT-SECOND-{word}"), HookPoint::Output, priority, output);
        }
    }
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy => {
            let isolated = input(options, |family| isolated_map(Direction::Egress, family));
            base("INPUT", HookPoint::Input, EGRESS_PRIORITY, isolated);
            if has_second {
                let second = input(options, |family| second_map(Direction::Egress, family));
                base("INPUT-SECOND-EGRESS", HookPoint::Input, SECOND_EGRESS_PRIORITY, second);
            }
        }
        PodToNode::Drop => base("INPUT", HookPoint::Input, EGRESS_PRIORITY, input(options, to_node_map)),
    }
    let mut plain = |name: &str, rules| drop(chains.insert(name.into(), Chain { base: None, rules }));
    plain(EXCUSED, excused(options));
    plain(TO_ITSELF, to_itself());
    for direction in Direction::BOTH {
        let prefix = match direction {
            Direction::Ingress => DENIED_INGRESS,
            Direction::Egress => DENIED_EGRESS,
        };
        let mut rules = vec![to_service(Rule::when()).jump(TO_ITSELF)];
        rules.extend(Family::BOTH.map(|family| {
            let field = subject(direction, family);
            report(of_family(family), vec![field], &reported_set(direction, family), options, prefix)
        }));
        rules.extend(refusal(options));
        plain(&denied_chain(direction), rules);
    }
    if options.on_revoke == OnRevoke::Cut {
        plain(REVOKED, refusal(options));
    }
    let by_device = |prefix| {
        let device = Field::Meta(Meta::InputIndex);
        report(Rule::when(), vec![device], UNASSIGNED_LIMIT, options, prefix)
    };
    if knows_local(options) {
        let mut rules = vec![by_device(DENIED_UNASSIGNED)];
        rules.extend(refusal(options));
        plain(UNASSIGNED, rules);
    }
    if options.pod_to_node != PodToNode::Allow {
        let mut rules = vec![by_device(DENIED_TO_NODE)];
        rules.extend(refusal(options));
        plain(TO_NODE, rules);
    }
    chains
}

fn forward(options: &Options, direction: Direction) -> Vec<Rule> {
    let mut rules = Vec::new();
    if direction == Direction::Egress {
        rules.extend(revoked(options));
    }
    rules.push(established().accept());
    rules.push(of_family(Family::V6).jump(EXCUSED));
    if direction == Direction::Egress {
        rules.extend(unassigned(options));
    }
    rules.extend(look_up(|family| isolated_map(direction, family), direction));
    rules
}

/// Evaluates only packets that leave with an address that is not the node's, such as those of IPVS to pods.
fn output(options: &Options, direction: Direction) -> Vec<Rule> {
    let mut rules = Vec::new();
    if direction == Direction::Egress {
        rules.extend(revoked(options));
    }
    rules.push(established().accept());
    rules.push(from_this_node().accept().comment("the node reaches its pods"));
    // Before the node uses an address, it checks that no other host has it, with an unspecified source.
    rules.push(of_family(Family::V6).jump(EXCUSED));
    rules.extend(look_up(|family| isolated_map(direction, family), direction));
    rules
}

/// The chains that evaluate the policies of a second pod with an address: for forwarded packets, and for packets from
/// the node.
fn second(direction: Direction) -> [Vec<Rule>; 2] {
    let excused = || of_family(Family::V6).jump(EXCUSED);
    let asked = look_up(|family| second_map(direction, family), direction);
    let forward = [established().accept(), excused()].into_iter().chain(asked.clone());
    let output = [established().accept(), from_this_node().accept(), excused()].into_iter().chain(asked);
    [forward.collect(), output.collect()]
}

/// Evaluates what a pod sends to its node, unless `--pod-to-node=allow`: the map contains the chain for each address.
fn input(options: &Options, map: impl Fn(Family) -> String) -> Vec<Rule> {
    let mut rules = open_to_node();
    rules.extend(from_link_local_of_pods(options).map(|rule| rule.goto(TO_NODE)));
    rules.extend(look_up(map, Direction::Egress));
    rules
}

/// Accepts what a pod may send to its node whatever policies say.
pub(super) fn open_to_node() -> Vec<Rule> {
    let mut rules = vec![established().accept()];
    rules.extend(NEIGHBOUR_DISCOVERY.map(|number| icmpv6(number).accept()));
    for (protocol, port) in [(Protocol::Udp, DNS), (Protocol::Tcp, DNS)] {
        rules.push(to_port(Rule::when(), protocol, port).accept());
    }
    for (family, port) in [(Family::V4, DHCP_SERVER), (Family::V6, DHCPV6_SERVER)] {
        rules.push(to_port(of_family(family), Protocol::Udp, port).accept());
    }
    rules
}

/// Matches what isolated pods send from or to a link-local address of the node, as policies cannot name such addresses.
/// The table of family bridge marks packets from isolated pods; without that table, the rule matches all pods.
fn from_link_local_of_pods(options: &Options) -> Option<Rule> {
    match options.binding {
        Binding::Off => None,
        Binding::Ports => Some(with_mark(of_family(Family::V6), options.mark, true)),
        Binding::Addresses => {
            let rule = by_device(of_family(Family::V6), Meta::InputName, &options.bridge);
            Some(from_link_local(rule))
        }
    }
}

/// Denies both directions of connections that were cut, before any rule accepts packets.
fn revoked(options: &Options) -> Option<Rule> {
    let cut = Rule::when().any_bit(CONNECTION_MARK, options.mark).goto(REVOKED);
    (options.on_revoke == OnRevoke::Cut).then(|| cut.comment("connections that lost what allowed them"))
}

pub(super) fn from_this_node() -> Rule {
    Rule::when().is(Field::SourceAddressType, &LOCAL_ADDRESS.to_ne_bytes())
}

/// Looks up the chains that evaluate the traffic of isolated addresses.
pub(super) fn look_up(map: impl Fn(Family) -> String, direction: Direction) -> [Rule; 2] {
    Family::BOTH.map(|family| of_family(family).verdict_of(&[subject(direction, family)], &map(family)))
}

/// Neighbour discovery. Packets that were routed do not have its hop limit, and are dropped, as a pod could send
/// arbitrary data in them.
fn excused(options: &Options) -> Vec<Rule> {
    let mut rules: Vec<_> = NEIGHBOUR_DISCOVERY.map(|number| from_link(icmpv6(number)).accept()).into();
    rules.extend(ROUTER_ONLY.map(|number| {
        by_device(icmpv6(number), Meta::InputName, &options.bridge).drop().comment("pods are no routers")
    }));
    rules.extend(
        NEIGHBOUR_DISCOVERY.map(|number| icmpv6(number).drop().comment("neighbour discovery is not routed")),
    );
    rules
}

/// Denies packets to addresses that no pod of this node has. If no table binds pods to ports, it also denies packets
/// that come from such an address by the bridge. If the table of family bridge exists, it evaluates bridged frames, and
/// marks them, because nothing else distinguishes them from packets that are routed back to the bridge from which they
/// came.
fn unassigned(options: &Options) -> Vec<Rule> {
    if !knows_local(options) {
        return Vec::new();
    }
    let to_bridge = |rule| by_device(rule, Meta::OutputName, &options.bridge);
    let from_bridge = |rule| by_device(rule, Meta::InputName, &options.bridge);
    let nowhere = |family: Family, rule: Rule| {
        let rule = rule.outside(&[destination(family)], &local_set(family));
        rule.goto(UNASSIGNED).comment("no pod of this node has the address")
    };
    match options.binding {
        Binding::Off => Vec::new(),
        Binding::Ports => Family::BOTH
            .map(|family| nowhere(family, with_mark(to_bridge(of_family(family)), options.mark, false)))
            .into(),
        Binding::Addresses => {
            let bridged = |rule| from_bridge(to_bridge(rule));
            let mut rules = vec![bridged(igmp()).accept()];
            let unspecified = octets(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let dhcp = bridged(of_family(Family::V4)).is(source(Family::V4), &unspecified);
            rules.push(to_port(dhcp, Protocol::Udp, DHCP_SERVER).accept());
            rules.extend(LISTENER_REPORTS.map(|number| bridged(icmpv6(number)).accept()));
            for family in Family::BOTH {
                let forged = || from_bridge(of_family(family)).outside(&[source(family)], &local_set(family));
                let device = Field::Meta(Meta::InputIndex);
                rules.push(report(forged(), vec![device], UNASSIGNED_LIMIT, options, DENIED_SPOOFED));
                rules.push(forged().drop().comment("no pod of this node has the address"));
                rules.push(nowhere(family, to_bridge(of_family(family))));
            }
            rules
        }
    }
}

/// Packets from a pod to itself are forwarded only by a Service; any other is forged.
fn to_itself() -> Vec<Rule> {
    Family::BOTH
        .map(|family| {
            of_family(family).within(&[source(family), destination(family)], &itself_set(family)).accept()
        })
        .into()
}

/// Copies a packet to NFLOG, rate-limited for each value of the fields.
pub(super) fn report(rule: Rule, fields: Vec<Field>, set: &str, options: &Options, prefix: &str) -> Rule {
    let limit =
        Statement::Limit { fields, set: set.into(), per_second: LOGGED_PER_SECOND, burst: LOGGED_BURST };
    rule.and(limit).and(Statement::Log { group: options.nflog_group, prefix: prefix.into() })
}

/// Denies a packet as the operator chose.
fn refusal(options: &Options) -> Vec<Rule> {
    let unreachable = || Rule::when().reject(RejectWith::PortUnreachable);
    match options.deny {
        Deny::Drop => vec![Rule::verdict(Verdict::Drop)],
        Deny::RejectIcmp => vec![unreachable()],
        Deny::Reject => {
            // The kernel sends the reset for a packet that arrived at a bridge port without conntrack (nf_send_reset).
            // A client that connected to a Service would not recognise it as the answer to its packet. ICMP errors are
            // translated.
            let tcp = |rule| with_protocol(rule, Protocol::Tcp);
            let dialled = tcp(to_service(by_device(Rule::when(), Meta::InputName, &options.bridge)));
            vec![
                dialled.reject(RejectWith::PortUnreachable),
                tcp(Rule::when()).reject(RejectWith::TcpReset),
                unreachable(),
            ]
        }
    }
}
