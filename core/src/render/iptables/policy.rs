//! The chain of one policy in one direction: it sets our mark on packets that the policy allows.

use crate::compile::{Allow, AllowPeers, AllowPort, AllowPorts};
use crate::model::{Direction, PolicyKey};
use crate::net::{Family, PortRange};
use crate::netfilter::SetName;
use crate::netfilter::iptables::{Layer4, Match, Rule, SetSide, Target};
use crate::render::{Names, Options};

/// The maximum number of ports in one multiport match; a range counts as two (linux/netfilter/xt_multiport.h).
const MULTIPORT_MAX: usize = 15;

pub(super) fn chain(
    names: &mut Names,
    options: &Options,
    family: Family,
    key: &PolicyKey,
    direction: Direction,
    allows: &[Allow],
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for allow in allows {
        let comment = format!("{key} {direction}[{}]", allow.rule);
        let before = rules.len();
        for peer in peers(names, family, direction, &allow.peers) {
            for ports in ports(names, family, &allow.ports) {
                let marks = Target::SetMark { value: options.mark, mask: options.mark };
                let mut rule = Rule::new(marks);
                rule.protocol = ports.protocol;
                rule.matches = ports.matches.into_iter().chain(peer.clone()).collect();
                rules.push(rule.comment(&comment));
            }
        }
        if rules.len() > before {
            rules.push(return_if_marked(options));
        }
    }
    rules.pop();
    rules
}

pub(super) fn return_if_marked(options: &Options) -> Rule {
    Rule::new(Target::Return).matching(Match::Mark { value: options.mark, mask: options.mark })
}

/// The ways to match the peers in a family; none if there are no peers of this family.
fn peers(names: &mut Names, family: Family, direction: Direction, peers: &AllowPeers) -> Vec<Option<Match>> {
    let side = match direction {
        Direction::Ingress => SetSide::Source,
        Direction::Egress => SetSide::Destination,
    };
    match peers {
        AllowPeers::Anywhere => vec![None],
        AllowPeers::In(sets) => {
            let sets = sets.iter().filter(|set| set.has_family(family));
            sets.map(|set| Some(Match::Set(names.set(set, family), side))).collect()
        }
    }
}

#[derive(Clone)]
struct PortMatches {
    protocol: Option<Layer4>,
    matches: Vec<Match>,
}

fn ports(names: &mut Names, family: Family, ports: &AllowPorts) -> Vec<PortMatches> {
    let AllowPorts::Any(ports) = ports else {
        return vec![PortMatches { protocol: None, matches: Vec::new() }];
    };
    let mut ways = Vec::new();
    for port in ports {
        match port {
            AllowPort::Protocol(protocol) => {
                ways.push(PortMatches { protocol: Some(Layer4::Transport(*protocol)), matches: Vec::new() });
            }
            AllowPort::Numbered(protocol, ranges) => {
                let protocol = Some(Layer4::Transport(*protocol));
                let numbered = multiports(ranges).into_iter();
                ways.extend(numbered.map(|matches| PortMatches { protocol, matches: vec![matches] }));
            }
            AllowPort::Named(protocol, set) => {
                let name: SetName = names.set(set, family);
                ways.push(PortMatches {
                    protocol: Some(Layer4::Transport(*protocol)),
                    matches: vec![Match::Set(name, SetSide::DestinationPort)],
                });
            }
        }
    }
    ways
}

fn multiports(ranges: &[PortRange]) -> Vec<Match> {
    let mut matches = Vec::new();
    let mut batch: Vec<PortRange> = Vec::new();
    let mut weight = 0;
    for &range in ranges {
        let own = if range.first() == range.last() { 1 } else { 2 };
        if weight + own > MULTIPORT_MAX {
            matches.push(port_match(std::mem::take(&mut batch)));
            weight = 0;
        }
        batch.push(range);
        weight += own;
    }
    matches.push(port_match(batch));
    matches
}

fn port_match(ranges: Vec<PortRange>) -> Match {
    match ranges.as_slice() {
        [range] => Match::DestinationPort(*range),
        _ => Match::DestinationPorts(ranges),
    }
}
