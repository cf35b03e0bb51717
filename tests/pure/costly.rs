//! What one costly policy makes of a node's work, in counts that do not depend on the machine.

mod namespace;
mod rules;

use bridgewarden::apply::{Actual, Fake, PacketFilter, Step};
use bridgewarden::compile::{Limits, shortfalls};
use bridgewarden::controller::Enforcer;
use bridgewarden::model::{
    Change, Direction, Labels, NamedPort, Namespace, NamespaceName, Pod, PodKey, PolicyKey,
};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{self, TableFamily};
use bridgewarden::ownership::INET_TABLE;
use bridgewarden::source::convert;
use serde_json::{Value, json};
use std::net::IpAddr;
use support::backends::{BACKENDS, options};

const PODS: usize = 3000;

fn pod(namespace: &str, number: usize, node: &str) -> Change {
    let labels = [("app".to_owned(), format!("a{number}")), ("team".to_owned(), "x".to_owned())];
    Change::Pod(Pod {
        node: Some(node.into()),
        labels: Labels::new(&labels.into()),
        addresses: vec![IpAddr::from([10, 244, (number / 250) as u8, (number % 250) as u8])],
        ..Pod::new(PodKey::new(namespace, &format!("pod-{number}")))
    })
}

fn namespace(name: &str) -> Change {
    let name = NamespaceName::new(name);
    Change::Namespace(Namespace { labels: Labels::of_unknown_namespace(&name), name, terminating: false })
}

fn policy(namespace: &str, name: &str, spec: Value) -> Change {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Change::Policy(convert::policy(&serde_json::from_value(object).expect("an object of the API's shape")))
}

fn not_in(number: usize) -> Value {
    json!({"podSelector": {"matchExpressions": [
        {"key": "app", "operator": "NotIn", "values": [format!("a{number}")]}]}})
}

fn not_in_policy(peers: usize) -> Change {
    let from: Vec<Value> = (0..peers).map(not_in).collect();
    policy("crowd", "costly", json!({"podSelector": {}, "ingress": [{"from": from}]}))
}

/// A node with a kernel, 3,000 pods with labels of their own, 10 of them here, and a pod of another tenant.
struct Node {
    enforcer: Enforcer,
    kernel: Fake,
}

impl Node {
    fn new(backend: BackendName, limits: Limits) -> Node {
        let mut enforcer = Enforcer::new("here", options(backend)).with_limits(limits);
        for number in 0..PODS {
            enforcer.apply(pod("crowd", number, if number < 10 { "here" } else { "there" }));
        }
        enforcer.apply(pod("other", PODS, "here"));
        let mut node = Node { enforcer, kernel: Fake::default() };
        node.kernel.switch_backend(backend);
        let actual = Actual::read(&mut node.kernel).expect("a kernel in memory is read");
        let flush = node.enforcer.adopt(&actual);
        node.commit(&flush.steps);
        node
    }

    fn commit(&mut self, steps: &[Step]) {
        self.kernel.commit_all(steps).expect("the kernel takes every step");
    }

    /// What is reported of policies.
    fn notes(&self) -> Vec<String> {
        let found = shortfalls(self.enforcer.cluster(), self.enforcer.plan(), &Family::BOTH);
        found.into_iter().map(|found| found.note).collect()
    }

    /// Flushes until nothing is left to do; returns how many elements each flush wrote.
    fn settle(&mut self) -> Vec<usize> {
        let mut slices = Vec::new();
        while self.enforcer.is_behind() {
            let flush = self.enforcer.flush();
            slices.push(flush.steps.iter().map(elements).sum());
            self.commit(&flush.steps);
        }
        slices
    }
}

fn elements(step: &Step) -> usize {
    match step {
        Step::CreateSet(_, set) | Step::ReplaceSet(_, set) => set.elements.len(),
        Step::AddElements(_, _, _, elements) | Step::RemoveElements(_, _, _, elements) => elements.len(),
        Step::Transact(batches) => {
            let inet = batches.iter().filter(|batch| batch.family == TableFamily::Inet);
            let elements = inet.flat_map(|batch| &batch.changes).map(|change| {
                if let nftables::Change::AddElements(_, elements)
                | nftables::Change::AddRanges(_, elements)
                | nftables::Change::DeleteElements(_, elements)
                | nftables::Change::DeleteRanges(_, elements) = change
                {
                    elements.len()
                } else {
                    0
                }
            });
            elements.sum()
        }
        Step::Restore(..) | Step::DestroySet(_) | Step::RemoveNftTable(_) => 0,
    }
}

