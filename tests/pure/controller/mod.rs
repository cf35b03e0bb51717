//! The controller's loop on a kernel in memory: when it writes, what it does about failure, which pods it keeps guarding.

mod connections;
mod driven;
mod early;
mod kernel;
mod rollout;
mod schedules;
mod verifications;

use bridgewarden::apply::{PacketFilter, Tally};
use bridgewarden::controller::{Controller, Delivery, Enforcer, NamespaceWatch};
use bridgewarden::model::{
    Change, Demand, Labels, Namespace, NamespaceName, NamespaceScope, Owner, Peer, Peers, Pod, PodKey,
    Policy, PolicyKey, PortMatch, Ports, Requirement, Rule, Selector,
};
use bridgewarden::net::{Family, Flow, PortRange, Protocol};
use bridgewarden::observe::{Health, Metrics};
use bridgewarden::render::Options;
use kernel::Shared;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

const NODE: &str = "node-a";
const TIMEOUT: Duration = Duration::from_secs(20);

struct Running {
    kernel: Shared,
    health: Health,
    external_changes: Arc<Notify>,
    metrics: Metrics,
    outbox: mpsc::Sender<Delivery>,
    task: JoinHandle<()>,
    past_start: oneshot::Receiver<()>,
}

impl Running {
    fn start(kernel: Shared) -> Running {
        Running::of(kernel, Enforcer::new(NODE, Options::default()), None)
    }

    fn of(kernel: Shared, enforcer: Enforcer, namespaces: Option<NamespaceWatch>) -> Running {
        let health = Health::new(&["sync"]);
        let [kernel_thread, set_writer] = [0, 1].map(|_| Box::new(kernel.clone()));
        let metrics = Metrics::default();
        let mut controller = Controller::new(
            enforcer,
            kernel_thread,
            set_writer,
            metrics.clone(),
            health.clone(),
            Duration::from_secs(3600),
        );
        let external_changes = Arc::new(Notify::new());
        controller.watch_external_changes(external_changes.clone());
        namespaces.into_iter().for_each(|watch| controller.await_namespaces(watch));
        let (listener, past_start) = oneshot::channel();
        controller.report_end_of_start(listener);
        let (outbox, inbox) = mpsc::channel(8);
        let task = tokio::spawn(controller.run(inbox));
        Running { kernel, health, external_changes, metrics, outbox, task, past_start }
    }

    /// Whether the end of the start was reported, which is not the case as long as all traffic of pods must stay denied.
    fn is_past_start(&self) -> bool {
        !self.past_start.is_empty()
    }

    async fn send(&self, changes: Vec<Change>, complete: bool) {
        let delivery = Delivery { changes, seen: Instant::now(), complete };
        self.outbox.send(delivery).await.expect("the controller listens");
    }

    async fn until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < TIMEOUT, "{what} did not come true");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What the metrics say that the kernel holds of IPv4.
    fn held(&self) -> Vec<String> {
        let names = ["chains", "rules", "sets", "set_members"]
            .map(|name| format!("bridgewarden_{name}{{family=\"ipv4\"}}"));
        let text = self.metrics.text();
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name.as_str())));
        lines.map(str::to_owned).collect()
    }

    /// Closes the channel of changes and waits until the controller has ended.
    async fn end(self) -> Shared {
        drop(self.outbox);
        self.task.await.expect("the controller ends well");
        self.kernel
    }
}

fn address(host: u8) -> IpAddr {
    IpAddr::from([10, 244, 1, host])
}

fn pod(name: &str, host: u8) -> Change {
    Change::Pod(Pod {
        node: Some(NODE.into()),
        addresses: vec![address(host)],
        ..Pod::new(PodKey::new("shop", name))
    })
}

fn namespace(terminating: bool) -> Change {
    let name = NamespaceName::new("shop");
    Change::Namespace(Namespace { labels: Labels::of_unknown_namespace(&name), name, terminating })
}

