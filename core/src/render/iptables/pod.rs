//! The chain that evaluates one pod's traffic in one direction, the chain that pods with the same profile share, and
//! how packets are denied.

use super::policy::return_if_marked;
use crate::compile::{Isolation, Profile, Subject};
use crate::model::Direction;
use crate::net::{Family, Protocol, host};
use crate::netfilter::iptables::{Layer4, Match, RejectWith, Rule, State, Target};
use crate::ownership::{DENIED_EGRESS, DENIED_INGRESS};
use crate::render::{Deny, Names, Options};

/// How many denied packets per second of one pod and direction are copied to NFLOG.
pub(super) const LOGGED_PER_SECOND: u32 = 10;

pub(super) fn chain(
    names: &mut Names,
    options: &Options,
    family: Family,
    subject: &Subject,
    direction: Direction,
    guard: &Isolation,
) -> Vec<Rule> {
    let mut rules = vec![clear_mark(options)];
    for &address in guard.addresses.iter().filter(|address| Family::of(**address) == family) {
        // A packet from a pod to itself is forwarded only by a Service; any other is forged.
        let to_itself = Rule::new(Target::Return).source(host(address)).destination(host(address));
        let to_itself = to_itself.matching(Match::ConnectionState(vec![State::Dnat]));
        // Comparing addresses is cheaper than a comment, which the kernel evaluates like any other match.
        rules.push(to_itself.comment(&format!("{direction} of {subject}")));
    }
    rules.push(Rule::new(Target::Drop).matching(Match::ConnectionState(vec![State::Invalid])));
    match guard.profile(direction) {
        Some(profile) if has_chain(&profile) => {
            rules.push(Rule::new(Target::Jump(names.profile(&profile))));
            rules.push(return_if_marked(options));
        }
        Some(profile) => rules.extend(evaluation(names, options, &profile)),
        None => {}
    }
    let prefix = match direction {
        Direction::Ingress => DENIED_INGRESS,
        Direction::Egress => DENIED_EGRESS,
    };
    rules.extend(refusal(options, family, prefix));
    rules
}

/// The maximum number of policies in a pod's own chain. If there are more, they are in a chain that all pods of the
/// profile share. This costs each pod two rules, and each new connection two more.
const OWN_POLICIES: usize = 2;

/// Whether a profile has a chain of its own.
pub(super) fn has_chain(profile: &Profile) -> bool {
    profile.judgement.policies().nth(OWN_POLICIES).is_some()
}

/// The rules that evaluate a packet: afterwards the mark is set if a policy allows it.
pub(super) fn evaluation(names: &mut Names, options: &Options, profile: &Profile) -> Vec<Rule> {
    let jumps = profile.judgement.policies().flat_map(|policy| {
        let jump = Rule::new(Target::Jump(names.policy(policy, profile.direction)));
        [jump.comment(&format!("policy {policy}")), return_if_marked(options)]
    });
    jumps.collect()
}

pub(super) fn clear_mark(options: &Options) -> Rule {
    Rule::new(Target::SetMark { value: 0, mask: options.mark })
}

/// Logs a packet, rate-limited, with a prefix that states the reason, and denies it.
pub(super) fn refusal(options: &Options, family: Family, prefix: &str) -> Vec<Rule> {
    let log = Rule::new(Target::Log { prefix: prefix.into(), group: options.nflog_group });
    let mut rules = vec![log.matching(Match::LimitPerSecond(LOGGED_PER_SECOND))];
    rules.extend(rejects(options, family));
    rules
}

/// Denies a packet as the operator chose.
pub(super) fn rejects(options: &Options, family: Family) -> Vec<Rule> {
    let unreachable = match family {
        Family::V4 => RejectWith::IcmpPortUnreachable,
        Family::V6 => RejectWith::Icmp6PortUnreachable,
    };
    let tcp = |with| Rule::new(Target::Reject(with)).protocol(Layer4::Transport(Protocol::Tcp));
    // The kernel sends the reset for a packet that arrived at a bridge port without conntrack (nf_send_reset), whether
    // the packet was to be routed or not. A client that connected to a Service would not recognise the reset as the
    // answer to its packet. ICMP errors are translated.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Plan;
    use crate::model::{Change, Cluster, Pod, PodKey, Policy, PolicyKey, Selector};
    use crate::render::iptables::Renderer;

    fn pod(number: u8) -> Change {
        Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![[10, 244, 1, number].into()],
            ..Pod::new(PodKey::new("shop", &format!("web-{number}")))
        })
    }

    fn policy(number: usize) -> Change {
        Change::Policy(Policy {
            key: PolicyKey::new("shop", &format!("policy-{number}")),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(Vec::new()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        })
    }

    struct Node {
        cluster: Cluster,
        plan: Plan,
        renderer: Renderer,
    }

    impl Node {
        fn new(pods: u8, policies: usize) -> Node {
            let renderer = Renderer::new(Options::default());
            let mut node = Node { cluster: Cluster::new("node-a"), plan: Plan::default(), renderer };
            (0..pods).map(pod).chain((0..policies).map(policy)).for_each(|change| node.apply(change));
            node.plan.take(&node.cluster);
            node
        }

        fn apply(&mut self, change: Change) {
            let touched = self.cluster.apply(change);
            self.plan.update(&self.cluster, &touched);
        }

        fn rules(&mut self) -> usize {
            let ruleset = self.renderer.ruleset(&self.cluster, &self.plan);
            ruleset.tables[&Family::V4].chains.values().map(Vec::len).sum()
        }

        fn rules_to_write(&mut self) -> usize {
            let delta = self.plan.take(&self.cluster);
            let edit = self.renderer.edit(&self.cluster, &self.plan, &delta);
            edit.chains.into_values().flatten().map(|rules| rules.len()).sum()
        }
    }

    #[test]
    fn pods_that_the_same_policies_isolate_share_the_chain_that_lists_them() {
        let (few, many) = (Node::new(10, OWN_POLICIES).rules(), Node::new(10, OWN_POLICIES + 1).rules());
        assert_eq!(many + 10 * 2 * OWN_POLICIES, few + 10 * 2 + 2 * (OWN_POLICIES + 1));
        let more = Node::new(11, 200).rules() - Node::new(10, 200).rules();
        assert!(more < 20, "a pod more costs {more} rules, whatever the number of its policies");
    }

    #[test]
    fn policy_about_many_pods_rewrites_one_list_and_a_few_rules_of_each_pod() {
        let mut node = Node::new(50, 300);
        node.rules();
        node.apply(policy(300));
        assert_eq!(node.rules_to_write(), 2 * 301 + 50 * 9);
        node.apply(Change::PolicyGone(PolicyKey::new("shop", "policy-7")));
        node.apply(Change::PodGone(PodKey::new("shop", "web-7")));
        node.rules_to_write();
    }
}
