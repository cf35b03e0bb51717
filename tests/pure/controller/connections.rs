//! What becomes of live connections when policies no longer allow them, and when they do again.

use super::kernel::Shared;
use super::{NODE, Running, address, closed, is_member, labelled, namespace, pod, shop, web_takes};
use bridgewarden::apply::{Connection, PacketFilter};
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

#[tokio::test]
async fn connection_that_lost_what_allowed_it_is_condemned_and_no_other() {
    let running = Running::start(Shared::default());
    let of_the_host = Connection { is_of_this_host: true, ..connection(1, 10) };
    running.kernel.state().live = vec![connection(11, 10), connection(10, 12), of_the_host];
    running.tell(vec![namespace(false), pod("web", 10)], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.tell(vec![closed()], true).await;
    let kernel = running.end().await;
    assert_eq!(kernel.state().condemned, [connection(11, 10)]);
}

#[tokio::test]
async fn connections_that_could_not_be_listed_or_cut_are_cut_by_a_later_try() {
    for (hides_connections, refuses_cuts) in [(1, 0), (0, 1), (2, 2)] {
        let running = Running::start(Shared::default());
        running.tell(vec![namespace(false), pod("web", 10)], true).await;
        running.until("enforcement", |running| running.health.ready().is_ok()).await;
        running.kernel.state().live = vec![connection(11, 10)];
        running.kernel.state().hides_connections = hides_connections;
        running.kernel.state().refuses_cuts = refuses_cuts;
        running.tell(vec![closed()], true).await;
        running.until("the cut", |running| !running.kernel.state().condemned.is_empty()).await;
    }
}

/// One connection that cannot be cut, as a flowtable may carry it, keeps none of the others waiting and no change from its flush.
#[tokio::test]
async fn connection_that_cannot_be_cut_is_reported_and_holds_up_no_other() {
    let running = Running::start(Shared::default());
    running.tell(vec![namespace(false), pod("web", 10)], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10), connection(12, 10), connection(13, 10)];
    running.kernel.state().uncuttable = Some(address(11));
    running.tell(vec![closed()], true).await;
    running.until("the cut", |running| running.kernel.state().condemned.len() == 2).await;
    running.until("the report", |running| running.health.ready().is_err()).await;
    let told = running.health.ready().expect_err("a connection lives on");
    assert!(told[0].0 == "connections" && told[0].1.contains("10.244.1.11 to 10.244.1.10"), "{told:?}");
    // Other changes go on, and what was believed of the kernel is believed on.
    let reads = running.kernel.tally().processes;
    running.tell(vec![labelled("second", "web", NODE, 14)], true).await;
    running.until("another change is in force", |running| is_member(&running.kernel, 14)).await;
    running.kernel.state().uncuttable = None;
    running.until("a later try", |running| running.health.ready().is_ok()).await;
    assert_eq!(running.kernel.state().condemned.len(), 3, "each once");
    assert!(running.kernel.tally().processes - reads <= 2, "the kernel was read anew");
}

/// What is allowed again does not wait until another connection can be cut.
#[tokio::test]
async fn connection_that_cannot_be_cut_holds_up_no_pardon() {
    let running = Running::start(Shared::default());
    let client = |name: &str, app: &str, host: u8| labelled(name, app, "node-b", host);
    let [one, two] = [client("one", "client", 11), client("two", "client", 12)];
    let web = labelled("web", "web", NODE, 10);
    running.tell(vec![namespace(false), web, one.clone(), two, web_takes(&[80])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10), connection(12, 10)];
    let bit = Options::default().mark;
    let is_condemned = move |running: &Running| running.kernel.state().live[0].mark & bit != 0;
    running.tell(vec![client("one", "other", 11)], true).await;
    running.until("the cut", is_condemned).await;
    running.kernel.state().uncuttable = Some(address(12));
    running.tell(vec![one, client("two", "other", 12)], true).await;
    running.until("the pardon", |running| !is_condemned(running)).await;
    assert_eq!(running.kernel.state().live[1].mark, 0, "it could not be cut");
}

/// Or the 4-tuple would go on being refused for as long as the kernel remembers the connection.
#[tokio::test]
async fn connection_that_was_cut_is_pardoned_once_it_is_allowed_again() {
    let running = Running::start(Shared::default());
    let [web, client] = [labelled("web", "web", NODE, 10), labelled("client", "client", "node-b", 11)];
    running.tell(vec![namespace(false), web, client.clone(), web_takes(&[80])], true).await;
    running.until("enforcement", |running| running.health.ready().is_ok()).await;
    running.kernel.state().live = vec![connection(11, 10)];
    let bit = Options::default().mark;
    let is_condemned = move |running: &Running| running.kernel.state().live[0].mark & bit != 0;
    let leaves = labelled("client", "other", "node-b", 11);
    // Because its pod is a peer again, and because the policy allows it again.
    for (without, with) in [(leaves, client), (web_takes(&[81]), web_takes(&[80]))] {
        running.tell(vec![without], true).await;
        running.until("the cut", is_condemned).await;
        running.tell(vec![with], true).await;
        running.until("the pardon", |running| !is_condemned(running)).await;
    }
    assert_eq!(running.kernel.state().condemned.len(), 2);
    running.end().await;
}

#[tokio::test]
async fn counts_of_the_kernel_are_told_even_if_a_beat_came_during_the_first_commit() {
    let kernel = Shared::default();
    kernel.state().is_slow = true;
    let running = Running::start(kernel);
    running.tell(shop(), true).await;
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
async fn connections_without_leave_are_cut_at_the_start_even_if_the_kernel_is_right() {
    let first = Running::start(Shared::default());
    first.tell(shop(), true).await;
    let kernel = first.end().await;
    kernel.state().live = vec![connection(11, 10)];
    let second = Running::start(kernel);
    second.tell(shop(), true).await;
    second.until("the cut", |running| !running.kernel.state().condemned.is_empty()).await;
}

/// Whoever removed our rules let in what they refuse, and that would live on as established.
#[tokio::test]
async fn connection_that_began_while_a_stranger_had_removed_the_rules_is_cut_once_they_are_back() {
    let running = Running::start(Shared::default());
    running.kernel.state().live = vec![connection(12, 10)];
    running.tell(shop(), true).await;
    running.until("the look at the start", |running| running.kernel.state().condemned.len() == 1).await;
    running.kernel.state().live = vec![connection(11, 10)];
    running.kernel.state().fake.table(Family::V4).insert("FORWARD".into(), Vec::new());
    running.strangers.notify_one();
    running.until("the cut", |running| running.kernel.state().condemned.len() == 2).await;
    assert_eq!(running.kernel.state().condemned[1].source, address(11));
}
