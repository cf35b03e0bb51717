//! Live connections when policies no longer allow them, and when they allow them again.

use super::early::sandbox;
use super::kernel::Shared;
use super::{NODE, Running, address, closed, is_member, labelled, namespace, pod, shop, web_takes};
use bridgewarden::apply::{Connection, PacketFilter};
use bridgewarden::model::{Change, Peers, PodKey, Policy, Ports, Rule, SandboxKey};
use bridgewarden::net::{Family, Protocol};
use bridgewarden::render::Options;

fn connection(source: u8, destination: u8) -> Connection {
    Connection {
        protocol: Protocol::Tcp.number(),
        source: address(source),
        source_port: 40_000,
        dialled: address(destination),
        dialled_port: 80,
        destination: address(destination),
        destination_port: 80,
        is_of_this_host: false,
        mark: 0,
        tuple: Vec::new(),
    }
}

/// The policy of [`closed`], with a rule that allows everything.
fn open_to_anyone() -> Change {
    let Change::Policy(policy) = closed() else { unreachable!("a policy") };
    let anyone = Rule { index: 0, peers: Peers::Anywhere, ports: Ports::All };
    Change::Policy(Policy { ingress: Some(vec![anyone]), ..policy })
}

#[tokio::test]
async fn connection_that_lost_what_allowed_it_is_cut_and_no_other() {
    let running = Running::start(Shared::default());
    let of_the_host = Connection { is_of_this_host: true, ..connection(1, 10) };
    running.kernel.state().live = vec![connection(11, 10), connection(10, 12), of_the_host];
    running.send(vec![namespace(false), pod("web", 10)], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.send(vec![closed()], true).await;
    let kernel = running.end().await;
    assert_eq!(kernel.state().marked, [connection(11, 10)]);
}

/// If the entry were deleted, the next packet of either end would begin the flow again.
#[tokio::test]
async fn flow_of_any_protocol_is_marked_and_allowed_again_with_its_policy() {
    let running = Running::start(Shared::default());
    running.send(vec![namespace(false), pod("web", 10)], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    let icmp = 1;
    let protocols = [Protocol::Tcp.number(), Protocol::Udp.number(), Protocol::Sctp.number(), icmp];
    running.kernel.state().live =
        protocols.map(|protocol| Connection { protocol, ..connection(11, 10) }).to_vec();
    let bit = Options::default().mark;
    let marked = move |running: &Running| {
        let state = running.kernel.state();
        state.live.iter().filter(|live| live.mark & bit != 0).map(|live| live.protocol).collect::<Vec<_>>()
    };
    running.send(vec![closed()], true).await;
    running.until("all are marked", |running| marked(running) == protocols).await;
    running.send(vec![open_to_anyone()], true).await;
    running.until("none is", |running| marked(running).is_empty()).await;
    assert_eq!(running.kernel.state().live.len(), protocols.len(), "none was deleted");
}

/// Otherwise its peers would reach the next pod as if they answered it.
#[tokio::test]
async fn connections_of_a_pod_that_ended_are_deleted_when_the_next_pod_has_its_address() {
    for hides_connections in [0, 1] {
        let running = Running::start(Shared::default());
        running.send(vec![namespace(false), sandbox("old", 10)], true).await;
        running.until("enforcement", |running| running.health.ready().is_ok()).await;
        let of_the_host = Connection { is_of_this_host: true, ..connection(1, 10) };
        let others = [of_the_host, connection(11, 12)];
        running.kernel.state().live = [&[connection(11, 10), connection(10, 12)], &others[..]].concat();
        running.kernel.state().hides_connections = hides_connections;
        let old = SandboxKey::new(PodKey::new("shop", "old"), "sandbox");
        running.send(vec![Change::SandboxGone(old), sandbox("new", 10)], false).await;
        running.until("the deletion", |running| running.kernel.state().live == others).await;
    }
}

#[tokio::test]
async fn connections_that_could_not_be_listed_or_cut_are_cut_by_a_later_try() {
    for (hides_connections, rejects_cuts) in [(1, 0), (0, 1), (2, 2)] {
        let running = Running::start(Shared::default());
        running.send(vec![namespace(false), pod("web", 10)], true).await;
        running.until("enforcement", |running| running.health.ready().is_ok()).await;
        running.kernel.state().live = vec![connection(11, 10)];
        running.kernel.state().hides_connections = hides_connections;
        running.kernel.state().rejects_cuts = rejects_cuts;
        running.send(vec![closed()], true).await;
        running.until("the cut", |running| !running.kernel.state().marked.is_empty()).await;
    }
}

/// A connection that cannot be cut, for instance in a flowtable, delays neither the other cuts nor the flush of a change.
#[tokio::test]
async fn connection_that_cannot_be_cut_is_reported_and_holds_up_no_other() {
    let running = Running::start(Shared::default());
    running.send(vec![namespace(false), pod("web", 10)], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10), connection(12, 10), connection(13, 10)];
    running.kernel.state().uncuttable = Some(address(11));
    running.send(vec![closed()], true).await;
    running.until("the cut", |running| running.kernel.state().marked.len() == 2).await;
    running.until("the report", |running| running.health.ready().is_err()).await;
    let why = running.health.ready().expect_err("a connection lives on");
    assert!(why[0].0 == "connections" && why[0].1.contains("10.244.1.11 to 10.244.1.10"), "{why:?}");
    // Other changes are applied, and the known state of the kernel stays valid.
    let reads = running.kernel.tally().processes;
    running.send(vec![labelled("second", "web", NODE, 14)], true).await;
    running.until("another change is in force", |running| is_member(&running.kernel, 14)).await;
    running.kernel.state().uncuttable = None;
    running.until("a later try", |running| running.health.ready().is_ok()).await;
    assert_eq!(running.kernel.state().marked.len(), 3, "each once");
    assert!(running.kernel.tally().processes - reads <= 2, "the kernel was read again");
}

/// What is allowed again does not wait until another connection can be cut.
#[tokio::test]
async fn connection_that_cannot_be_cut_delays_no_unmarking() {
    let running = Running::start(Shared::default());
    let client = |name: &str, app: &str, host: u8| labelled(name, app, "node-b", host);
    let [one, two] = [client("one", "client", 11), client("two", "client", 12)];
    let web = labelled("web", "web", NODE, 10);
    running.send(vec![namespace(false), web, one.clone(), two, web_takes(&[80])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10), connection(12, 10)];
    let bit = Options::default().mark;
    let is_cut = move |running: &Running| running.kernel.state().live[0].mark & bit != 0;
    running.send(vec![client("one", "other", 11)], true).await;
    running.until("the cut", is_cut).await;
    running.kernel.state().uncuttable = Some(address(12));
    running.send(vec![one, client("two", "other", 12)], true).await;
    running.until("the mark is cleared", |running| !is_cut(running)).await;
    assert_eq!(running.kernel.state().live[1].mark, 0, "it could not be cut");
}

/// Or the 4-tuple would stay denied for as long as the kernel remembers the connection.
#[tokio::test]
async fn connection_that_was_cut_is_pardoned_once_it_is_allowed_again() {
    let running = Running::start(Shared::default());
    let [web, client] = [labelled("web", "web", NODE, 10), labelled("client", "client", "node-b", 11)];
    running.send(vec![namespace(false), web, client.clone(), web_takes(&[80])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10)];
    let bit = Options::default().mark;
    let is_cut = move |running: &Running| running.kernel.state().live[0].mark & bit != 0;
    let leaves = labelled("client", "other", "node-b", 11);
    // Because its pod is a peer again, and because the policy allows it again.
    for (without, with) in [(leaves, client), (web_takes(&[81]), web_takes(&[80]))] {
        running.send(vec![without], true).await;
        running.until("the cut", is_cut).await;
        running.send(vec![with], true).await;
        running.until("the mark is cleared", |running| !is_cut(running)).await;
    }
    assert_eq!(running.kernel.state().marked.len(), 2);
    running.end().await;
}

#[tokio::test]
async fn counts_of_the_kernel_are_reported_even_if_a_beat_came_during_the_first_commit() {
    let kernel = Shared::default();
    kernel.state().is_slow = true;
    let running = Running::start(kernel);
    running.send(shop(), true).await;
    running.until("a beat", |running| running.metrics.text().contains("\nbridgewarden_pods 2\n")).await;
    running.kernel.state().is_slow = false;
    let is_counted = |running: &Running| {
        let held = running.held();
        held.len() == 4 && held.iter().all(|line| !line.ends_with(" 0"))
    };
    running.until("the count", is_counted).await;
    running.end().await;
}

/// A daemon may be killed between the rules of a change and the cut that goes with it.
#[tokio::test]
async fn denied_connections_are_cut_at_the_start_even_if_the_kernel_is_right() {
    let first = Running::start(Shared::default());
    first.send(shop(), true).await;
    let kernel = first.end().await;
    kernel.state().live = vec![connection(11, 10)];
    let second = Running::start(kernel);
    second.send(shop(), true).await;
    second.until("the cut", |running| !running.kernel.state().marked.is_empty()).await;
}

/// Connections that begin while the rules are removed would otherwise live on as established.
#[tokio::test]
async fn connection_that_began_while_the_rules_were_removed_is_cut_once_they_are_back() {
    let running = Running::start(Shared::default());
    running.kernel.state().live = vec![connection(12, 10)];
    running.send(shop(), true).await;
    running.until("the look at the start", |running| running.kernel.state().marked.len() == 1).await;
    running.kernel.state().live = vec![connection(11, 10)];
    running.kernel.state().fake.table(Family::V4).insert("FORWARD".into(), Vec::new());
    running.external_changes.notify_one();
    running.until("the cut", |running| running.kernel.state().marked.len() == 2).await;
    assert_eq!(running.kernel.state().marked[1].source, address(11));
}
