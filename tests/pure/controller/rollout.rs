//! Which version of each policy the agent says is in force, compared with what its kernel was given.

use super::driven::DrivenNode;
use super::kernel::Shared;
use super::{NODE, labelled, namespace, pod, shop};
use bridgewarden::compile::Limits;
use bridgewarden::controller::{Enforcer, Reconciler};
use bridgewarden::model::{
    Change, Demand, NamespaceScope, Peer, Peers, Policy, PolicyKey, PolicyVersion, Ports, Requirement, Rule,
    Selector,
};
use bridgewarden::render::Options;
use bridgewarden::status::{PolicyState, PolicyStatus};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn node() -> DrivenNode {
    DrivenNode::new(Shared::default(), Instant::now(), None)
}

fn key() -> PolicyKey {
    PolicyKey::new("shop", "closed")
}

fn version(generation: i64) -> PolicyVersion {
    PolicyVersion { generation: Some(generation), resource: Some(format!("{generation}0").into()) }
}

/// A version of the policy; those of an even generation isolate in the other direction.
fn policy(generation: i64) -> Change {
    let Change::Policy(closed) = super::closed() else { unreachable!("it is one") };
    let (ingress, egress) =
        if generation % 2 == 0 { (None, Some(Vec::new())) } else { (closed.ingress, None) };
    Change::Policy(Policy { version: version(generation), ingress, egress, ..closed })
}

fn without_policy() -> Vec<Change> {
    shop().into_iter().filter(|change| !matches!(change, Change::Policy(_))).collect()
}

fn status(node: &DrivenNode) -> Option<PolicyStatus> {
    node.reconciler.enforcer().policy_status(&key())
}

/// The state, and the generation that is said to be in force.
fn said(node: &DrivenNode) -> (PolicyState, Option<i64>) {
    let status = status(node).expect("the policy is known");
    (status.state, status.in_force.and_then(|version| version.generation))
}

fn pending(node: &DrivenNode) -> usize {
    node.reconciler.enforcer().agent_counts().pending_policies
}

fn running() -> DrivenNode {
    let mut node = node();
    node.deliver(without_policy().into_iter().chain([policy(1)]).collect(), true);
    node.finish_all();
    assert_eq!(said(&node), (PolicyState::InForce, Some(1)));
    node
}

#[test]
fn version_is_in_force_only_once_the_commit_that_carries_it_has_ended() {
    let mut node = node();
    node.deliver(without_policy(), false);
    node.deliver(vec![policy(1)], true);
    assert!(node.is_at_work(), "it reads the kernel");
    assert_eq!(said(&node), (PolicyState::Pending, None));
    node.finish(false);
    assert!(node.is_at_work(), "it writes");
    assert_eq!(said(&node), (PolicyState::Pending, None));
    node.proceed(1);
    assert_eq!(said(&node), (PolicyState::Pending, None));
    node.finish(false);
    assert_eq!(said(&node), (PolicyState::InForce, Some(1)));
    assert_eq!(status(&node).map(|status| status.pods), Some(2));
}

#[test]
fn version_that_arrives_during_a_commit_waits_for_the_next() {
    let mut node = running();
    node.deliver(vec![policy(2)], false);
    assert_eq!(said(&node), (PolicyState::Pending, Some(1)));
    node.deliver(vec![policy(3)], false);
    assert_eq!(said(&node), (PolicyState::Pending, Some(1)));
    node.finish(false);
    assert_eq!(said(&node), (PolicyState::Pending, Some(2)));
    node.finish(false);
    assert_eq!(said(&node), (PolicyState::InForce, Some(3)));
    assert_eq!(pending(&node), 0);
}

#[test]
fn commit_that_fails_leaves_the_version_in_force_that_was_before() {
    let mut node = running();
    node.deliver(vec![policy(2)], false);
    node.finish(true);
    assert_eq!(said(&node), (PolicyState::Pending, Some(1)));
    node.passes(SECOND);
    node.finish_all();
    assert_eq!(said(&node), (PolicyState::InForce, Some(2)));
}

