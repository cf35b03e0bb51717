//! Before the first lists are complete: which pods are closed, and what stays unchanged.

use super::kernel::Shared;
use super::{NODE, Running, address, closed, has_rules, namespace, pod, shop};
use bridgewarden::apply::{PacketFilter, Tally};
use bridgewarden::compile::UnknownPods;
use bridgewarden::controller::{Enforcer, NamespaceWatch};
use bridgewarden::model::{
    BridgePort, Change, Direction, LinkChange, PodKey, PolicyKey, Sandbox, SandboxKey,
};
use bridgewarden::net::Family;
use bridgewarden::netfilter::nftables::TableFamily;
use bridgewarden::ownership::BRIDGE_TABLE;
use bridgewarden::render::{Options, isolated_set};
use std::time::Duration;

pub(super) fn sandbox(of: &str, host: u8) -> Change {
    let key = SandboxKey::new(PodKey::new("shop", of), "sandbox");
    let (uid, made, hardware) = (None, Duration::ZERO, None);
    Change::Sandbox(Sandbox { key, uid, addresses: vec![address(host)], made, devices: Vec::new(), hardware })
}

fn is_isolated(kernel: &Shared, direction: Direction, host: u8) -> bool {
    let sets = kernel.state().fake.sets().clone();
    sets.get(&isolated_set(direction, Family::V4)).is_some_and(|set| set.contains(address(host), None))
}

/// Whether an address is isolated in both directions.
fn is_closed(kernel: &Shared, host: u8) -> bool {
    Direction::BOTH.iter().all(|direction| is_isolated(kernel, *direction, host))
}

fn is_open(kernel: &Shared, host: u8) -> bool {
    Direction::BOTH.iter().all(|direction| !is_isolated(kernel, *direction, host))
}

/// After a reboot: nothing is in force, pods run, and the API server does not answer, or not to everything.
#[tokio::test]
async fn kernel_without_rules_closes_sandboxes_until_the_first_lists_are_complete() {
    let running = Running::start(Shared::default());
    running.send(vec![sandbox("web", 10)], false).await;
    running.until("web is closed", |running| is_closed(&running.kernel, 10)).await;
    running
        .send(vec![namespace(false), pod("web", 10), pod("client", 11), sandbox("client", 11)], false)
        .await;
    running.until("client is closed", |running| is_closed(&running.kernel, 11)).await;
    assert!(is_closed(&running.kernel, 10), "its pod is known, and its policies may not be");
    assert!(running.health.ready().is_err(), "nothing that a policy says is in force");
    running
        .send(vec![Change::SandboxGone(SandboxKey::new(PodKey::new("shop", "client"), "sandbox"))], false)
        .await;
    running.until("client has gone", |running| is_open(&running.kernel, 11)).await;
    assert!(!running.is_past_start(), "pods that no result names are unprotected");
    running.send(Vec::new(), true).await;
    running.until("the lists are in force", |running| running.health.ready().is_ok()).await;
    assert!(is_open(&running.kernel, 10), "no policy isolates it");
    running.until("the start is over", Running::is_past_start).await;
}

/// Otherwise a pod could escape its isolation with a spoofed address.
#[tokio::test]
async fn port_of_a_closed_sandbox_is_bound_before_the_first_lists() {
    let Change::Sandbox(web) = sandbox("web", 10) else { unreachable!("a sandbox is sent") };
    let web = Change::Sandbox(Sandbox { devices: vec!["veth7".into()], ..web });
    let port = BridgePort { index: 7, name: "veth7".into(), is_veth: true };
    let running = Running::start(Shared::default());
    running.send(vec![web, Change::Link(LinkChange::Port(port))], false).await;
    let is_bound = |running: &Running| {
        let state = running.kernel.state();
        state
            .fake
            .table_of_nft(TableFamily::Bridge, BRIDGE_TABLE)
            .is_some_and(|table| table.chains.contains_key("from-7"))
    };
    running.until("its port is bound", is_bound).await;
}

#[tokio::test]
async fn pod_closed_before_the_first_lists_is_judged_by_its_policies_with_them() {
    let running = Running::start(Shared::default());
    running.send(vec![sandbox("web", 10)], false).await;
    running.until("web is closed", |running| is_closed(&running.kernel, 10)).await;
    running.send(shop(), true).await;
    running.until("the lists are in force", |running| running.health.ready().is_ok()).await;
    assert!(!is_closed(&running.kernel, 10) && !is_open(&running.kernel, 10), "isolated for ingress alone");
}

#[tokio::test]
async fn failure_before_the_first_lists_is_tried_again() {
    let kernel = Shared::default();
    kernel.state().rejects_steps = true;
    let running = Running::start(kernel);
    running.send(vec![sandbox("web", 10)], false).await;
    running
        .until("the report", |running| {
            running
                .health
                .ready()
                .is_err_and(|reasons| reasons.iter().any(|(_, why)| why.contains("meant to fail")))
        })
        .await;
    running.kernel.state().rejects_steps = false;
    running.until("web is closed", |running| is_closed(&running.kernel, 10)).await;
}

