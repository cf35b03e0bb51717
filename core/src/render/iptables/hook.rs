//! The fixed chains: where packets enter our chains, and which packets pass without evaluation.

use super::audit;
use super::pod::{LOGGED_PER_SECOND, clear_mark, refusal, rejects};
use crate::compile::Audits;
use crate::model::Direction;
use crate::net::{Family, IpNet, Ipv6Net, PortRange, Protocol};
use crate::netfilter::iptables::{Chains, Layer4, Match, Rule, SetSide, State, Target};
use crate::netfilter::{ChainName, Hook};
use crate::ownership::{DENIED_SPOOFED, DENIED_TO_NODE, DENIED_UNASSIGNED};
use crate::render::{
    Allowed, Binding, OnRevoke, Options, PodToNode, accept_chain, dispatch_chain, forward_chain, input_chain,
    isolated_set, local_set, output_chain, revoked_chain, unassigned_chain,
};

/// Router solicitation, neighbour solicitation and neighbour advertisement (RFC 4861). Bridged ones pass FORWARD, and
/// without them address resolution fails. They are never routed, as they must arrive with hop limit 255.
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
/// Router advertisement and redirect (RFC 4861): a pod that sends one claims to be a router.
const ROUTER_ONLY: [u8; 2] = [134, 137];
/// Multicast listener reports: report, done, report of version 2 (RFC 2710, RFC 3810).
const LISTENER_REPORTS: [u8; 3] = [131, 132, 143];
/// The prefix of link-local addresses (RFC 4291).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
const DNS: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// The jumps from built-in chains to ours.
pub(super) fn hooks(options: &Options) -> Vec<Hook> {
    let mut hooks = vec![
        Hook { builtin: "FORWARD", chain: forward_chain() },
        Hook { builtin: "OUTPUT", chain: output_chain() },
    ];
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy | PodToNode::Drop => hooks.push(Hook { builtin: "INPUT", chain: input_chain() }),
    }
    hooks
}

/// The fixed chains whose content depends only on the options, and on whether anything is audited.
pub(super) fn fixed_chains(options: &Options, audits: &Audits, family: Family) -> Chains {
    let audit = || audit::entrance(audits, family);
    let mut chains = Chains::from([
        (forward_chain(), forward(options, audit(), family)),
        (output_chain(), output(options, family)),
    ]);
    match options.binding {
        Binding::Ports | Binding::Addresses => {
            chains.insert(unassigned_chain(), refusal(options, family, DENIED_UNASSIGNED));
        }
        Binding::Off => {}
    }
    match options.on_revoke {
        OnRevoke::Cut => {
            chains.insert(revoked_chain(), rejects(options, family));
        }
        OnRevoke::Keep => {}
    }
    match options.allowed {
        Allowed::Return => {}
        Allowed::Accept => {
            let rules = audit().into_iter().chain([clear_mark(options), Rule::new(Target::Accept)]);
            chains.insert(accept_chain(), rules.collect());
        }
    }
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy | PodToNode::Drop => {
            chains.insert(input_chain(), input(options, audit(), family));
        }
    }
    chains
}

fn forward(options: &Options, audit: Option<Rule>, family: Family) -> Vec<Rule> {
    let mut rules = revoked(options);
    match options.allowed {
        Allowed::Return => {}
        Allowed::Accept => rules.extend(accept_established(family)),
    }
    rules.push(Rule::new(Target::Return).matching(established()));
    rules.extend(bridged_discovery(options, family));
    rules.extend(unassigned(options, family));
    for direction in Direction::BOTH {
        rules.push(gate(direction, family, dispatch_chain(direction)));
    }
    match options.allowed {
        Allowed::Return => {}
        Allowed::Accept => {
            let judged = Match::Mark { value: options.mark, mask: options.mark };
            let accept = Rule::new(Target::Jump(accept_chain())).matching(judged);
            rules.push(accept.comment("judged and allowed"));
        }
    }
    rules.extend(audit);
    rules.push(clear_mark(options));
    rules
}

