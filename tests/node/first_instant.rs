//! A pod is protected from its CNI result on, before the API reports its addresses.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome, Push};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use support::field::{BACKENDS, DEADLINE};

const NEAR: [&str; 2] = ["10.244.1.11", "fd00:10:244:1::11"];
const FAR: [&str; 2] = ["10.244.2.20", "fd00:10:244:2::20"];

/// The runtime that writes a result; unit tests cover what each of them omits or adds.
#[derive(Clone, Copy)]
enum Runtime {
    Containerd,
    Crio,
}

/// Where the results of a node are. It is not there before the first one.
fn results(test: &NodeTest, node: &str) -> PathBuf {
    test.manifests.with_file_name(format!("results-{node}"))
}

fn result_name(runtime: Runtime, pod: &str) -> String {
    let network = match runtime {
        Runtime::Containerd => "cbr0",
        Runtime::Crio => "crio",
    };
    format!("{network}-c0ffee{pod}-eth0")
}

fn result(runtime: Runtime, pod: &str, addresses: [&str; 2]) -> String {
    let [v4, v6] = addresses;
    let (network, version) = match runtime {
        Runtime::Containerd => ("cbr0", "0.3.1"),
        Runtime::Crio => ("crio", "1.0.0"),
    };
    let ips = format!(
        r#"[{{"interface": 2, "address": "{v4}/24", "version": "4"}}, {{"interface": 2, "address": "{v6}/64", "version": "6"}}]"#
    );
    format!(
        r#"{{"kind": "cniCacheV1", "containerId": "c0ffee{pod}", "config": "e30=", "ifName": "eth0",
             "networkName": "{network}",
             "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "{pod}"],
                         ["K8S_POD_INFRA_CONTAINER_ID", "c0ffee{pod}"], ["K8S_POD_UID", "uid-of-{pod}"]],
             "result": {{"cniVersion": "{version}", "ips": {ips},
                         "interfaces": [{{"name": "cni0"}}, {{"name": "veth0"}}, {{"name": "eth0", "sandbox": "/x"}}]}}}}"#
    )
}

/// Writes a result on node-a as libcni does, in place.
fn keep(test: &NodeTest, runtime: Runtime, pod: &str, addresses: [&str; 2]) {
    let directory = results(test, "node-a");
    std::fs::create_dir_all(&directory).expect("a directory of our own");
    std::fs::write(directory.join(result_name(runtime, pod)), result(runtime, pod, addresses))
        .expect("the result is written");
}

/// Writes the result of near.
pub(crate) fn keep_near(test: &NodeTest) {
    keep(test, Runtime::Containerd, "near", NEAR);
}

fn remove(test: &NodeTest, runtime: Runtime, pod: &str) {
    std::fs::remove_file(results(test, "node-a").join(result_name(runtime, pod)))
        .expect("the result is there");
}

/// The cluster as the API shows it while near has no addresses yet.
fn near_is_pending() -> String {
    let pod = "name: near, labels";
    let reported = "status: {podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}";
    assert!(CLUSTER.contains(pod) && CLUSTER.contains(reported));
    CLUSTER.replace(pod, "name: near, uid: uid-of-near, labels").replace(reported, "status: {phase: Pending}")
}

/// The cluster before the API has reported near.
pub(crate) fn without_near() -> String {
    let documents = CLUSTER.split("---").filter(|document| !document.contains("name: near"));
    documents.collect::<Vec<_>>().join("---")
}

pub(crate) fn start(test: &mut NodeTest, more: &[&str]) {
    let directory = test.manifests.with_file_name("results-{node}");
    let directory = directory.to_string_lossy().into_owned();
    test.start(&[&["--cni-results-dir", &directory, "--audit-interval-seconds", "3600"], more].concat());
    test.wait_until_enforced();
}

