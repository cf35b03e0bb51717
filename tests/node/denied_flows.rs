//! Each denied flow is reported once, with both ends, the policies, and the nearest rule.

use crate::setup::*;
use bridgewarden::flow::{FlowEnd, Reason, Record};
use bridgewarden::model::{Direction, PodKey};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Netns, ProbeOutcome};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use support::field::{BACKENDS, Field};
use support::topology::NODES;

/// Web allows clients on ports 80 and 81 over TCP, pods with a label that no pod has, and a block without far.
const WEB_IS_CHOOSY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - RULE
";

/// What `bridgewarden flows` prints on a node.
fn flows(field: &Field, node: usize, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    let output = command.args(["flows", "--socket"]).arg(field.flows_socket(NODES[node])).args(more).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The flows that the agents of all nodes report.
pub(crate) fn reported(test: &NodeTest) -> Vec<Record> {
    let all = [0, 1].map(|node| flows(&test.field, node, &["-o", "json"])).concat();
    all.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// Waits until a flow is reported, and returns it; no other may be reported.
fn the_one(test: &NodeTest) -> Record {
    test.wait_for("reported", || !reported(test).is_empty());
    let mut all = reported(test);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// Builds a cluster where `web` has one rule, tries one connection, and returns the denied flow.
fn denied(id: &str, backend: &'static str, policy: &str, from: &str, to: &str, protocol: Protocol) -> Record {
    let mut test = NodeTest::build(id, backend, Some(policy));
    test.start(&[]);
    test.wait_until_enforced();
    assert_ne!(test.probe(from, to, protocol), ProbeOutcome::Open);
    the_one(&test)
}

fn rule(rule: &str) -> String {
    WEB_IS_CHOOSY.replace("RULE", rule)
}

fn assert_record(
    record: &Record,
    ends: [&str; 2],
    direction: Direction,
    policy: &str,
    nearest: Option<(&str, &str)>,
) {
    let account = &record.account;
    let own = [account.source.to_string(), account.destination.to_string()];
    assert_eq!((own.each_ref().map(String::as_str), account.direction), (ends, direction), "{record}");
    assert_eq!(
        (account.reason, account.policies.as_slice()),
        (Reason::NoRuleAllows, &[policy.to_owned()][..])
    );
    let near = account.nearest.as_ref().map(|near| (near.differs.as_str(), near.note.as_str()));
    assert_eq!(near, nearest, "{record}");
}

#[test]
fn default_deny_is_reported_once_and_what_is_allowed_not_at_all() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("flows{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&["--log-denied", "on"]);
        test.wait_until_enforced();
        for _ in 0..3 {
            assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("web", "10.244.1.11", Protocol::Tcp), ProbeOutcome::Open);
        }
        let record = the_one(&test);
        assert_record(&record, ["shop/near", "shop/web"], Direction::Ingress, "shop/web", None);
        assert_eq!((record.account.port, record.account.protocol.as_str()), (Some(80), "TCP"));
        assert_eq!(record.node, "node-a");
        let owner = |end: &FlowEnd| end.owner.as_ref().map(ToString::to_string);
        let owners = [&record.account.source, &record.account.destination].map(owner);
        assert_eq!(owners, [None, Some("ReplicaSet/web-5d9c".to_owned())]);
        let counted = "bridgewarden_denied_packets_total{direction=\"ingress\",pod_namespace=\"shop\"}";
        assert!(test.metric("node-a", counted) >= 1.0);
        assert_eq!(test.metric("node-a", "bridgewarden_denied_packets_lost_total"), 0.0);
        let text = flows(&test.field, 0, &["-n", "shop"]);
        assert!(text.contains("shop/near -> shop/web 80/TCP  denied by ingress of shop/web"), "{text}");
        assert_eq!(flows(&test.field, 0, &["-n", "other"]), "");
        let log = test.field.log();
        assert_eq!(log.matches("\"message\":\"denied\"").count(), 1, "{log}");
        assert!(log.contains("\"destination_owner\":\"ReplicaSet/web-5d9c\""), "{log}");
        assert_eq!(test.probe("near", WEB[1], Protocol::Tcp), ProbeOutcome::Refused);
        test.wait_for("IPv6 is reported", || reported(&test).len() == 2);
        let record = reported(&test).remove(1);
        assert_record(&record, ["shop/near", "shop/web"], Direction::Ingress, "shop/web", None);
        assert!(record.account.source.address.is_ipv6());
    });
}