/// Evaluates only packets that leave with an address that is not the node's, such as those of IPVS to pods. Packets
/// from the node itself pass.
fn output(options: &Options, family: Family) -> Vec<Rule> {
    let mut rules = revoked(options);
    rules.extend([
        Rule::new(Target::Return).matching(established()),
        Rule::new(Target::Return).matching(Match::SourceIsLocal(true)).comment("the node reaches its pods"),
    ]);
    // Before the node uses an address, it checks that no other host has it, with an unspecified source.
    rules.extend(neighbour_discovery(family));
    rules.push(Rule::new(Target::Jump(forward_chain())));
    rules
}

fn input(options: &Options, audit: Option<Rule>, family: Family) -> Vec<Rule> {
    let dhcp = match family {
        Family::V4 => DHCP_SERVER,
        Family::V6 => DHCPV6_SERVER,
    };
    let open = |protocol, port| {
        let range = PortRange::single(port).expect("a port above 0");
        let rule = Rule::new(Target::Return).protocol(Layer4::Transport(protocol));
        rule.matching(Match::DestinationPort(range))
    };
    let mut rules = vec![Rule::new(Target::Return).matching(established())];
    rules.extend(neighbour_discovery(family));
    rules.extend([open(Protocol::Udp, DNS), open(Protocol::Tcp, DNS), open(Protocol::Udp, dhcp)]);
    rules.extend(from_link_local(options, family));
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy => {
            rules.push(gate(Direction::Egress, family, dispatch_chain(Direction::Egress)));
            rules.extend(audit);
            rules.push(clear_mark(options));
        }
        PodToNode::Drop => {
            let isolated = isolated(Direction::Egress, family, SetSide::Source);
            for mut rule in refusal(options, family, DENIED_TO_NODE) {
                rule.matches.insert(0, isolated.clone());
                rules.push(rule);
            }
        }
    }
    rules
}

/// Denies what isolated pods send from or to a link-local address of the node, as policies cannot name such addresses.
/// The table of family bridge marks packets from isolated pods; without that table, the rules apply to all pods.
fn from_link_local(options: &Options, family: Family) -> Vec<Rule> {
    let from_isolated = match (family, options.binding) {
        (Family::V4, _) | (Family::V6, Binding::Off) => return Vec::new(),
        (Family::V6, Binding::Ports) => |rule: &mut Rule, options: &Options| {
            rule.matches.insert(0, Match::Mark { value: options.mark, mask: options.mark });
        },
        (Family::V6, Binding::Addresses) => |rule: &mut Rule, options: &Options| {
            rule.source = Some(IpNet::V6(LINK_LOCAL));
            rule.in_interface = Some(options.bridge.as_str().into());
        },
    };
    let mut rules = refusal(options, family, DENIED_TO_NODE);
    rules.iter_mut().for_each(|rule| from_isolated(rule, options));
    rules
}

/// Denies both directions of connections that were cut, before any rule lets packets pass.
fn revoked(options: &Options) -> Vec<Rule> {
    match options.on_revoke {
        OnRevoke::Cut => {
            let mark = Match::ConnectionMark { value: options.mark, mask: options.mark };
            let revoked = Rule::new(Target::Jump(revoked_chain())).matching(mark);
            vec![revoked.comment("connections that lost what allowed them")]
        }
        OnRevoke::Keep => Vec::new(),
    }
}

fn established() -> Match {
    Match::ConnectionState(vec![State::Related, State::Established])
}

/// Sends packets of isolated addresses to a chain; other packets skip it.
fn gate(direction: Direction, family: Family, chain: ChainName) -> Rule {
    Rule::new(Target::Jump(chain)).matching(isolated(direction, family, subject_side(direction)))
}

/// For `--allowed=accept`: accepts both directions of an isolated pod's connections.
fn accept_established(family: Family) -> impl Iterator<Item = Rule> {
    let sides = [SetSide::Source, SetSide::Destination];
    let ways = Direction::BOTH.into_iter().flat_map(move |direction| sides.map(|side| (direction, side)));
    ways.map(move |(direction, side)| {
        Rule::new(Target::Accept).matching(established()).matching(isolated(direction, family, side))
    })
}

fn isolated(direction: Direction, family: Family, side: SetSide) -> Match {
    Match::Set(isolated_set(direction, family), side)
}