/// Waits until this many sandboxes are known and this many unknown, and no change is pending.
fn waits_for_sandboxes(test: &NodeTest, known: usize, unknown: usize) {
    let lines = [
        format!("bridgewarden_sandboxes{{state=\"known\"}} {known}\n"),
        format!("bridgewarden_sandboxes{{state=\"unknown\"}} {unknown}\n"),
        "bridgewarden_pending_changes 0\n".to_owned(),
    ];
    test.wait_for("sandboxes", || {
        let page = test.get("node-a", "/metrics");
        lines.iter().all(|line| page.contains(line))
    });
}

/// Transactions of rules and elements of sets; not what cuts connections, which takes its own time.
fn writes(test: &NodeTest) -> [f64; 2] {
    ["bridgewarden_kernel_writes_total{kind=\"rules\"}", "bridgewarden_set_elements_written_total"]
        .map(|series| test.metric("node-a", series))
}

/// Sends datagrams from near to web from its first instant on, and returns how many arrived.
fn arrived_of_a_burst(test: &NodeTest) -> u64 {
    let web = Endpoint::pod("shop", "web");
    let mut arrived = 0;
    for (own, to) in NEAR.into_iter().zip(WEB) {
        let (own, to): (IpAddr, IpAddr) = (own.parse().expect("an address"), to.parse().expect("an address"));
        let before = test.field.testbed.received_from(&web, own);
        for _ in 0..100 {
            let from = Endpoint::pod("shop", "near");
            test.field.testbed.spoof(&from, own, SocketAddr::new(to, 80), b"first").expect("it is sent");
        }
        let node = Probe::new(Endpoint::node("node-a"), to, Protocol::Udp, 80);
        assert_eq!(test.field.testbed.probe(&node), ProbeOutcome::Open);
        arrived += test.field.testbed.received_from(&web, own) - before;
    }
    arrived
}

#[test]
fn pod_is_guarded_from_its_result_on_until_it_is_gone() {
    on_each_backend(|backend, short| {
        let runtime = if backend == BACKENDS[0] { Runtime::Containerd } else { Runtime::Crio };
        let mut test = NodeTest::build(&format!("first{short}"), backend, Some(NEAR_DENIES_EGRESS));
        test.write("cluster.yaml", &near_is_pending());
        start(&mut test, &[]);
        for to in WEB {
            assert_eq!(
                test.probe("near", to, Protocol::Udp),
                ProbeOutcome::Timeout,
                "no pod is known to be there"
            );
        }
        keep(&test, runtime, "near", NEAR);
        waits_for_sandboxes(&test, 1, 0);
        assert_eq!(arrived_of_a_burst(&test), 0);
        for to in WEB {
            assert_eq!(test.probe("near", to, Protocol::Tcp), ProbeOutcome::Refused);
        }
        let before = writes(&test);
        let reported = test.metric("node-a", "bridgewarden_changes_total{kind=\"pod\"}");
        test.write(
            "cluster.yaml",
            &near_is_pending()
                .replace("{phase: Pending}", "{podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}"),
        );
        let confirmed = || test.metric("node-a", "bridgewarden_changes_total{kind=\"pod\"}") > reported;
        test.wait_for("confirmed", confirmed);
        waits_for_sandboxes(&test, 1, 0);
        assert_eq!(writes(&test), before, "what the API confirms is written already");
        remove(&test, runtime, "near");
        waits_for_sandboxes(&test, 0, 0);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused, "the API's word stays");
        test.write("cluster.yaml", &without_near());
        test.wait_for("gone", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Timeout);
    });
}