#[tokio::test]
async fn rules_of_an_earlier_run_stay_as_they_are_until_the_first_lists_are_complete() {
    let first = Running::start(Shared::default());
    first.send(shop(), true).await;
    let kernel = first.end().await;
    assert!(has_rules(&kernel));
    let held = |kernel: &Shared| {
        let mut fake = kernel.state().fake.clone();
        (fake.table(Family::V4).clone(), fake.table(Family::V6).clone(), fake.sets().clone())
    };
    let (before, looks) = (held(&kernel), kernel.tally().processes);
    let second = Running::start(kernel);
    second.send(vec![sandbox("client", 11), sandbox("new", 12)], false).await;
    second.send(vec![namespace(false), pod("web", 10)], false).await;
    second.until("it looked at both families", |running| running.kernel.tally().processes == looks + 2).await;
    second.until("the start is over: rules are in force", Running::is_past_start).await;
    // What it saw is handled before what it receives later.
    for (name, host, received) in [("third", 13, 3), ("fourth", 14, 4)] {
        second.send(vec![sandbox(name, host)], false).await;
        let received = format!("changes_total{{kind=\"sandbox\"}} {received}\n");
        second.until("it received more", |running| running.metrics.text().contains(&received)).await;
    }
    let kernel = second.end().await;
    assert!(held(&kernel) == before, "open pods are still open, and guarded ones still guarded");
}

#[tokio::test]
async fn with_unknown_pods_open_nothing_is_closed_before_the_first_lists() {
    let enforcer = Enforcer::new(NODE, Options::default()).with_unknown_pods(UnknownPods::Allow);
    let running = Running::of(Shared::default(), enforcer, None);
    running.send(vec![sandbox("web", 10)], false).await;
    assert_eq!(running.end().await.tally(), Tally::default());
}

fn policy_gone() -> Change {
    Change::PolicyGone(PolicyKey::new("shop", "closed"))
}

#[tokio::test]
async fn policy_whose_deletion_overtakes_its_namespaces_end_opens_nobody() {
    let enforcer = Enforcer::new(NODE, Options::default());
    let running = Running::of(Shared::default(), enforcer, Some(NamespaceWatch::default()));
    running.send(shop(), true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    let before = running.kernel.tally();
    running.send(vec![policy_gone()], false).await;
    running.send(vec![namespace(true)], false).await;
    let kernel = running.end().await;
    assert!(has_rules(&kernel));
    assert_eq!(kernel.tally(), before, "nothing was written");
}

#[tokio::test]
async fn policy_deleted_in_a_living_namespace_is_out_of_force_soon_without_any_further_word() {
    let enforcer = Enforcer::new(NODE, Options::default());
    let running = Running::of(Shared::default(), enforcer, Some(NamespaceWatch::default()));
    running.send(shop(), true).await;
    running.until("enforcement", |running| has_rules(&running.kernel)).await;
    running.send(vec![policy_gone()], false).await;
    running.until("the end of the wait", |running| !has_rules(&running.kernel)).await;
    running.send(vec![closed()], false).await;
    running.until("enforcement", |running| has_rules(&running.kernel)).await;
    running.send(vec![policy_gone()], false).await;
    running.until("the end of the wait", |running| !has_rules(&running.kernel)).await;
    running.send(vec![namespace(true)], false).await;
    running.until("the word that came late", |running| has_rules(&running.kernel)).await;
}

/// It would stay closed for as long as no agent runs.
#[tokio::test]
async fn agent_that_is_asked_to_end_before_it_has_closed_anything_closes_nothing() {
    let running = Running::start(Shared::default());
    running.send(vec![sandbox("web", 10)], false).await;
    let kernel = running.end().await;
    assert!(!has_rules(&kernel), "{:?}", kernel.state().fake.sets());
}

#[tokio::test]
async fn node_is_not_ready_when_it_has_closed_sandboxes_but_when_its_policies_hold() {
    let running = Running::start(Shared::default());
    running.kernel.state().is_slow = true;
    running.send(vec![sandbox("web", 10)], false).await;
    running.until("rules that close it are under way", |running| is_closed(&running.kernel, 10)).await;
    running.send(shop(), true).await;
    running
        .until("the lists are complete", |running| {
            running.metrics.text().contains("changes_total{kind=\"policy\"} 1")
        })
        .await;
    running.kernel.state().is_slow_to_read = true;
    running.kernel.state().is_slow = false;
    let syncs = "bridgewarden_syncs_total{result=\"ok\"} 1";
    running.until("they are in force", |running| running.metrics.text().contains(syncs)).await;
    assert!(running.health.ready().is_err());
    running.kernel.state().is_slow_to_read = false;
    running.until("the lists are in force", |running| running.health.ready().is_ok()).await;
    assert!(!is_closed(&running.kernel, 10), "isolated for ingress alone");
}
