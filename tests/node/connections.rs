//! Live connections when policies no longer allow them.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, ProbeOutcome, Push, Stream};
use std::time::Duration;
use support::field::DEADLINE;

/// Streams of either side from each client to each address of the Service's pod, each with what it is.
fn streams_to_web(test: &NodeTest, protocol: Protocol) -> Vec<(String, Stream)> {
    let mut streams = Vec::new();
    for from in ["near", "far"] {
        for to in WEB {
            for push in [Push::Client, Push::Server] {
                let probe =
                    Probe::new(Endpoint::pod("shop", from), to.parse().expect("an address"), protocol, 80);
                let stream = test.field.testbed.stream(&probe, push).expect("an allowed stream opens");
                assert!(stream.moves_within(Duration::from_secs(2)), "{from} -> {to}, {push:?}");
                streams.push((format!("{from} -> {to}, {push:?} pushes"), stream));
            }
        }
    }
    streams
}

fn assert_cut(test: &NodeTest, streams: &[(String, Stream)]) {
    for (what, stream) in streams {
        assert!(
            stream.falls_silent(Duration::from_millis(300), DEADLINE),
            "{what} lives on after its allowance went\n{}",
            test.field.log()
        );
    }
}

#[test]
fn stream_of_either_side_is_cut_when_its_allowance_goes() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("cut{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&[]);
        test.wait_until_enforced();
        let streams = streams_to_web(&test, Protocol::Tcp);
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        assert_cut(&test, &streams);
        assert!(test.metric("node-a", "bridgewarden_connections_cut_total") >= 8.0);
        assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
    });
}

#[test]
fn stream_is_cut_when_its_client_may_no_longer_reach_anybody() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("cute{short}"), backend, None);
        test.start(&[]);
        test.wait_until_enforced();
        for push in [Push::Client, Push::Server] {
            let probe = Probe::new(Endpoint::pod("shop", "near"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
            let stream = test.field.testbed.stream(&probe, push).expect("an open stream");
            assert!(stream.moves_within(Duration::from_secs(2)));
            test.write("policy.yaml", NEAR_DENIES_EGRESS);
            assert!(
                stream.falls_silent(Duration::from_millis(300), DEADLINE),
                "{push:?}\n{}",
                test.field.log()
            );
            std::fs::remove_file(test.manifests.join("policy.yaml")).expect("the policy is there");
            test.wait_for("open", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Open);
        }
    });
}

/// Whichever end goes on sending: what the server sends must not begin the flow again, in reverse.
#[test]
fn udp_flow_is_cut_when_its_allowance_goes_and_goes_on_when_it_is_back() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("cutu{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&[]);
        test.wait_until_enforced();
        let flows = streams_to_web(&test, Protocol::Udp);
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        assert_cut(&test, &flows);
        test.write("policy.yaml", WEB_ALLOWS_CLIENTS);
        for (what, flow) in &flows {
            assert!(flow.moves_within(DEADLINE), "{what} stays cut\n{}", test.field.log());
        }
    });
}

#[test]
fn streams_that_stay_allowed_or_are_to_be_kept_are_not_cut() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("keep{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&["--on-revoke", "keep"]);
        test.wait_until_enforced();
        let from =
            |name: &str| Probe::new(Endpoint::pod("shop", name), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
        let kept = test.field.testbed.stream(&from("near"), Push::Server).expect("an allowed stream opens");
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("refused", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
        assert!(kept.moves_within(Duration::from_secs(2)));
        test.field.stop(false);
        test.write("policy.yaml", WEB_ALLOWS_CLIENTS);
        test.start(&[]);
        test.wait_until_enforced();
        test.wait_for("open", || test.probe("far", WEB[0], Protocol::Tcp) == ProbeOutcome::Open);
        let other = test.field.testbed.stream(&from("far"), Push::Client).expect("an allowed stream opens");
        let only_far = WEB_ALLOWS_CLIENTS
            .replace("{podSelector: {matchLabels: {app: client}}}", "{ipBlock: {cidr: 10.244.2.0/24}}");
        test.write("policy.yaml", &only_far);
        assert!(kept.falls_silent(Duration::from_millis(300), DEADLINE), "near is no longer allowed");
        assert!(
            other.moves_within(Duration::from_secs(2)),
            "far's stream is still allowed\n{}",
            test.field.log()
        );
    });
}

#[test]
fn node_reaches_its_pods_and_its_own_connections_are_never_cut() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("node{short}"), backend, None);
        test.start(&[]);
        test.wait_until_enforced();
        let probe = Probe::new(Endpoint::node("node-a"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
        let stream = test.field.testbed.stream(&probe, Push::Client).expect("the node's stream opens");
        test.write("policy.yaml", WEB_DENIES_INGRESS);
        test.wait_for("refused", || test.probe("near", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
        assert_eq!(test.field.testbed.probe(&probe), ProbeOutcome::Open);
        assert!(stream.moves_within(Duration::from_secs(2)));
    });
}