#[test]
fn peer_is_let_in_from_its_result_on() {
    let mut test = NodeTest::build("firstp", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    test.write("cluster.yaml", &near_is_pending());
    start(&mut test, &[]);
    assert_eq!(
        test.probe("near", WEB[0], Protocol::Tcp),
        ProbeOutcome::Timeout,
        "no pod is known to be there"
    );
    keep(&test, Runtime::Containerd, "near", NEAR);
    waits_for_sandboxes(&test, 1, 0);
    for to in WEB {
        assert_eq!(test.probe("near", to, Protocol::Tcp), ProbeOutcome::Open);
    }
}

#[test]
fn unknown_pod_is_closed_until_its_object_comes_or_open_if_so_chosen() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("firstu{short}"), backend, None);
        test.write("cluster.yaml", &without_near());
        let directory = results(&test, "node-a");
        std::fs::create_dir_all(&directory).expect("a directory of our own");
        let whole = result(Runtime::Crio, "near", NEAR);
        let file = directory.join(result_name(Runtime::Crio, "near"));
        std::fs::write(&file, &whole[..whole.len() / 2]).expect("a part is written");
        start(&mut test, &[]);
        assert_eq!(test.metric("node-a", "bridgewarden_cni_result_errors"), 1.0);
        assert_eq!(
            test.probe("near", WEB[0], Protocol::Tcp),
            ProbeOutcome::Timeout,
            "no pod is known to be there"
        );
        std::fs::write(&file, &whole).expect("the whole is written");
        waits_for_sandboxes(&test, 0, 1);
        assert_eq!(test.metric("node-a", "bridgewarden_cni_result_errors"), 0.0);
        assert_eq!(arrived_of_a_burst(&test), 0);
        for (near, web) in NEAR.into_iter().zip(WEB) {
            assert_eq!(test.probe("near", web, Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("web", near, Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("far", near, Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("far", web, Protocol::Tcp), ProbeOutcome::Open, "others are not concerned");
            let node = Probe::new(Endpoint::node("node-a"), near.parse().unwrap(), Protocol::Tcp, 80);
            assert_eq!(test.field.testbed.probe(&node), ProbeOutcome::Open, "the node reaches its pods");
        }
        assert!(isolates(&rules(&test, backend), "unknown pod shop/near", NEAR[0]));
        test.write("cluster.yaml", &near_is_pending());
        waits_for_sandboxes(&test, 1, 0);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open, "no policy isolates it");
        assert!(!isolates(&rules(&test, backend), "unknown pod shop/near", NEAR[0]));
        test.write("cluster.yaml", &without_near());
        waits_for_sandboxes(&test, 0, 1);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
        test.field.stop(false);
        start(&mut test, &["--unknown-pods", "allow"]);
        waits_for_sandboxes(&test, 0, 1);
        assert_eq!(arrived_of_a_burst(&test), 200);
    });
}

/// The cluster after near has ended, with another pod that has no addresses yet.
fn next_is_pending() -> String {
    near_is_pending().replace(
        "name: near, uid: uid-of-near, labels: {app: client}",
        "name: next, uid: uid-of-next, labels: {app: next}",
    )
}

const NEXT_DENIES_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: next}
spec: {podSelector: {matchLabels: {app: next}}, policyTypes: [Ingress]}
";

/// What a peer goes on sending to the pod that had the address before would otherwise pass as an answer.
#[test]
fn flow_of_an_earlier_pod_does_not_lead_into_the_next_pod_at_its_address() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("next{short}"), backend, Some(NEXT_DENIES_INGRESS));
        keep(&test, Runtime::Containerd, "near", NEAR);
        start(&mut test, &[]);
        waits_for_sandboxes(&test, 1, 0);
        let open = |from: &str, to: &str, protocol| {
            let probe = Probe::new(Endpoint::pod("shop", from), to.parse().unwrap(), protocol, 80);
            let stream = test.field.testbed.stream(&probe, Push::Server).expect("an allowed flow opens");
            assert!(stream.moves_within(Duration::from_secs(2)), "{from} -> {to}, {protocol:?}");
            stream
        };
        let ways = WEB.map(|to| (to, Protocol::Udp)).into_iter().chain(FAR.map(|to| (to, Protocol::Tcp)));
        let flows: Vec<_> = ways.map(|(to, protocol)| (to, protocol, open("near", to, protocol))).collect();
        let of_others = open("web", FAR[0], Protocol::Tcp);
        remove(&test, Runtime::Containerd, "near");
        test.write("cluster.yaml", &next_is_pending());
        keep(&test, Runtime::Containerd, "next", NEAR);
        waits_for_sandboxes(&test, 1, 0);
        for (to, protocol, flow) in &flows {
            assert!(
                flow.falls_silent(Duration::from_millis(300), DEADLINE),
                "what {to} sends by {protocol:?} arrives at the next pod\n{}",
                test.field.log()
            );
        }
        assert!(of_others.moves_within(Duration::from_secs(2)), "others are not concerned");
        assert!(open("near", WEB[0], Protocol::Udp).moves_within(Duration::from_secs(2)), "its own flow");
        std::fs::remove_file(test.manifests.join("policy.yaml")).expect("the policy is there");
        for (to, protocol, flow) in flows.iter().filter(|(_, protocol, _)| *protocol == Protocol::Udp) {
            assert!(flow.moves_within(DEADLINE), "{to} still sends by {protocol:?}, and no policy denies it");
        }
    });
}