/// Isolates every pod and allows nothing.
fn closed() -> Change {
    let key = PolicyKey::new("shop", "closed");
    let subject = Selector::everything();
    Change::Policy(Policy {
        key,
        uid: None,
        version: Default::default(),
        subject,
        ingress: Some(Vec::new()),
        egress: None,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}

fn shop() -> Vec<Change> {
    vec![namespace(false), pod("web", 10), pod("client", 11), closed()]
}

fn has_rules(kernel: &Shared) -> bool {
    let state = kernel.state();
    let chains = state.fake.chains(Family::V4);
    chains.keys().any(|name| name.as_str().starts_with("KUBE-POD-SPECIFIC-FW-"))
}

#[tokio::test]
async fn nothing_is_written_before_the_first_complete_list() {
    let running = Running::start(Shared::default());
    running.send(shop(), false).await;
    let kernel = running.end().await;
    assert_eq!(kernel.tally(), Tally::default(), "the kernel was not even read");
}

#[tokio::test]
async fn what_came_before_the_list_was_complete_is_enforced_with_it() {
    let running = Running::start(Shared::default());
    running.send(shop(), false).await;
    running.send(Vec::new(), true).await;
    let health = running.health.clone();
    let kernel = running.end().await;
    assert!(has_rules(&kernel));
    assert_eq!(health.ready(), Ok(()));
}

#[tokio::test]
async fn failed_apply_opens_nothing_is_reported_and_is_tried_again() {
    let running = Running::start(Shared::default());
    running.send(shop(), true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    let table = running.kernel.state().fake.table(Family::V4).clone();
    let held = running.held();
    assert!(held.iter().all(|line| !line.ends_with(" 0")), "{held:?}");
    running.kernel.state().rejects_steps = true;
    running.send(vec![Change::PolicyGone(PolicyKey::new("shop", "closed"))], true).await;
    running.until("the report", |running| running.health.ready().is_err()).await;
    let reasons = running.health.ready().expect_err("a failed apply is no readiness");
    assert!(reasons[0].1.contains("meant to fail"), "{reasons:?}");
    assert_eq!(*running.kernel.state().fake.table(Family::V4), table);
    // The next heartbeat still reports the last known counts.
    running.send(vec![pod("another", 12)], false).await;
    let counted = |running: &Running| running.metrics.text().contains("\nbridgewarden_pods 3\n");
    running.until("the count", counted).await;
    assert_eq!(running.held(), held);
    running.kernel.state().rejects_steps = false;
    running.until("the next try", |running| running.health.ready().is_ok()).await;
    assert!(!has_rules(&running.kernel));
}

/// Lets clients reach these ports of web.
fn web_takes(ports: &[u16]) -> Change {
    let labelled = |value: &str| {
        let demand = Demand::In([value.into()].into());
        Selector::new([Requirement { key: "app".into(), demand }])
    };
    let rule = |(index, port): (usize, &u16)| Rule {
        index,
        peers: Peers::Listed(vec![Peer::Pods { namespaces: NamespaceScope::Own, pods: labelled("client") }]),
        ports: Ports::Listed(vec![PortMatch::Numbered(
            Protocol::Tcp,
            PortRange::single(*port).expect("a port"),
        )]),
    };
    Change::Policy(Policy {
        key: PolicyKey::new("shop", "web"),
        uid: None,
        version: Default::default(),
        subject: labelled("web"),
        ingress: Some(ports.iter().enumerate().map(rule).collect()),
        egress: None,
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}

fn labelled(name: &str, app: &str, node: &str, host: u8) -> Change {
    Change::Pod(Pod {
        node: Some(node.into()),
        labels: Labels::new(&[("app".to_owned(), app.to_owned())].into()),
        addresses: vec![address(host)],
        ..Pod::new(PodKey::new("shop", name))
    })
}

/// Whether any set holds an address.
fn is_member(kernel: &Shared, host: u8) -> bool {
    let sets = kernel.state().fake.sets().clone();
    sets.values().any(|set| set.contains(address(host), None))
}

#[tokio::test]
async fn members_of_sets_do_not_wait_for_rules_that_take_long() {
    let running = Running::start(Shared::default());
    let web = labelled("web", "web", NODE, 10);
    running.send(vec![namespace(false), web, web_takes(&[80, 443])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().is_slow = true;
    running.send(vec![labelled("second", "web", NODE, 11)], true).await;
    running.until("rules are under way", |running| is_member(&running.kernel, 11)).await;
    running.send(vec![labelled("client", "client", "node-b", 20)], true).await;
    running.until("the client is let in", |running| is_member(&running.kernel, 20)).await;
    running.send(vec![Change::PodGone(PodKey::new("shop", "client"))], true).await;
    running.until("it is gone", |running| !is_member(&running.kernel, 20)).await;
    running.kernel.state().is_slow = false;
    let health = running.health.clone();
    running.end().await;
    assert_eq!(health.ready(), Ok(()));
}

#[tokio::test]
async fn member_waits_for_rules_that_no_longer_let_it_in() {
    let running = Running::start(Shared::default());
    let web = labelled("web", "web", NODE, 10);
    running.send(vec![namespace(false), web, web_takes(&[80, 443])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().is_slow = true;
    running.send(vec![web_takes(&[443]), labelled("second", "web", NODE, 11)], true).await;
    running.until("rules are under way", |running| is_member(&running.kernel, 11)).await;
    running.send(vec![labelled("client", "client", "node-b", 20)], true).await;
    running.until("it was received", |running| running.metrics.text().contains("pending_changes 3\n")).await;
    assert!(!is_member(&running.kernel, 20));
    running.kernel.state().is_slow = false;
    running.until("the client is let in", |running| is_member(&running.kernel, 20)).await;
}

#[tokio::test]
async fn owner_of_a_pod_that_changes_costs_the_kernel_nothing() {
    let running = Running::start(Shared::default());
    running.send(shop(), true).await;
    running.until("enforced", |running| running.health.ready().is_ok()).await;
    let before = running.kernel.tally();
    let Change::Pod(web) = pod("web", 10) else { unreachable!("a pod is sent") };
    let owner = Owner { kind: "ReplicaSet".into(), name: "web-5d9c".into() };
    running.send(vec![Change::Pod(Pod { owner: Some(Arc::new(owner)), ..web })], false).await;
    assert_eq!(running.end().await.tally(), before);
}

#[tokio::test]
async fn external_change_causes_an_audit_at_once() {
    let running = Running::start(Shared::default());
    running.send(shop(), true).await;
    running.until("enforced", |running| running.health.ready().is_ok()).await;
    let forward = |running: &Running| running.kernel.state().fake.table(Family::V4)["FORWARD"].clone();
    let before = forward(&running);
    running.kernel.state().fake.table(Family::V4).insert("FORWARD".into(), Vec::new());
    running.external_changes.notify_one();
    running.until("hooked again", |running| forward(running) == before).await;
    running.end().await;
}

#[tokio::test]
async fn other_variant_that_cannot_be_read_stops_nothing() {
    let kernel = Shared::default();
    kernel.state().lacks_other_variant = true;
    let running = Running::start(kernel);
    running.send(shop(), true).await;
    let health = running.health.clone();
    assert!(has_rules(&running.end().await));
    assert_eq!(health.ready(), Ok(()));
}

#[tokio::test]
async fn changes_that_could_not_be_brought_into_force_wait_and_are_counted_with_those_that_come() {
    let running = Running::start(Shared::default());
    running.send(shop(), true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    let waits = |count: usize| {
        move |running: &Running| {
            running.metrics.text().contains(&format!("\nbridgewarden_pending_changes {count}\n"))
        }
    };
    running.until("nothing waits", waits(0)).await;
    running.kernel.state().rejects_steps = true;
    running.send(vec![Change::PolicyGone(PolicyKey::new("shop", "closed"))], true).await;
    running.until("the report", |running| running.health.ready().is_err()).await;
    running.until("one waits", waits(1)).await;
    running.send(vec![pod("late", 9)], true).await;
    running.until("two wait", waits(2)).await;
    running.kernel.state().rejects_steps = false;
    running.until("nothing waits", waits(0)).await;
}

/// Ready would mean that policies are enforced.
#[tokio::test]
async fn node_beside_another_controller_writes_nothing_and_is_not_ready() {
    let kernel = Shared::default();
    let table = kernel.state().fake.table(Family::V4).clone();
    let mut theirs = table.clone();
    theirs.insert("KUBE-ROUTER-FORWARD".into(), Vec::new());
    theirs.insert("FORWARD".into(), vec!["-j KUBE-ROUTER-FORWARD".into()]);
    *kernel.state().fake.table(Family::V4) = theirs.clone();
    let running = Running::start(kernel);
    running.send(shop(), true).await;
    let says_why = |running: &Running| {
        let ready = running.health.ready();
        ready.is_err_and(|reasons| {
            reasons.iter().any(|(_, why)| why.contains("another NetworkPolicy controller"))
        })
    };
    running.until("it says why", says_why).await;
    assert_eq!(*running.kernel.state().fake.table(Family::V4), theirs);
    *running.kernel.state().fake.table(Family::V4) = table;
    running.until("enforcement without the other one", |running| running.health.ready().is_ok()).await;
    assert!(has_rules(&running.kernel));
}

/// Pods outlive their policies while a namespace is deleted, and are not open for that.
#[test]
fn policy_deleted_ahead_of_its_pods_guards_them_until_they_are_gone() {
    let mut enforcer = Enforcer::new(NODE, Options::default());
    shop().into_iter().for_each(|change| enforcer.apply(change));
    let flow = Flow { source: address(11), destination: address(10), port: Some((Protocol::Tcp, 80)) };
    enforcer.apply(namespace(true));
    enforcer.apply(Change::PolicyGone(PolicyKey::new("shop", "closed")));
    assert!(!enforcer.decide(&flow).is_allowed(), "its namespace terminates and it is still there");
    enforcer.apply(Change::PodGone(PodKey::new("shop", "web")));
    enforcer.apply(Change::PodGone(PodKey::new("shop", "client")));
    assert_eq!(enforcer.cluster().policies().count(), 0, "no pod is left to guard");
}

#[test]
fn policy_deleted_alone_guards_nobody_any_longer() {
    let mut enforcer = Enforcer::new(NODE, Options::default());
    shop().into_iter().for_each(|change| enforcer.apply(change));
    enforcer.apply(Change::PolicyGone(PolicyKey::new("shop", "closed")));
    let flow = Flow { source: address(11), destination: address(10), port: Some((Protocol::Tcp, 80)) };
    assert!(enforcer.decide(&flow).is_allowed());
}