/// The chains and sets that hold what policies allow over IPv4: how many rules, and how many members each set has.
fn allowed(node: &mut Node) -> (usize, Vec<usize>) {
    let is_own = |rule: &str| rule.contains("crowd/costly ingress") && !rule.contains("nfproto ipv6");
    let is_set = |name: &str| name.starts_with("KUBE-NWPLCY-P4-");
    if let Some(table) = node.kernel.table_of_nft(TableFamily::Inet, INET_TABLE) {
        let rules = table.chains.values().flat_map(|chain| &chain.rules);
        let sets = table.sets.iter().filter(|(name, _)| is_set(name));
        let rules = rules.filter(|rule| is_own(&rule.to_string())).count();
        return (rules, sets.map(|(_, set)| set.elements.len()).collect());
    }
    let rules = node.kernel.table(Family::V4).values().flatten();
    let rules = rules.filter(|rule| is_own(rule)).count();
    let own = node.kernel.sets().iter().filter(|(name, _)| is_set(name.as_str()));
    (rules, own.map(|(_, set)| set.elements.len()).collect())
}

#[test]
fn two_thousand_peers_are_one_rule_and_one_set_of_all_whom_they_select() {
    for backend in BACKENDS {
        for peers in [17, 2000] {
            let mut node = Node::new(backend, Limits::default());
            node.enforcer.apply(not_in_policy(peers));
            assert_eq!(node.settle(), [PODS + 10], "each member once, and ten that are isolated");
            assert_eq!(allowed(&mut node), (1, vec![PODS]));
            node.enforcer.apply(pod("crowd", PODS + 1, "there"));
            assert_eq!(node.settle(), [1], "a pod that starts joins one set");
            node.enforcer.apply(Change::PodGone(PodKey::new("crowd", "pod-3")));
            node.settle();
            assert_eq!(allowed(&mut node), (1, vec![PODS]));
            node.enforcer.apply(Change::PolicyGone(PolicyKey::new("crowd", "costly")));
            node.enforcer.apply(namespace("crowd"));
            node.settle();
            assert_eq!(allowed(&mut node), (0, vec![]));
        }
    }
}

/// One peer in each of many rules is the same policy, written another way.
#[test]
fn many_rules_with_the_same_ports_are_one() {
    for backend in BACKENDS {
        let mut node = Node::new(backend, Limits::default());
        let rules = (0..2000).map(|number| json!({"from": [not_in(number)], "ports": [{"port": 80}]}));
        node.enforcer.apply(policy(
            "crowd",
            "costly",
            json!({"podSelector": {}, "ingress": rules.collect::<Vec<_>>()}),
        ));
        assert_eq!(node.settle(), [PODS + 10]);
        assert_eq!(allowed(&mut node), (1, vec![PODS]));
    }
}

#[test]
fn peers_up_to_sixteen_have_sets_of_their_own_that_policies_share() {
    for backend in BACKENDS {
        let mut node = Node::new(backend, Limits::default());
        node.enforcer.apply(not_in_policy(16));
        node.settle();
        assert_eq!(allowed(&mut node), (16, vec![PODS - 1; 16]));
    }
}

/// Rules of which each has a port and a peer of its own: nothing can be shared.
fn own_ports(rules: usize) -> Change {
    let rules = (0..rules).map(|number| json!({"from": [not_in(number)], "ports": [{"port": number + 1}]}));
    policy("crowd", "costly", json!({"podSelector": {}, "ingress": rules.collect::<Vec<_>>()}))
}

