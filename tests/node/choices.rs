//! Options that an operator may choose.

use crate::cleanup::{PROGRAM, tried};
use crate::setup::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::ProbeOutcome;
use std::time::Duration;

#[test]
fn deny_drop_is_silent_and_pod_to_node_can_be_governed() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("choices{short}"), backend, Some(NEAR_DENIES_EGRESS));
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
    });
}

#[test]
fn allowed_packets_can_be_accepted_ahead_of_the_hosts_own_rules() {
    let mut test = NodeTest::build("accept", "iptables-nft", Some(WEB_ALLOWS_CLIENTS));
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

#[test]
fn accepting_ahead_of_other_programs_is_refused_with_nftables_and_the_way_out_is_said() {
    let test = NodeTest::build("refuse", "nftables", Some(WEB_ALLOWS_CLIENTS));
    let manifests = test.manifests.display();
    for command in [
        format!("run --manifests {manifests} --node-name node-a --http-addr 127.0.0.1:20299"),
        format!("render {manifests} --node-name node-a"),
        "preflight".to_owned(),
    ] {
        let (said, code) = tried(&test, &format!("{PROGRAM} {command} --backend nftables --allowed accept"));
        assert_eq!(code, 2, "{command}: {said}");
        for part in ["accept ends one base chain", "iptables -I DOCKER-USER -i cni0 -j ACCEPT"] {
            assert!(said.contains(part), "{command}: {said}");
        }
        assert_eq!(test.on_node_a(&["nft", "list", "tables"]), "", "{command}");
    }
}

#[test]
fn node_without_iptables_is_enforced_with_nftables() {
    let test = NodeTest::build("auto", "nftables", None);
    let (said, _) = tried(&test, &format!("PATH=/nowhere {PROGRAM} preflight"));
    assert!(said.contains("[ok]   nftables: ") && !said.contains(" programs:"), "{said}");
}