#[test]
fn wrong_port_protocol_label_and_address_are_reported_as_the_nearest_rule() {
    let cases = [
        (
            "{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 443}, {port: 8000, endPort: 8080}]}",
            ("port", "would allow it except for the port: 443/TCP, 8000-8080/TCP, not 80/TCP"),
        ),
        (
            "{from: [{podSelector: {}}], ports: [{port: 80, protocol: UDP}]}",
            ("protocol", "would allow it except for the protocol: 80/UDP, not 80/TCP"),
        ),
        (
            "{from: [{podSelector: {matchLabels: {app: admin}}}]}",
            (
                "pod-label",
                "would allow it except for a label: pods with app=admin, and shop/far has app=client",
            ),
        ),
        (
            "{from: [{namespaceSelector: {matchLabels: {team: a}}}]}",
            (
                "namespace-label",
                "would allow it except for a label of the namespace: namespaces with team=a, and shop has no label team",
            ),
        ),
        (
            "{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.2.0/24]}}]}",
            (
                "except",
                "would allow it except for an exception: 10.244.0.0/16 except 10.244.2.0/24, which holds 10.244.2.20",
            ),
        ),
        (
            "{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}",
            ("address", "would allow it except for the address: 192.0.2.0/24 does not contain 10.244.2.20"),
        ),
    ];
    let mut test = NodeTest::build("flowsn", BACKENDS[0], None);
    for (allowed, nearest) in cases {
        test.write("policy.yaml", &rule(allowed));
        test.start(&[]);
        test.wait_until_enforced();
        assert_eq!(test.probe("far", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "{allowed}");
        let record = the_one(&test);
        assert_record(&record, ["shop/far", "shop/web"], Direction::Ingress, "shop/web", Some(nearest));
        test.field.stop(false);
    }
}

#[test]
fn egress_is_reported_by_the_node_of_the_sender() {
    on_each_backend(|backend, short| {
        for (id, protocol) in [("flowse", Protocol::Tcp), ("flowsu", Protocol::Udp)] {
            let record =
                denied(&format!("{id}{short}"), backend, NEAR_DENIES_EGRESS, "far", WEB[1], protocol);
            assert_record(&record, ["shop/far", "shop/web"], Direction::Egress, "shop/near", None);
            assert_eq!(
                (record.node.as_str(), record.account.protocol.as_str()),
                ("node-b", protocol.to_string().as_str())
            );
        }
    });
}

#[test]
fn unknown_pod_is_reported_as_such() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("flowsx{short}"), backend, None);
        test.write("cluster.yaml", &crate::first_instant::without_near());
        crate::first_instant::keep_near(&test);
        crate::first_instant::start(&mut test, &[]);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        let record = the_one(&test);
        let ends = [&record.account.source, &record.account.destination].map(ToString::to_string);
        assert_eq!(ends, ["shop/near", "shop/web"]);
        assert_eq!(
            (record.account.reason, record.account.direction),
            (Reason::PodNotYetKnown, Direction::Egress)
        );
        assert!(record.to_string().contains("pod not yet known"), "{record}");
    });
}

#[test]
fn own_node_that_is_out_of_reach_is_reported_as_such() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("flowso{short}"), backend, Some(NEAR_DENIES_EGRESS));
        test.start(&["--pod-to-node", "drop"]);
        test.wait_until_enforced();
        assert_eq!(test.probe("near", "10.244.1.1", Protocol::Tcp), ProbeOutcome::Refused);
        let record = the_one(&test);
        assert_eq!(
            (record.account.reason, record.account.policies.as_slice()),
            (Reason::OwnNode, &["shop/near".to_owned()][..])
        );
    });
}