#[test]
fn what_is_beyond_the_limits_allows_nothing_and_is_reported() {
    let limits = Limits { peers: 40, sets: 30, ports: 35, blocks: 4, ..Limits::default() };
    let mut node = Node::new(BackendName::IptablesNft, limits);
    node.enforcer.apply(own_ports(50));
    node.settle();
    assert_eq!(allowed(&mut node), (30, vec![PODS - 1; 30]), "the first thirty");
    let notes = node.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    for part in [
        "spec.ingress[30] and on: 5 peers or ports allow nothing, because a node enforces at most 30 sets of one policy",
        "spec.ingress[35] and on: 15 peers or ports allow nothing, because a node enforces at most 35 ports of one policy",
        "spec.ingress[40] and on: 10 peers or ports allow nothing, because a node enforces at most 40 peers of one policy",
    ] {
        assert!(notes[0].contains(part), "{notes:?}");
    }

    // A port too many is no port; with all of them beyond the limits the rule is for none, and not for every one.
    let ports: Vec<_> = (0..40).map(|port| json!({"port": 100 + 2 * port})).collect();
    node.enforcer.apply(policy(
        "crowd",
        "costly",
        json!({"podSelector": {}, "ingress": [{"ports": ports}, {"ports": [{"port": 1}]}]}),
    ));
    node.settle();
    let texts: Vec<String> = node.kernel.table(Family::V4).values().flatten().cloned().collect();
    let costly: Vec<_> = texts.iter().filter(|rule| rule.contains("crowd/costly ingress")).collect();
    assert!(costly.iter().all(|rule| rule.contains("dport")), "{costly:?}");
    assert!(costly.iter().any(|rule| rule.contains("168")), "{costly:?}");
    assert!(!costly.iter().any(|rule| rule.contains("170") || rule.contains("--dport 1 ")), "{costly:?}");
    assert!(node.notes()[0].contains("spec.ingress[0] and on: 6 peers or ports"), "{:?}", node.notes());

    // As are peers, whatever their kind.
    let blocks: Vec<_> =
        (0..6).map(|host| json!({"ipBlock": {"cidr": format!("192.0.2.{host}/32")}})).collect();
    node.enforcer.apply(policy("crowd", "costly", json!({"podSelector": {}, "egress": [{"to": blocks}]})));
    node.settle();
    let sets = node.kernel.sets().iter();
    let blocks: Vec<_> = sets.filter(|(name, _)| name.as_str().starts_with("KUBE-NWPLCY-B4-")).collect();
    assert_eq!(blocks.iter().map(|(_, set)| set.elements.len()).collect::<Vec<_>>(), [4]);
    assert!(node.notes()[0].contains("spec.egress[0] and on: 2 peers or ports"), "{:?}", node.notes());
}

/// The first lists come in any order, so a policy's sets may be made before their pods are known.
#[test]
fn sets_that_have_more_members_than_a_policy_may_have_allow_nothing_whatever_came_first() {
    for backend in BACKENDS {
        let limits = Limits { members: 5 * PODS, ..Limits::default() };
        let mut node = Node::new(backend, limits);
        let other =
            || policy("other", "open", json!({"podSelector": {}, "ingress": [{"from": [not_in(7)]}]}));
        node.enforcer.apply(other());
        node.enforcer.apply(own_ports(20));
        node.settle();
        assert_eq!(allowed(&mut node).0, 5, "each of the rules that are left has its set");
        let note =
            "15 peers or ports allow nothing, because a node enforces at most 15000 members of one policy";
        assert!(node.notes().concat().contains(note), "{:?}", node.notes());
        node.enforcer.apply(own_ports(3));
        node.settle();
        assert_eq!(
            (allowed(&mut node).0, node.notes()),
            (3, Vec::new()),
            "it is counted again when it changes"
        );

        let mut early = Enforcer::new("here", options(backend)).with_limits(limits);
        let pods = (0..PODS).map(|number| pod("crowd", number, if number < 10 { "here" } else { "there" }));
        [other(), own_ports(20)].into_iter().chain(pods).for_each(|change| early.apply(change));
        early.apply(pod("other", PODS, "here"));
        let mut kernel = Fake::default();
        kernel.switch_backend(backend);
        let actual = Actual::read(&mut kernel).expect("a kernel in memory is read");
        kernel.commit_all(&early.adopt(&actual).steps).expect("the kernel takes every step");
        assert_eq!(allowed(&mut Node { enforcer: early, kernel }).0, 5);
    }
}

#[test]
fn reports_stay_short_however_much_is_beyond_the_limits() {
    let mut node = Node::new(BackendName::IptablesNft, Limits::default());
    node.enforcer.apply(own_ports(2000));
    node.settle();
    let notes = node.notes();
    assert!(notes.len() == 1 && notes[0].len() < 1000, "{notes:?}");
    assert!(notes[0].contains("976 peers or ports") && notes[0].contains("768 peers or ports"), "{notes:?}");
    let port = |number: usize| json!({"ports": [{"port": format!("absent-{number}")}]});
    let rules: Vec<Value> = (0..100).map(port).collect();
    node.enforcer.apply(policy("crowd", "costly", json!({"podSelector": {}, "ingress": rules})));
    assert!(node.notes()[0].ends_with("; and 92 more"), "{:?}", node.notes());
}

