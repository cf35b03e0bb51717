//! The chain that judges one pod's traffic in one direction, and how a refusal ends.

use super::policy::return_if_marked;
use super::{Deny, Names, Options};
use crate::compile::{Guard, Subject};
use crate::model::Direction;
use crate::net::{Family, Protocol, host};
use crate::netfilter::iptables::{Layer4, Match, RejectWith, Rule, State, Target};
use crate::ownership::{DENIED_EGRESS, DENIED_INGRESS};

/// How many refused packets a second of one pod and direction are copied to the log.
pub(super) const LOGGED_PER_SECOND: u32 = 10;

pub(super) fn chain(
    names: &mut Names,
    options: &Options,
    family: Family,
    subject: &Subject,
    direction: Direction,
    guard: &Guard,
) -> Vec<Rule> {
    let mut rules = vec![clear_mark(options)];
    for &address in guard.addresses.iter().filter(|address| Family::of(**address) == family) {
        // From a pod to itself a packet comes here by a Service alone; any other is forged.
        let to_itself = Rule::new(Target::Return).source(host(address)).destination(host(address));
        let to_itself = to_itself.matching(Match::ConnectionState(vec![State::Dnat]));
        // To compare addresses costs less than a comment, which the kernel asks like any other match.
        rules.push(to_itself.comment(&format!("{direction} of {subject}")));
    }
    rules.push(Rule::new(Target::Drop).matching(Match::ConnectionState(vec![State::Invalid])));
    for policy in guard.policies(direction).into_iter().flatten() {
        let jump = Rule::new(Target::Jump(names.policy(policy, direction)));
        rules.push(jump.comment(&format!("policy {policy}")));
        rules.push(return_if_marked(options));
    }
    let prefix = match direction {
        Direction::Ingress => DENIED_INGRESS,
        Direction::Egress => DENIED_EGRESS,
    };
    rules.extend(refusal(options, family, prefix));
    rules
}

pub(super) fn clear_mark(options: &Options) -> Rule {
    Rule::new(Target::SetMark { value: 0, mask: options.mark })
}

/// Logs a packet, within limits, with a word that tells why, and refuses it.
pub(super) fn refusal(options: &Options, family: Family, prefix: &str) -> Vec<Rule> {
    let log = Rule::new(Target::Log { prefix: prefix.into(), group: options.nflog_group });
    let mut rules = vec![log.matching(Match::LimitPerSecond(LOGGED_PER_SECOND))];
    rules.extend(rejects(options, family));
    rules
}

/// Refuses a packet as the operator chose.
pub(super) fn rejects(options: &Options, family: Family) -> Vec<Rule> {
    let unreachable = match family {
        Family::V4 => RejectWith::IcmpPortUnreachable,
        Family::V6 => RejectWith::Icmp6PortUnreachable,
    };
    let tcp = |with| Rule::new(Target::Reject(with)).protocol(Layer4::Transport(Protocol::Tcp));
    // To a packet that came in by a port of a bridge, routed further or not, the kernel sends the reset past conntrack
    // (nf_send_reset), so a client that dialled a Service would not know it as the answer to its own packet. ICMP
    // errors are translated.
    let dialled_a_service =
        tcp(unreachable).in_interface(&options.bridge).matching(Match::ConnectionState(vec![State::Dnat]));
    let reset = tcp(RejectWith::TcpReset);
    let reject = Rule::new(Target::Reject(unreachable));
    match options.deny {
        Deny::Reject => vec![dialled_a_service, reset, reject],
        Deny::RejectIcmp => vec![reject],
        Deny::Drop => vec![Rule::new(Target::Drop)],
    }
}