#[test]
fn group_with_another_reader_stops_the_telling_and_nothing_else() {
    let mut test = NodeTest::build("flowsb", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    let node = test.field.testbed.node_namespace("node-a").expect("a node").clone();
    let other =
        node.enter(|| bridgewarden::kernel::PacketLog::open(101, 128)).expect("the namespace is entered");
    let _other = other.expect("the group is free");
    test.start(&[]);
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    test.wait_for("remarked", || {
        test.get("node-a", "/readyz").contains(
            "[+]denied-flows ok: cannot read the denied packets: NFLOG group 101 has another reader",
        )
    });
    assert_eq!(reported(&test), []);
}

/// Sends datagrams without a pause, from a namespace to an address, until it is stopped, and at least so many.
struct Flood {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn begin(from: &Netns, to: &'static str, ports: Range<u16>, at_least: u64) -> Flood {
        let (sent, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (from, counter, until) = (from.clone(), Arc::clone(&sent), Arc::clone(&over));
        let flood = move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let to: IpAddr = to.parse().expect("an address");
            let continues = || !until.load(Ordering::Relaxed) || counter.load(Ordering::Relaxed) < at_least;
            for port in ports.cycle().take_while(|_| continues()) {
                // A rejection of the last datagram may come back as an error of this one.
                socket.send_to(b"flood", (to, port)).ok();
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let thread = std::thread::spawn(move || from.enter(flood).expect("the namespace is entered"));
        Flood { sent, over, thread: Some(thread) }
    }

    /// Stops, and returns how many were sent.
    fn end(mut self) -> u64 {
        self.stop();
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The CPU time that node-a's controller has used, in seconds, to the hundredth.
fn cpu(test: &NodeTest) -> f64 {
    let socket = test.field.flows_socket(NODES[0]).display().to_string();
    let processes = std::fs::read_dir("/proc").expect("there is /proc").flatten().map(|entry| entry.path());
    let read = |path: PathBuf| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut own = processes.filter(|process| {
        read(process.join("cmdline")).is_ok_and(|line| line.split('\0').any(|word| word == socket))
    });
    let stat = read(own.next().expect("it runs").join("stat")).expect("it runs");
    // utime and stime, in hundredths of a second (proc(5)); the name before them ends with a bracket.
    let behind = stat.rsplit(") ").next().unwrap_or_default();
    behind.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// All denied packets that a node's controller has counted.
fn counted(test: &NodeTest) -> f64 {
    let page = test.get("node-a", "/metrics");
    let lines = page.lines().filter(|line| line.starts_with("bridgewarden_denied_packets_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn flood_of_denied_packets_delays_no_change_and_the_kernel_bounds_what_is_reported() {
    const PACKETS: u64 = 100_000;
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("flowsf{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&[]);
        test.wait_until_enforced();
        let near = test.field.testbed.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
        let (begun, before) = (Instant::now(), cpu(&test));
        let flood = Flood::begin(&near, WEB[0], 80..81, PACKETS);
        test.wait_for("reported", || !reported(&test).is_empty());
        test.write("policy.yaml", &rule("{from: [{podSelector: {}}], ports: [{port: 80}]}"));
        test.wait_for("the change is enforced", || {
            test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Open
        });
        assert_ne!(test.probe("near", WEB[0], Protocol::Udp), ProbeOutcome::Open, "it is still denied");
        let (sent, seconds) = (flood.end(), begun.elapsed().as_secs_f64());
        let share = 100.0 * (cpu(&test) - before) / seconds;
        println!(
            "{:.0} denied packets a second, {share:.1} % of a core, a change included",
            sent as f64 / seconds
        );
        assert_eq!(test.metric("node-a", "bridgewarden_denied_packets_lost_total"), 0.0);
        // Ten a second and a burst of five, of one chain.
        assert!(counted(&test) <= 15.0 + 10.0 * seconds, "{} of {sent}", counted(&test));
        let to_web = reported(&test).into_iter().filter(|flow| flow.account.protocol == "UDP").count();
        assert!(to_web >= 1 && to_web as f64 <= 1.0 + seconds / 10.0, "{to_web} flows in {seconds} s");
    });
}

#[test]
fn flood_past_the_kernels_limit_is_counted_and_costs_no_sync() {
    const PACKETS: u64 = 100_000;
    let mut test = NodeTest::build("flowsk", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    // As if thousands of pods' packets were denied: each one is copied, and each looks like another flow.
    let copied = ["iptables-nft", "-I", "OUTPUT", "-p", "udp", "-d", "127.0.0.1", "-j", "NFLOG"];
    test.on_node_a(&[&copied[..], &["--nflog-prefix", "denied-egress", "--nflog-group", "101"]].concat());
    let node = test.field.testbed.node_namespace("node-a").expect("a node").clone();
    let flood = Flood::begin(&node, "127.0.0.1", 1..60_000, PACKETS);
    let skipped = || test.metric("node-a", "bridgewarden_denied_flows_untold_total");
    test.wait_for("more than are looked at", || skipped() > 0.0);
    test.write("policy.yaml", WEB_ALLOWS_CLIENTS);
    test.wait_for("the change is enforced", || {
        test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Open
    });
    let sent = flood.end();
    assert!(
        counted(&test) + test.metric("node-a", "bridgewarden_denied_packets_lost_total")
            <= sent as f64 + 10.0
    );
    assert!(reported(&test).len() <= 1000, "{}", reported(&test).len());
    test.wait_until_enforced();
}

#[test]
fn denied_flow_is_sent_to_followers_as_it_happens() {
    let mut test = NodeTest::build("flowsw", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    assert_eq!(test.probe("far", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    the_one(&test);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command
        .args(["flows", "--follow", "--socket"])
        .arg(test.field.flows_socket(NODES[0]))
        .stdout(Stdio::piped());
    let mut follower = command.spawn().expect("the program runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let kept = lines.next().expect("what is kept");
    assert!(kept.contains("shop/far -> shop/web 80/TCP"), "{kept}");
    lines.next().expect("its second line");
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    let news = lines.find(|line| !line.starts_with(' ') && !line.contains("shop/far")).expect("what is new");
    assert!(news.contains("shop/near -> shop/web 80/TCP"), "{news}");
    follower.kill().expect("it runs until it is ended");
    follower.wait().expect("it ends");
}

#[test]
fn flows_are_for_root_alone_and_a_second_daemon_leaves_the_first_its_socket() {
    let mut test = NodeTest::build("flowss", BACKENDS[0], Some(WEB_DENIES_INGRESS));
    test.start(&[]);
    test.wait_until_enforced();
    let socket = test.field.flows_socket(NODES[0]);
    assert_eq!(std::fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777, 0o600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let refused = runtime.block_on(async { bridgewarden::observe::listen_at(&socket).map(drop) });
    assert_eq!(refused.expect_err("it is answered").kind(), ErrorKind::AddrInUse);
    test.field.stop(true);
    test.start(&[]);
    test.wait_until_enforced();
    assert_eq!(flows(&test.field, 0, &[]), "", "the socket of one that was killed is replaced");
}
