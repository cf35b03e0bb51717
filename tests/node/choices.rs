//! What an operator may choose.

use crate::stage::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::Outcome;
use std::time::Duration;
use support::field::BACKENDS;

#[test]
fn deny_drop_is_silent_and_pod_to_node_can_be_governed() {
    let mut stage = Stage::set("choices", BACKENDS[0], Some(NEAR_REACHES_NOBODY));
    let listener = || std::net::TcpListener::bind("10.244.1.1:8080");
    let node = stage.field.testbed.node_namespace("node-a").expect("a node").clone();
    let _listening = node.enter(listener).expect("the namespace is entered").expect("a port of the node");
    let near = stage.field.testbed.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
    let dial = move || {
        let to = "10.244.1.1:8080".parse().expect("an address");
        near.enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)).map(drop))
            .expect("the namespace is entered")
    };
    stage.start(&["--deny", "drop"]);
    stage.enforces();
    assert!(dial().is_ok(), "a pod's traffic to its node is not governed");
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Timeout);
    for mode in ["policy", "drop"] {
        stage.field.stop(false);
        stage.start(&["--pod-to-node", mode]);
        stage.enforces();
        let refused = dial().expect_err("the node is out of reach");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{mode}");
    }
}

#[test]
fn allowed_packets_can_be_accepted_ahead_of_the_hosts_own_rules() {
    let mut stage = Stage::set("accept", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.on_node_a(&["iptables-nft", "-P", "FORWARD", "DROP"]);
    stage.start(&[]);
    stage.enforces();
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Timeout, "left to the host, which drops");
    stage.field.stop(false);
    stage.start(&["--allowed", "accept"]);
    stage.enforces();
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
    assert_eq!(
        stage.probe("web", "10.244.1.11", Protocol::Tcp),
        Outcome::Timeout,
        "not judged, so left to the host"
    );
}