#[test]
fn unknown_pod_is_closed_at_the_address_of_a_pod_that_has_ended_and_is_still_listed() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("listed{short}"), backend, None);
        keep(&test, Runtime::Containerd, "near", NEAR);
        start(&mut test, &[]);
        waits_for_sandboxes(&test, 1, 0);
        assert_eq!(test.probe("far", NEAR[0], Protocol::Tcp), ProbeOutcome::Open);
        remove(&test, Runtime::Containerd, "near");
        waits_for_sandboxes(&test, 0, 0);
        keep(&test, Runtime::Containerd, "next", NEAR);
        waits_for_sandboxes(&test, 0, 1);
        for (near, web) in NEAR.into_iter().zip(WEB) {
            assert_eq!(test.probe("far", near, Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("web", near, Protocol::Tcp), ProbeOutcome::Refused);
            assert_eq!(test.probe("near", web, Protocol::Tcp), ProbeOutcome::Refused);
        }
        test.write("cluster.yaml", &next_is_pending());
        waits_for_sandboxes(&test, 1, 0);
        for near in NEAR {
            assert_eq!(test.probe("far", near, Protocol::Tcp), ProbeOutcome::Open, "no policy isolates it");
        }
    });
}

#[test]
fn stale_cni_result_denies_no_pod() {
    let mut test = NodeTest::build("stale", BACKENDS[0], None);
    keep(&test, Runtime::Containerd, "ghost", NEAR);
    keep(&test, Runtime::Containerd, "other", ["10.244.1.99", "fd00:10:244:1::99"]);
    start(&mut test, &[]);
    waits_for_sandboxes(&test, 0, 2);
    assert!(rules(&test, BACKENDS[0]).contains("unknown pod shop/other"));
    let open = |test: &NodeTest| {
        for (near, web) in NEAR.into_iter().zip(WEB) {
            assert_eq!(test.probe("near", web, Protocol::Tcp), ProbeOutcome::Open);
            assert_eq!(test.probe("web", near, Protocol::Tcp), ProbeOutcome::Open);
        }
        assert!(!rules(test, BACKENDS[0]).contains("unknown pod shop/ghost"));
    };
    open(&test);
    keep(&test, Runtime::Containerd, "near", NEAR);
    test.write("cluster.yaml", &near_is_pending());
    waits_for_sandboxes(&test, 1, 2);
    open(&test);
}

#[test]
fn restart_keeps_guarding_whom_only_results_tell_of_and_writes_nothing() {
    let mut test = NodeTest::build("firstr", BACKENDS[0], Some(NEAR_DENIES_EGRESS));
    test.write("cluster.yaml", &near_is_pending());
    keep(&test, Runtime::Containerd, "near", NEAR);
    keep(&test, Runtime::Containerd, "ghost", ["10.244.1.99", "fd00:10:244:1::99"]);
    start(&mut test, &[]);
    test.field.stop(true);
    assert_eq!(arrived_of_a_burst(&test), 0);
    start(&mut test, &[]);
    waits_for_sandboxes(&test, 1, 1);
    assert_eq!(writes(&test), [0.0, 0.0]);
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
}