/// The field of a packet that contains the isolated pod's address.
fn subject_side(direction: Direction) -> SetSide {
    match direction {
        Direction::Ingress => SetSide::Destination,
        Direction::Egress => SetSide::Source,
    }
}

fn icmpv6(target: Target, number: u8) -> Rule {
    Rule::new(target).protocol(Layer4::Icmpv6).matching(Match::Icmpv6Type(number))
}

/// Neighbour discovery of this node with others on the link.
fn neighbour_discovery(family: Family) -> Vec<Rule> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => NEIGHBOUR_DISCOVERY.map(|number| icmpv6(Target::Return, number)).into(),
    }
}

/// Neighbour discovery on the bridge. Routed neighbour discovery is dropped, as a pod could send arbitrary data in it.
fn bridged_discovery(options: &Options, family: Family) -> Vec<Rule> {
    if family == Family::V4 {
        return Vec::new();
    }
    let bridged = |target, number| icmpv6(target, number).matching(Match::Bridged(true));
    let mut rules: Vec<_> = NEIGHBOUR_DISCOVERY.map(|number| bridged(Target::Return, number)).into();
    rules.extend(ROUTER_ONLY.map(|number| {
        let rule = icmpv6(Target::Drop, number).in_interface(&options.bridge);
        rule.matching(Match::Bridged(true)).comment("pods are no routers")
    }));
    rules.extend(NEIGHBOUR_DISCOVERY.map(|number| {
        let rule = icmpv6(Target::Drop, number).matching(Match::Bridged(false));
        rule.comment("neighbour discovery is not routed")
    }));
    rules
}

/// Denies packets to addresses that no pod of this node has. If no table binds pods to ports, it also denies packets
/// that come from such an address by the bridge, bridged or routed, as otherwise a pod could escape its egress policies
/// with an address of its choice.
fn unassigned(options: &Options, family: Family) -> Vec<Rule> {
    let refuse = |bridged| {
        let rule = Rule::new(Target::Jump(unassigned_chain())).matching(Match::Bridged(bridged));
        rule.matching(Match::NotInSet(local_set(family), SetSide::Destination))
    };
    let routed = || {
        let rule = refuse(false).out_interface(&options.bridge);
        rule.comment("no pod of this node has the address")
    };
    match options.binding {
        Binding::Off => Vec::new(),
        Binding::Ports | Binding::Addresses if !options.refuse_unassigned => Vec::new(),
        Binding::Ports => vec![routed()],
        Binding::Addresses => {
            let mut rules = link_control(family);
            rules.extend(forged(options, family));
            rules.extend([refuse(true), routed()]);
            rules
        }
    }
}

/// Drops packets that come by the bridge from an address that no pod of this node has. They are not answered, because
/// the answer would go to the forged address, which may be that of a whole subnet, and would contain a part of the
/// packet.
fn forged(options: &Options, family: Family) -> [Rule; 2] {
    let log = Target::Log { prefix: DENIED_SPOOFED.into(), group: options.nflog_group };
    let rules = [log, Target::Drop].map(|target| {
        let not_local = Match::NotInSet(local_set(family), SetSide::Source);
        Rule::new(target).in_interface(&options.bridge).matching(not_local)
    });
    let [log, drop] = rules;
    let log = log.matching(Match::LimitPerSecond(LOGGED_PER_SECOND));
    [log, drop.comment("no pod of this node has the address")]
}

/// What a link needs in addition to ARP and neighbour discovery.
fn link_control(family: Family) -> Vec<Rule> {
    let bridged = |rule: Rule| rule.matching(Match::Bridged(true));
    match family {
        Family::V4 => {
            let nowhere = crate::net::host(std::net::Ipv4Addr::UNSPECIFIED.into());
            let port = PortRange::single(DHCP_SERVER).expect("a port above 0");
            let dhcp = Rule::new(Target::Return).source(nowhere).protocol(Layer4::Transport(Protocol::Udp));
            vec![
                bridged(Rule::new(Target::Return).protocol(Layer4::Igmp)),
                bridged(dhcp.matching(Match::DestinationPort(port))),
            ]
        }
        Family::V6 => LISTENER_REPORTS.map(|number| bridged(icmpv6(Target::Return, number))).into(),
    }
}