/// Named ports that many pods declare and no peer has: every pod would be asked about every peer, for every port.
#[test]
fn advice_about_named_ports_costs_no_more_than_it_is_worth() {
    let mut node = Node::new(BackendName::IptablesNft, Limits::default());
    let absent =
        |number: usize| json!({"podSelector": {"matchLabels": {"app": "nobody", "n": format!("{number}")}}});
    let to: Vec<Value> = (0..4000).map(absent).collect();
    let ports: Vec<Value> = (0..200).map(|number| json!({"port": format!("p{number}")})).collect();
    for number in 0..PODS {
        let mut own = pod("crowd", number, "there");
        if let Change::Pod(pod) = &mut own {
            let port =
                |number| NamedPort { name: format!("p{number}").into(), protocol: Protocol::Tcp, port: 80 };
            pod.ports = (0..200).map(port).collect();
        }
        node.enforcer.apply(own);
    }
    node.enforcer.apply(pod("crowd", 1, "here"));
    node.enforcer.apply(policy(
        "crowd",
        "costly",
        json!({"podSelector": {}, "egress": [{"to": to, "ports": ports}]}),
    ));
    // It would be 2.4 billion questions.
    assert_eq!(node.notes(), Vec::<String>::new());
}

#[test]
fn other_tenants_policies_come_into_force_between_the_slices_of_a_costly_one() {
    let limits = Limits { slice: 2 * PODS, ..Limits::default() };
    let mut node = Node::new(BackendName::IptablesNft, limits);
    node.enforcer.apply(own_ports(100));
    let flush = node.enforcer.flush();
    assert!(flush.steps.iter().map(elements).sum::<usize>() <= 3 * PODS + 10, "a slice, and one set at most");
    node.commit(&flush.steps);
    assert!(node.enforcer.is_behind(), "there is more to come");
    node.enforcer.apply(policy("other", "closed", json!({"podSelector": {}})));
    let flush = node.enforcer.flush();
    assert!(flush.steps.iter().map(elements).sum::<usize>() <= 3 * PODS + 1);
    node.commit(&flush.steps);
    let text = format!("{:?}", node.kernel.table(Family::V4));
    assert!(text.contains("other/closed"), "the other tenant's is in force");
    assert!(!text.contains("crowd/costly ingress"), "the costly one isolates and does not allow yet");
    let isolated = [IpAddr::from([10, 244, 0, 1]), IpAddr::from([10, 244, 12, 0])];
    for address in isolated {
        let plan = node.enforcer.plan();
        assert!(plan.is_isolated(Direction::Ingress, address), "{address}");
    }
    assert_eq!(isolated.map(|address| node.enforcer.is_undecided(address)), [true, false]);
    // A policy of a few sets does not wait for one of many.
    let from: Vec<Value> = (0..3).map(not_in).collect();
    node.enforcer.apply(policy("crowd", "small", json!({"podSelector": {}, "ingress": [{"from": from}]})));
    for _ in 0..3 {
        let flush = node.enforcer.flush();
        node.commit(&flush.steps);
    }
    let text = format!("{:?}", node.kernel.table(Family::V4));
    assert!(text.contains("crowd/small ingress") && !text.contains("crowd/costly ingress"));
    node.settle();
    assert_eq!(allowed(&mut node).0, 100);
    assert!(!node.enforcer.is_undecided(isolated[0]));
}

/// What a program before this one allowed is not denied while sets are made.
#[test]
fn first_flush_of_a_program_makes_everything_at_once() {
    for backend in BACKENDS {
        let limits = Limits { slice: 1, ..Limits::default() };
        let mut node = Node::new(backend, limits);
        node.enforcer.apply(own_ports(20));
        node.settle();
        let mut again = Enforcer::new("here", options(backend)).with_limits(limits);
        let pods = (0..PODS).map(|number| pod("crowd", number, if number < 10 { "here" } else { "there" }));
        pods.chain([pod("other", PODS, "here"), own_ports(20)]).for_each(|change| again.apply(change));
        let actual = Actual::read(&mut node.kernel).expect("a kernel in memory is read");
        assert_eq!(again.adopt(&actual).steps, []);
    }
}

#[test]
fn policy_that_goes_or_changes_while_its_sets_are_made_leaves_none_behind() {
    for backend in BACKENDS {
        let limits = Limits { slice: 1, ..Limits::default() };
        let mut node = Node::new(backend, limits);
        node.enforcer.apply(namespace("crowd"));
        node.enforcer.apply(own_ports(20));
        for _ in 0..5 {
            let flush = node.enforcer.flush();
            node.commit(&flush.steps);
        }
        assert!(allowed(&mut node).1.len() > 3);
        node.enforcer.apply(own_ports(2));
        node.settle();
        assert_eq!(allowed(&mut node), (2, vec![PODS - 1; 2]));
        node.enforcer.apply(own_ports(20));
        node.enforcer.apply(Change::PolicyGone(PolicyKey::new("crowd", "costly")));
        node.settle();
        assert_eq!(allowed(&mut node), (0, vec![]));
    }
}
