//! The fixed chains: where packets enter ours, and who is excused.

use super::pod::{clear_mark, refusal, rejects};
use super::{
    Allowed, OnRevoke, Options, PodToNode, accept_chain, dispatch_chain, forward_chain, input_chain,
    isolated_set, output_chain, revoked_chain,
};
use crate::model::Direction;
use crate::net::{Family, PortRange, Protocol};
use crate::netfilter::iptables::{Chains, Layer4, Match, Rule, SetSide, State, Target};
use crate::netfilter::{ChainName, Hook};
use crate::ownership::DENIED_TO_NODE;

/// Router solicitation, neighbour solicitation, neighbour advertisement (RFC 4861) and packet too big (RFC 4443).
/// Bridged ones cross FORWARD; without them nobody finds anybody.
const ICMPV6_ALWAYS: [u8; 4] = [133, 135, 136, 2];
/// Router advertisement and redirect (RFC 4861): a pod that sends one wants to be the router.
const ICMPV6_NEVER_BRIDGED: [u8; 2] = [134, 137];
const DNS: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// Which built-in chains jump into ours.
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

/// The fixed chains whose content depends on the options alone.
pub(super) fn fixed_chains(options: &Options, family: Family) -> Chains {
    let mut chains =
        Chains::from([(forward_chain(), forward(options, family)), (output_chain(), output(options))]);
    match options.on_revoke {
        OnRevoke::Cut => {
            chains.insert(revoked_chain(), rejects(options, family));
        }
        OnRevoke::Keep => {}
    }
    match options.allowed {
        Allowed::Return => {}
        Allowed::Accept => {
            chains.insert(accept_chain(), vec![clear_mark(options), Rule::new(Target::Accept)]);
        }
    }
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy | PodToNode::Drop => {
            chains.insert(input_chain(), input(options, family));
        }
    }
    chains
}

fn forward(options: &Options, family: Family) -> Vec<Rule> {
    let mut rules = revoked(options);
    match options.allowed {
        Allowed::Return => {}
        Allowed::Accept => rules.extend(accept_established(family)),
    }
    rules.push(Rule::new(Target::Return).matching(established()));
    rules.extend(neighbour_discovery(family));
    rules.extend(router_impostors(options, family));
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
    rules.push(clear_mark(options));
    rules
}

/// Only packets that leave with somebody else's address: IPVS answers pods from here. The node's own are excused.
fn output(options: &Options) -> Vec<Rule> {
    let mut rules = revoked(options);
    rules.extend([
        Rule::new(Target::Return).matching(established()),
        Rule::new(Target::Return).matching(Match::SourceIsLocal(true)).comment("the node reaches its pods"),
        Rule::new(Target::Jump(forward_chain())),
    ]);
    rules
}

fn input(options: &Options, family: Family) -> Vec<Rule> {
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
    match options.pod_to_node {
        PodToNode::Allow => {}
        PodToNode::Policy => {
            rules.push(gate(Direction::Egress, family, dispatch_chain(Direction::Egress)));
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

/// Refuses the packets of connections that were cut, both ways, before anything excuses them.
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

/// Sends the packets of isolated addresses into a chain; everyone else's skip it.
fn gate(direction: Direction, family: Family, chain: ChainName) -> Rule {
    Rule::new(Target::Jump(chain)).matching(isolated(direction, family, subject_side(direction)))
}

/// With `--allowed=accept`: both ways of a connection of an isolated pod.
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

/// Where the isolated pod's address stands in a packet.
fn subject_side(direction: Direction) -> SetSide {
    match direction {
        Direction::Ingress => SetSide::Destination,
        Direction::Egress => SetSide::Source,
    }
}

fn icmpv6(target: Target, number: u8) -> Rule {
    Rule::new(target).protocol(Layer4::Icmpv6).matching(Match::Icmpv6Type(number))
}

fn neighbour_discovery(family: Family) -> Vec<Rule> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => ICMPV6_ALWAYS.map(|number| icmpv6(Target::Return, number)).into(),
    }
}

fn router_impostors(options: &Options, family: Family) -> Vec<Rule> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => ICMPV6_NEVER_BRIDGED
            .map(|number| {
                let rule = icmpv6(Target::Drop, number).in_interface(&options.bridge);
                rule.matching(Match::Bridged(true)).comment("pods are no routers")
            })
            .into(),
    }
}
