//! Options that an operator may choose.

use crate::setup::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::time::Duration;
use support::field::BACKENDS;

#[test]
fn deny_drop_is_silent_and_pod_to_node_can_be_governed() {
    let mut test = NodeTest::build("choices", BACKENDS[0], Some(NEAR_DENIES_EGRESS));
    let listener = || std::net::TcpListener::bind("10.244.1.1:8080");
    let node = test.field.testbed.node_namespace("node-a").expect("a node").clone();
    let _listening = node.enter(listener).expect("the namespace is entered").expect("a port of the node");
    let near = test.field.testbed.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
    let dial = move || {
        let to = "10.244.1.1:8080".parse().expect("an address");
        near.enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)).map(drop))
            .expect("the namespace is entered")
    };
    test.start(&["--deny", "drop"]);
    test.wait_until_enforced();
    assert!(dial().is_ok(), "a pod's traffic to its node is not governed");
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Timeout);
    for mode in ["policy", "drop"] {
        test.field.stop(false);
        test.start(&["--pod-to-node", mode]);
        test.wait_until_enforced();
        let refused = dial().expect_err("the node is out of reach");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{mode}");
    }
}

#[test]
fn allowed_packets_can_be_accepted_ahead_of_the_hosts_own_rules() {
    let mut test = NodeTest::build("accept", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    test.on_node_a(&["iptables-nft", "-P", "FORWARD", "DROP"]);
    test.start(&[]);
    test.wait_until_enforced();
    assert_eq!(
        test.probe("near", WEB[0], Protocol::Tcp),
        ProbeOutcome::Timeout,
        "left to the host, which drops"
    );
    test.field.stop(false);
    test.start(&["--allowed", "accept"]);
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Open);
    assert_eq!(
        test.probe("web", "10.244.1.11", Protocol::Tcp),
        ProbeOutcome::Timeout,
        "not judged, so left to the host"
    );
}
