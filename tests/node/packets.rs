//! Packets that rules could mistake for others: spoofed, hairpinned, translated, from neighbours.

use crate::setup::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome, ProbeTimeouts};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[test]
fn spoofed_address_of_the_node_is_denied_like_any_other() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("forge{short}"), backend, Some(WEB_DENIES_INGRESS));
        let sends = |test: &NodeTest, source: &str, count: usize| {
            let source: IpAddr = source.parse().expect("an address");
            for _ in 0..count {
                let to = SocketAddr::new(WEB[usize::from(source.is_ipv6())].parse().unwrap(), 80);
                let from = Endpoint::pod("shop", "near");
                test.field.testbed.spoof(&from, source, to, b"forged").expect("the packet is sent");
            }
        };
        let seen = |test: &NodeTest, source: &str| {
            let web = Endpoint::pod("shop", "web");
            test.field.testbed.received_from(&web, source.parse().expect("an address"))
        };
        let forged = ["10.244.1.1", "192.168.100.1", "fd00:10:244:1::1", "127.0.0.1"];
        for source in &forged[..3] {
            sends(&test, source, 20);
            test.wait_for("open before", || seen(&test, source) == 20);
        }
        test.start(&[]);
        test.wait_until_enforced();
        for source in forged {
            let before = seen(&test, source);
            sends(&test, source, 50);
            let probe = Probe::new(Endpoint::node("node-a"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
            assert_eq!(test.field.testbed.probe(&probe), ProbeOutcome::Open);
            assert_eq!(seen(&test, source) - before, 0, "spoofed packets from {source} arrived");
        }
    });
}

const SERVICE: [&str; 2] = ["10.96.0.80", "fd00:96::80"];

const FAR: [&str; 2] = ["10.244.2.20", "fd00:10:244:2::20"];

/// What kube-proxy does on node-a for a Service of one pod.
fn serve(test: &NodeTest, pod: [&str; 2]) {
    for (tables, service, pod) in
        [("iptables-nft", SERVICE[0], pod[0]), ("ip6tables-nft", SERVICE[1], pod[1])]
    {
        let to = if pod.contains(':') { format!("[{pod}]:80") } else { format!("{pod}:80") };
        let nat = [tables, "-t", "nat", "-A"];
        test.on_node_a(
            &[&nat[..], &["PREROUTING", "-d", service, "-p", "tcp", "-j", "DNAT", "--to", &to]].concat(),
        );
        test.on_node_a(&[&nat[..], &["POSTROUTING", "-s", pod, "-d", pod, "-j", "MASQUERADE"]].concat());
    }
}

#[test]
fn pod_reaches_itself_directly_and_through_a_service() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("hairpin{short}"), backend, Some(WEB_DENIES_INGRESS));
        serve(&test, WEB);
        test.start(&[]);
        test.wait_until_enforced();
        for to in SERVICE.into_iter().chain(WEB) {
            assert_eq!(test.probe("web", to, Protocol::Tcp), ProbeOutcome::Open, "{to}");
        }
    });
}

#[test]
fn neighbour_that_dials_a_service_is_evaluated_by_the_pod_behind_it_and_answered_at_once() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("service{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let timeouts = ProbeTimeouts { tcp: Duration::from_secs(2), ..ProbeTimeouts::default() };
        test.field.testbed.set_timeouts(timeouts);
        serve(&test, WEB);
        test.start(&[]);
        test.wait_until_enforced();
        for service in SERVICE {
            assert_eq!(test.probe("near", service, Protocol::Tcp), ProbeOutcome::Open, "{service}");
        }
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        for to in WEB {
            test.wait_for("refused", || test.probe("near", to, Protocol::Tcp) == ProbeOutcome::Refused);
        }
        for service in SERVICE {
            assert_eq!(test.probe("near", service, Protocol::Tcp), ProbeOutcome::Refused, "{service}");
        }
    });
}

#[test]
fn client_that_may_not_reach_the_pod_of_a_service_on_another_node_is_answered_at_once() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("away{short}"), backend, Some(NEAR_DENIES_EGRESS));
        let timeouts = ProbeTimeouts { tcp: Duration::from_secs(2), ..ProbeTimeouts::default() };
        test.field.testbed.set_timeouts(timeouts);
        serve(&test, FAR);
        test.start(&[]);
        test.wait_until_enforced();
        for to in SERVICE.into_iter().chain(FAR) {
            assert_eq!(test.probe("near", to, Protocol::Tcp), ProbeOutcome::Refused, "{to}");
        }
    });
}

#[test]
fn neighbours_are_found_however_little_a_pod_may_reach() {
    let both = format!("{WEB_DENIES_INGRESS}---{NEAR_DENIES_EGRESS}");
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("ndp{short}"), backend, Some(&both));
        test.start(&[]);
        test.wait_until_enforced();
        let near = test.field.testbed.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
        let ip = |words: &[&str]| {
            let mut command = std::process::Command::new("ip");
            command.args(words).stdout(std::process::Stdio::piped());
            let output = near.spawn(&mut command).expect("ip starts").wait_with_output().expect("ip ends");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        ip(&["neigh", "flush", "dev", "eth0"]);
        for to in WEB {
            assert_eq!(test.probe("near", to, Protocol::Tcp), ProbeOutcome::Refused);
            let found = ip(&["neigh", "show", to]);
            assert!(found.contains("lladdr"), "{to}: {found:?}");
        }
    });
}

#[test]
fn bridged_packet_passes_a_pod_chain_once() {
    on_each_variant(|backend, short| {
        let mut test = NodeTest::build(&format!("once{short}"), backend, Some(WEB_DENIES_INGRESS));
        test.start(&[]);
        test.wait_until_enforced();
        for (from, expected) in [("near", 7), ("far", 11)] {
            for _ in 0..expected {
                assert_eq!(test.probe(from, WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
            }
        }
        let save = format!("{backend}-save");
        let saved = test.on_node_a(&[&save, "-c", "-t", "filter"]);
        let named = saved.lines().find(|line| line.contains("ingress of pod shop/web"));
        let chain = named.and_then(|line| line.split_whitespace().nth(2)).expect("the pod's chain is named");
        let first = saved.lines().find(|line| line.contains(&format!("-A {chain} ")));
        let packets =
            first.and_then(|line| line.strip_prefix('[')?.split_once(':')).map(|(packets, _)| packets);
        assert_eq!(packets, Some("18"), "{saved}");
    });
}
