//! `diff --connections` with a running agent and real connections: those that the new state denies are named, and no others.

use crate::setup::*;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, Push};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use support::field::BACKENDS;
use support::schema::misfits;
use support::topology::NODES;

/// The same pods as manifests have them before anything runs: without addresses, and web as its Deployment.
const UNASSIGNED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: shop, name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: near, labels: {app: client}}
spec: {containers: [{name: c}]}
";

/// Clients may no longer be of this node's address alone: a block that has far and not near.
const WEB_ALLOWS_NODE_B: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{ipBlock: {cidr: 10.244.2.0/24}}]}]
";

struct States(PathBuf);

impl States {
    fn of(test: &NodeTest) -> States {
        let here = test.manifests.with_file_name("states");
        fs::create_dir_all(&here).expect("a directory");
        States(here)
    }

    fn write(&self, name: &str, parts: &[&str]) -> String {
        let path = self.0.join(name);
        fs::write(&path, parts.join("\n---\n")).expect("a file");
        path.display().to_string()
    }
}

fn diff(test: &NodeTest, old: &str, new: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.args(["diff", old, new, "--connections", "--socket"]).arg(test.field.status_socket(NODES[0]));
    command.args(more).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is printed of the connections that would be cut.
fn cut(output: &Output) -> Vec<String> {
    let printed = text(&output.stdout);
    let from = printed.lines().skip_while(|line| !line.contains("live connections would be cut"));
    from.map(str::to_owned).collect()
}

#[test]
fn live_connections_that_the_new_state_denies_are_named_and_no_others() {
    on_each_backend(|backend, short| {
        let mut test = NodeTest::build(&format!("cons{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        test.start(&[]);
        test.wait_until_enforced();
        let states = States::of(&test);
        let open = states.write("open.yaml", &[CLUSTER, WEB_ALLOWS_CLIENTS]);
        let closed = states.write("closed.yaml", &[CLUSTER, WEB_DENIES_INGRESS]);
        let of_node_b = states.write("of-node-b.yaml", &[CLUSTER, WEB_ALLOWS_NODE_B]);
        let none = diff(&test, &open, &closed, &[]);
        assert_eq!(cut(&none), ["0 of 0 live connections would be cut"], "{}", text(&none.stderr));

        let mut streams = Vec::new();
        for (from, count) in [("near", 2), ("far", 1)] {
            for _ in 0..count {
                let probe =
                    Probe::new(Endpoint::pod("shop", from), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
                streams
                    .push(test.field.testbed.stream(&probe, Push::Client).expect("an allowed stream opens"));
            }
        }
        let near = "x shop/near (10.244.1.11) -> shop/web (10.244.1.10) 80/TCP, 2 connections";
        let far = "x shop/far (10.244.2.20) -> shop/web (10.244.1.10) 80/TCP";
        let both = diff(&test, &open, &closed, &[]);
        assert_eq!(cut(&both), ["3 of 3 live connections would be cut", near, far], "{backend}");
        assert_eq!(both.status.code(), Some(1));
        let one = diff(&test, &open, &of_node_b, &[]);
        assert_eq!(cut(&one), ["2 of 3 live connections would be cut", near], "{backend}");
        let opened = diff(&test, &closed, &open, &[]);
        assert_eq!(cut(&opened), ["0 of 3 live connections would be cut"], "{backend}");

        // Far is in neither state, web is its Deployment, and addresses are those that the agent knows.
        let open = states.write("open-unassigned.yaml", &[UNASSIGNED, WEB_ALLOWS_CLIENTS]);
        let of_node_b = states.write("of-node-b-unassigned.yaml", &[UNASSIGNED, WEB_ALLOWS_NODE_B]);
        let unassigned = diff(&test, &open, &of_node_b, &[]);
        assert_eq!(cut(&unassigned), ["2 of 2 live connections would be cut", near], "{backend}");
        let noted = text(&unassigned.stderr);
        assert!(noted.contains("1 live connections were not judged"), "{noted}");

        let json = diff(&test, &open, &of_node_b, &["-o", "json"]);
        let value: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let schema = fs::read_to_string("docs/reach-difference.schema.json").expect("the schema");
        assert_eq!(misfits(&schema, &value), [""; 0]);
        assert_eq!(value["connections"]["cut"][0]["destination"]["pod"], "shop/web");
        assert_eq!(value["connections"]["unjudged"], 1);
        let md = text(&diff(&test, &open, &of_node_b, &["-o", "md"]).stdout);
        assert!(
            md.contains("#### 2 of 2 live connections would be cut")
                && md.contains("| shop/near (10.244.1.11) | shop/web (10.244.1.10) | 80/TCP | 2 |"),
            "{md}"
        );
        let mut status = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
        status
            .args(["status", "--connections", "-o", "json", "--socket"])
            .arg(test.field.status_socket(NODES[0]));
        let value: Value = serde_json::from_slice(&status.output().expect("it runs").stdout).expect("JSON");
        let schema = fs::read_to_string("docs/live-connections.schema.json").expect("the schema");
        assert_eq!(misfits(&schema, &value), [""; 0]);
        assert_eq!(value["flows"].as_array().map(Vec::len), Some(2), "{value:#}");
        assert_eq!(value["flows"][0]["destination"]["owner"]["name"], "web-5d9c");
        drop(streams);
    });
}

#[test]
fn connections_that_were_cut_already_are_no_longer_live() {
    let mut test = NodeTest::build("consx", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    test.start(&[]);
    test.wait_until_enforced();
    let states = States::of(&test);
    let open = states.write("open.yaml", &[CLUSTER, WEB_ALLOWS_CLIENTS]);
    let closed = states.write("closed.yaml", &[CLUSTER, WEB_DENIES_INGRESS]);
    let probe = Probe::new(Endpoint::pod("shop", "near"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
    let stream = test.field.testbed.stream(&probe, Push::Client).expect("an allowed stream opens");
    assert_eq!(cut(&diff(&test, &open, &closed, &[]))[0], "1 of 1 live connections would be cut");
    test.write("policy.yaml", WEB_DENIES_INGRESS);
    test.wait_for("the connection is cut", || {
        cut(&diff(&test, &open, &closed, &[])) == ["0 of 0 live connections would be cut"]
    });
    drop(stream);
    test.field.stop(false);
    let output = diff(&test, &open, &closed, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot connect to the agent"), "{}", text(&output.stderr));
}
