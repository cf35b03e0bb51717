//! The chains that evaluate allowed packets by audited policies. They copy to NFLOG what these policies would have denied, and deny
//! nothing. They use our mark, so they come after its last use.

use super::pod::{LOGGED_PER_SECOND, clear_mark};
use super::policy::return_if_marked;
use crate::compile::{Audits, Isolation, Profile, Subject};
use crate::model::Direction;
use crate::net::{Family, host};
use crate::netfilter::iptables::{Match, Rule, State, Target};
use crate::ownership::{AUDITED_EGRESS, AUDITED_INGRESS};
use crate::render::{Names, Options, audit_chain};

/// The jump to the chain that finds the chains of audited addresses, if there are any in this family.
pub(super) fn entrance(audits: &Audits, family: Family) -> Option<Rule> {
    has_chains(audits, family).then(|| Rule::new(Target::Jump(audit_chain())))
}

/// Whether an address of this family is audited.
pub(super) fn has_chains(audits: &Audits, family: Family) -> bool {
    audits.subjects().values().any(|audit| audit.has_family(family))
}

/// The chain that sends the packets of each audited address to the chain of its pod, and back: a packet between two pods is
/// evaluated in both directions.
pub(super) fn dispatch(names: &mut Names, audits: &Audits, family: Family) -> Vec<Rule> {
    let addresses = Direction::BOTH.into_iter().flat_map(|direction| {
        audits.addresses(direction).map(move |(address, subject)| (direction, address, subject))
    });
    let own = addresses.filter(|(_, address, _)| Family::of(*address) == family);
    let jump = |(direction, address, subject): (Direction, _, &Subject)| {
        let rule = Rule::new(Target::Jump(names.audit_pod(subject, direction)));
        match direction {
            Direction::Ingress => rule.destination(host(address)),
            Direction::Egress => rule.source(host(address)),
        }
    };
    own.map(jump).collect()
}

/// The chain of an audited pod. Each pod has its own, as the kernel counts the packets that are copied for each rule.
pub(super) fn pod_chain(
    names: &mut Names,
    options: &Options,
    family: Family,
    subject: &Subject,
    profile: &Profile,
    audit: &Isolation,
) -> Vec<Rule> {
    let direction = profile.direction;
    let mut rules = vec![clear_mark(options)];
    for &address in audit.addresses.iter().filter(|address| Family::of(**address) == family) {
        let to_itself = Rule::new(Target::Return).source(host(address)).destination(host(address));
        let to_itself = to_itself.matching(Match::ConnectionState(vec![State::Dnat]));
        rules.push(to_itself.comment(&format!("audit of {direction} of {subject}")));
    }
    rules.push(Rule::new(Target::Return).matching(Match::ConnectionState(vec![State::Invalid])));
    rules.push(Rule::new(Target::Jump(names.audit_profile(profile))));
    rules.push(return_if_marked(options));
    let prefix = match direction {
        Direction::Ingress => AUDITED_INGRESS,
        Direction::Egress => AUDITED_EGRESS,
    };
    let log = Rule::new(Target::Log { prefix: prefix.into(), group: options.nflog_group });
    rules.push(log.matching(Match::LimitPerSecond(LOGGED_PER_SECOND)));
    rules
}

/// The chain of a profile: afterwards the mark is set if a policy allows the packet.
pub(super) fn profile_chain(names: &mut Names, options: &Options, profile: &Profile) -> Vec<Rule> {
    let jumps = profile.judgement.policies().flat_map(|policy| {
        let jump = Rule::new(Target::Jump(names.audit_policy(policy, profile.direction)));
        [jump.comment(&format!("audit of policy {policy}")), return_if_marked(options)]
    });
    jumps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Plan;
    use crate::model::{
        AuditLabel, Change, Cluster, Demand, Labels, Peers, Pod, PodKey, Policy, PolicyKey, Ports,
        Requirement, Rule as Allow, Selector,
    };
    use crate::net::Protocol;
    use crate::netfilter::iptables::{Packet, Payload, SetLookup, Verdict, trace};
    use crate::netfilter::{Ruleset, SetName};
    use crate::render::iptables::Renderer;
    use crate::render::{Allowed, forward_chain};
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    struct Sets(Ruleset);

    impl SetLookup for Sets {
        fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
            self.0.sets.get(name).is_some_and(|desired| desired.set.contains(address, port))
        }
    }

    const SENDER: [u8; 4] = [10, 244, 1, 10];
    const RECEIVER: [u8; 4] = [10, 244, 1, 11];

    fn pod(app: &str, address: [u8; 4]) -> Change {
        Change::Pod(Pod {
            node: Some("node-a".into()),
            labels: Labels::new(&BTreeMap::from([("app".to_owned(), app.to_owned())])),
            addresses: vec![address.into()],
            ..Pod::new(PodKey::new("shop", app))
        })
    }

    fn policy(
        app: &str,
        ingress: Option<Vec<Allow>>,
        egress: Option<Vec<Allow>>,
        audit: AuditLabel,
    ) -> Change {
        let demand = Demand::In(BTreeSet::from([app.into()]));
        let subject = Selector::new([Requirement { key: "app".into(), demand }]);
        let key = PolicyKey::new("shop", app);
        Change::Policy(Policy {
            key,
            uid: None,
            version: Default::default(),
            subject,
            ingress,
            egress,
            invalid_parts: Vec::new(),
            audit,
        })
    }

    /// The sender's egress is enforced, and allows everything: its packets have our mark when they come to the audit.
    #[test]
    fn packet_that_policies_allow_is_audited_before_it_is_accepted_or_returned_and_only_if_it_is_new() {
        let everything = vec![Allow { index: 0, peers: Peers::Anywhere, ports: Ports::All }];
        let (mut cluster, mut plan) = (Cluster::new("node-a"), Plan::default());
        for change in [
            pod("sender", SENDER),
            pod("receiver", RECEIVER),
            policy("sender", None, Some(everything), AuditLabel::Enforced),
            policy("receiver", Some(Vec::new()), None, AuditLabel::Audited),
        ] {
            let touched = cluster.apply(change);
            plan.update(&cluster, &touched);
        }
        for (allowed, verdict) in [(Allowed::Return, Verdict::Passed), (Allowed::Accept, Verdict::Accepted)] {
            let options = Options { allowed, ..Options::default() };
            let ruleset = Renderer::new(options).ruleset(&cluster, &plan);
            let chains = ruleset.tables[&Family::V4].chains.clone();
            for (state, copies) in [(State::New, 1), (State::Established, 0), (State::Related, 0)] {
                let packet = Packet {
                    source: SENDER.into(),
                    destination: RECEIVER.into(),
                    payload: Payload::Transport { protocol: Protocol::Tcp, port: 80 },
                    state,
                    connection_mark: 0,
                    bridged: true,
                    in_interface: "cni0".into(),
                    out_interface: "cni0".into(),
                    translated: false,
                    source_is_local: false,
                };
                let traced = trace(&chains, &forward_chain(), &Sets(ruleset.clone()), &packet);
                let traced = traced.expect("a table that is whole");
                let met = traced.met.iter().map(|(chain, rule)| &chains[chain][*rule].target);
                let copied = met.filter(|target| matches!(target, Target::Log { .. })).count();
                assert_eq!(
                    (copied, traced.verdict == verdict),
                    (copies, true),
                    "{allowed:?} {state:?}: {traced:?}"
                );
            }
        }
    }
}