#[test]
fn version_that_says_the_same_is_in_force_at_once_and_costs_nothing() {
    let mut node = running();
    let Change::Policy(same) = policy(1) else { unreachable!("it is one") };
    node.deliver(vec![Change::Policy(Policy { version: version(5), ..same })], false);
    assert!(!node.is_at_work());
    assert_eq!(said(&node), (PolicyState::InForce, Some(5)));
}

#[test]
fn policy_that_selects_no_pod_here_is_in_force_without_a_commit() {
    let mut node = running();
    let Change::Policy(own) = policy(1) else { unreachable!("it is one") };
    let key = PolicyKey::new("elsewhere", "closed");
    node.deliver(vec![Change::Policy(Policy { key: key.clone(), ..own })], false);
    assert!(!node.is_at_work());
    let status = node.reconciler.enforcer().policy_status(&key).expect("it is known");
    assert_eq!((status.state, status.pods), (PolicyState::InForce, 0));
}

#[test]
fn deleted_policy_is_held_until_the_commit_that_removes_it_has_ended() {
    let mut node = running();
    node.deliver(vec![Change::PolicyGone(key())], false);
    assert_eq!(said(&node), (PolicyState::Deleting, Some(1)));
    assert_eq!(node.reconciler.enforcer().deleted_policy_statuses().len(), 1);
    node.finish(true);
    assert_eq!(said(&node), (PolicyState::Deleting, Some(1)));
    node.passes(SECOND);
    node.finish_all();
    assert_eq!((status(&node), pending(&node)), (None, 0));
}

#[test]
fn policy_of_a_namespace_that_ends_is_held_until_its_last_pod_is_gone_from_the_kernel() {
    let mut node = running();
    node.deliver(vec![namespace(true), Change::PolicyGone(key())], false);
    node.finish_all();
    assert_eq!(said(&node), (PolicyState::InForce, Some(1)), "its pods still need it");
    let gone = |name: &str| Change::PodGone(bridgewarden::model::PodKey::new("shop", name));
    node.deliver(vec![gone("web"), gone("client")], false);
    assert_eq!(status(&node).map(|status| status.state), Some(PolicyState::Deleting));
    node.finish_all();
    assert_eq!(status(&node), None);
}

#[test]
fn policy_whose_sets_are_made_in_slices_is_in_force_with_the_last_of_them() {
    let peer = |app: &str| {
        let demand = Demand::In([app.into()].into());
        let pods = Selector::new([Requirement { key: "app".into(), demand }]);
        Peer::Pods { namespaces: NamespaceScope::Own, pods }
    };
    let apps: Vec<String> = (0..4).map(|number| format!("app-{number}")).collect();
    let peers = apps.iter().map(|app| peer(app)).collect();
    let rule = Rule { index: 0, peers: Peers::Listed(peers), ports: Ports::All };
    let Change::Policy(closed) = policy(1) else { unreachable!("it is one") };
    let costly = Policy { ingress: Some(vec![rule]), ..closed };
    let mut node = node();
    let limits = Limits { slice: 1, ..Limits::default() };
    let enforcer = Enforcer::new(NODE, Options::default()).with_limits(limits);
    let (metrics, health) = (node.metrics.clone(), node.health.clone());
    node.reconciler = Reconciler::new(enforcer, metrics, health, 60 * SECOND, node.now);
    let clients = (20..).zip(&apps).map(|(host, app)| labelled(app, app, "node-b", host));
    node.deliver([namespace(false), pod("web", 10)].into_iter().chain(clients).collect(), true);
    node.finish_all();
    node.deliver(vec![Change::Policy(costly)], false);
    let mut commits = 0;
    while node.is_at_work() {
        let status = status(&node).expect("the policy is known");
        assert_eq!((status.state, status.in_force), (PolicyState::Pending, None));
        assert!(node.reconciler.enforcer().plan().is_staging() == status.waits_for.is_some());
        node.finish(false);
        commits += 1;
    }
    assert!(commits > 1, "{commits}");
    assert_eq!(said(&node), (PolicyState::InForce, Some(1)));
}
