//! `flows`, `verify`, `status` and `wait` about the agents of several nodes, with a script in place of kubectl that notes with which
//! words it was started.

mod cluster;

use cluster::{Cluster, Ran, TIMEOUT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

fn version(generation: i64) -> Value {
    json!({"generation": generation, "resourceVersion": format!("{generation}00")})
}

/// The status that an agent prints, with one policy.
fn status(node: &str, ready: bool, state: &str, known: i64, in_force: i64) -> String {
    let problem = if ready { Value::Null } else { "the kernel refuses".into() };
    let policy = json!({
        "namespace": "shop", "name": "web", "uid": "u", "state": state, "audited": false, "pods": 2,
        "received": version(known), "inForce": version(in_force), "waitsFor": null, "refused": [],
    });
    let counts = json!({
        "policies": 1, "activePolicies": 1, "pendingPolicies": 0, "localPods": 3, "isolatedPods": 2, "kernel": [],
    });
    let status = json!({
        "apiVersion": "bridgewarden.io/v1alpha1", "kind": "AgentStatus", "time": "2026-01-02T03:04:05Z",
        "node": node, "version": "0.1.0", "revision": null, "backend": "nftables", "ready": ready,
        "checks": [{"name": "sync", "problem": problem, "remarks": []}],
        "lastSync": "2026-01-02T03:04:00Z", "lastVerification": null, "counts": counts, "policies": [policy],
    });
    format!("{status:#}\n")
}

fn flow(node: &str, second: u32, from: &str) -> String {
    let flow = json!({
        "number": second, "time": format!("2026-01-02T03:04:{second:02}Z"), "last": format!("2026-01-02T03:05:{second:02}Z"),
        "count": 1, "node": node, "direction": "ingress",
        "source": {"address": "10.0.0.1", "namespace": "shop", "pod": from},
        "destination": {"address": "10.0.0.2", "namespace": "data", "pod": "db"},
        "protocol": "TCP", "port": 5432, "reason": "no-rule-allows", "policies": ["data/db"],
    });
    format!("{flow}\n")
}

#[test]
fn agents_of_all_nodes_are_asked_in_the_chosen_cluster_and_namespace() {
    let cluster = Cluster::new("words", &["node-a", "node-b"]);
    cluster.prints("node-a", &status("node-a", true, "in-force", 3, 3), 0);
    cluster.prints("node-b", &status("node-b", true, "pending", 3, 2), 0);
    let more =
        ["--context", "prod", "--kubeconfig", "/k", "--agent-namespace", "net", "--agent-selector", "a=b"];
    let ran = cluster.run(&[&["status", "--all"], &more[..]].concat());
    assert_eq!((ran.code, ran.error.as_str()), (Some(0), ""));
    let wanted =
        "NODE    READY  VERSION  BACKEND   POLICIES  PENDING  PODS  LAST SYNC             LAST VERIFICATION
node-a  yes    0.1.0    nftables  1         0        3     2026-01-02T03:04:00Z  -
node-b  yes    0.1.0    nftables  1         0        3     2026-01-02T03:04:00Z  -

NODE    POLICY    STATE    KNOWN  IN FORCE  PODS
node-b  shop/web  pending  3      2         2
";
    assert_eq!(ran.out, wanted);
    let mut words: Vec<String> = cluster.read("words").lines().map(str::to_owned).collect();
    words.sort();
    let exec = |node: &str| {
        format!(
            "--context=prod --kubeconfig=/k exec --namespace net agent-{node} --container agent -- bridgewarden status \
             --output=json --socket=/run/bridgewarden/status.sock"
        )
    };
    let list =
        "--context=prod --kubeconfig=/k get pods --namespace net --selector a=b --output json".to_owned();
    assert_eq!(words, [exec("node-a"), exec("node-b"), list]);
}

#[test]
fn node_that_does_not_answer_is_named_and_the_exit_code_says_so() {
    let cluster = Cluster::new("silent", &["node-a", "node-b", "node-c"]);
    cluster.answers("node-b", "echo 'error: no connection to the kubelet' >&2; exit 1\n");
    cluster.answers("node-c", "exec sleep 600\n");
    let answers = [
        ("status", status("node-a", true, "in-force", 3, 3)),
        ("flows", flow("node-a", 1, "web")),
        ("verify", "9 decisions verified\n".to_owned()),
    ];
    for (command, answer) in answers {
        cluster.prints("node-a", &answer, 0);
        let ran = cluster.run(&[command, "--all", "--node-timeout", "2s"]);
        assert_eq!(ran.code, Some(2), "{command}: {}", ran.error);
        assert!(ran.out.contains("node-a"), "{command}: {}", ran.out);
        for why in
            ["node node-b: error: no connection to the kubelet", "node node-c: it did not answer within 2 s"]
        {
            assert!(ran.error.contains(why), "{command}: {}", ran.error);
        }
    }
    let ran = cluster.run(&["status", "--node", "node-a", "--node", "node-z"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("node node-z: no agent's pod is on it"), "{}", ran.error);
    cluster.write("pods", "{\"items\": []}");
    let ran = cluster.run(&["flows", "--all"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("there are no agents") && ran.error.contains("kube-system"), "{}", ran.error);
}

#[test]
fn agent_that_is_not_ready_makes_the_exit_code_one() {
    let cluster = Cluster::new("ready", &["node-a", "node-b"]);
    cluster.prints("node-a", &status("node-a", true, "in-force", 3, 3), 0);
    cluster.prints("node-b", &status("node-b", false, "in-force", 3, 3), 1);
    let ran = cluster.run(&["status", "--all"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("node-b: sync: the kernel refuses\n"), "{}", ran.out);
    let ran = cluster.run(&["status", "--all", "-o", "json"]);
    let nodes = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is an object"));
    assert_eq!(nodes.map(|status| status["node"].clone()).collect::<Vec<_>>(), ["node-a", "node-b"]);
}

#[test]
fn flows_of_all_nodes_are_printed_in_their_order_with_their_node() {
    let cluster = Cluster::new("flows", &["a", "node-b"]);
    cluster.prints("a", &(flow("a", 1, "one") + &flow("a", 3, "three")), 0);
    cluster.prints("node-b", &(flow("node-b", 2, "two") + &flow("node-b", 4, "other")), 0);
    let ran = cluster.run(&["flows", "--all", "--since", "2026-01-02T03:05:00Z"]);
    assert_eq!((ran.code, ran.error.as_str()), (Some(0), ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 8, "{}", ran.out);
    let starts = [
        "a       2026-01-02T03:04:01Z  shop/one",
        "a           policy data/db",
        "node-b  2026-01-02T03:04:02Z  shop/two",
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{}", ran.out);
    }
    let ran = cluster.run(&["flows", "--all", "-o", "json", "--from", "shop/two"]);
    assert_eq!(ran.out, flow("node-b", 2, "two"));
    assert!(cluster.read("words").contains("-- bridgewarden flows --output=json --socket=/s/flows\n"));
}

#[test]
fn flows_are_followed_on_all_nodes_until_a_signal_and_no_kubectl_is_left() {
    let cluster = Cluster::new("follow", &["node-a", "node-b"]);
    for node in ["node-a", "node-b"] {
        cluster.write(&format!("{node}.text"), &flow(node, 1, "web"));
        let script =
            format!("cat \"$here/{node}.text\"; echo $$ >\"$here/{node}.pid\"; exec cat >/dev/null\n");
        cluster.answers(node, &script);
    }
    let mut command = cluster.command(&["flows", "--all", "--follow", "-o", "json"]);
    let child = command.spawn().expect("the program runs");
    let pids = ["node-a.pid", "node-b.pid"].map(|name| cluster.await_text(name).trim().to_owned());
    kill(Pid::from_raw(child.id().try_into().expect("it fits")), Signal::SIGTERM).expect("it runs");
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(130), "{}", ran.error);
    let start = Instant::now();
    let is_there = |pid: &String| {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !line.is_empty() && !line.contains(") Z ")
    };
    while pids.iter().any(is_there) {
        assert!(start.elapsed() < TIMEOUT, "a kubectl is left");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn node_that_can_be_followed_no_longer_is_named_and_the_others_go_on() {
    let cluster = Cluster::new("followed", &["node-a", "node-b"]);
    cluster.answers("node-a", "echo 'the agent has ended' >&2; exit 2\n");
    cluster.write("b.text", &flow("node-b", 1, "web"));
    cluster.answers(
        "node-b",
        "while ! [ -e \"$here/go\" ]; do sleep 0.01; done; cat \"$here/b.text\"; exit 2\n",
    );
    let child = cluster.command(&["flows", "--all", "--follow"]).spawn().expect("the program runs");
    cluster.write("go", "");
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(2));
    assert!(ran.out.starts_with("node-b  2026-01-02T03:04:01Z  shop/web"), "{}", ran.out);
    assert!(ran.error.contains("node node-a: the agent has ended"), "{}", ran.error);
}

#[test]
fn output_that_nobody_reads_any_more_ends_it_quietly() {
    let cluster = Cluster::new("unread", &["node-a"]);
    cluster.answers("node-a", "echo started >\"$here/started\"; exec cat >/dev/null\n");
    let mut child = cluster.command(&["flows", "--all", "--follow"]).spawn().expect("the program runs");
    cluster.await_text("started");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.error.as_str()), (Some(0), ""));
}

#[test]
fn each_node_is_verified_with_the_flags_of_its_agent_and_one_difference_counts() {
    let cluster = Cluster::new("verify", &["node-a", "node-b"]);
    cluster.prints("node-a", "9 decisions verified\n", 0);
    cluster.prints("node-b", "the kernel allows what policies deny\n  here\n", 1);
    let ran = cluster.run(&["verify", "--all"]);
    assert_eq!((ran.code, ran.error.as_str()), (Some(1), ""));
    let wanted =
        "node-a: 9 decisions verified\nnode-b: the kernel allows what policies deny\nnode-b:   here\n";
    assert_eq!(ran.out, wanted);
    assert!(cluster.read("words").contains("-- bridgewarden verify --output=text --backend=nftables\n"));
    cluster.prints("node-a", "{\n  \"node\": \"node-a\"\n}\n", 0);
    let ran = cluster.run(&["verify", "--node", "node-a", "-o", "json"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "{\"node\":\"node-a\"}\n"));
}

#[test]
fn live_connections_of_all_nodes_are_judged_once_and_a_silent_node_is_named() {
    let cluster = Cluster::new("connections", &["node-a", "node-b", "node-c"]);
    let pod = |pod: &str, address: &str| json!({"address": address, "namespace": "shop", "pod": pod});
    let flows = |node: &str| {
        let flow = json!({
            "source": pod("web", "10.0.0.1"), "destination": pod("db", "10.0.0.2"),
            "protocol": "TCP", "port": 5432, "connections": 3,
        });
        json!({"time": "2026-01-02T03:04:05Z", "node": node, "flows": [flow], "leftOut": 0}).to_string()
    };
    cluster.prints("node-a", &flows("node-a"), 0);
    cluster.prints("node-b", &flows("node-b"), 0);
    cluster.answers("node-c", "echo 'no route' >&2; exit 1\n");
    let pods = "{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db}}
";
    let closed = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: all}, spec: {podSelector: {}}}\n";
    cluster.write("old.yaml", pods);
    cluster.write("new.yaml", &format!("{pods}---\n{closed}"));
    let [old, new] = ["old.yaml", "new.yaml"].map(|name| cluster.here.join(name).display().to_string());
    let ran = cluster.run(&["diff", &old, &new, "--connections", "--all", "--context", "prod"]);
    assert_eq!(ran.code, Some(2), "{}", ran.error);
    let wanted = "3 of 3 live connections would be cut
x shop/web (10.0.0.1) -> shop/db (10.0.0.2) 5432/TCP, 3 connections
";
    assert!(ran.out.ends_with(wanted), "{}", ran.out);
    assert!(ran.error.contains("no answer from node node-c: no route"), "{}", ran.error);
    let asked = "--context=prod exec --namespace kube-system agent-node-a --container agent -- bridgewarden status --connections \
                 --output=json --socket=/run/bridgewarden/status.sock\n";
    assert!(cluster.read("words").contains(asked), "{}", cluster.read("words"));
    let ran = cluster.run(&["diff", &old, &new, "--connections", "--node", "node-a"]);
    assert_eq!(ran.code, Some(1), "{}", ran.error);
    let ran = cluster.run(&["diff", &old, &new, "--all"]);
    assert!(ran.code == Some(2) && ran.error.contains("add --connections"), "{}", ran.error);
    let ran = cluster.run(&["status", "--connections", "--node", "node-a"]);
    assert_eq!(ran.out, "node-a: shop/web (10.0.0.1) -> shop/db (10.0.0.2) 5432/TCP, 3 connections\n");
}

#[test]
fn policy_is_waited_for_until_every_node_has_the_version_of_the_api_server() {
    let cluster = Cluster::new("wait", &["node-a", "node-b"]);
    cluster.prints("node-a", &status("node-a", true, "in-force", 3, 3), 0);
    let (before, now) = (status("node-b", true, "in-force", 2, 2), status("node-b", true, "in-force", 3, 3));
    cluster.write("before", &before);
    cluster.write("now", &now);
    let script = "if [ -e \"$here/asked\" ]; then cat \"$here/now\"; else : >\"$here/asked\"; cat \"$here/before\"; fi\n";
    cluster.answers("node-b", script);
    let object = json!({"metadata": {"uid": "u", "generation": 3, "resourceVersion": "300"}});
    cluster.write("policy", &object.to_string());
    let ran = cluster.run(&["wait", "networkpolicy/shop/web", "--all"]);
    assert_eq!((ran.code, ran.error.as_str()), (Some(0), ""));
    assert_eq!(
        ran.out,
        "networkpolicy/shop/web is in force on 2 nodes; pods that it selects are on 2 of them\n"
    );
    let words = cluster.read("words");
    assert_eq!(words.matches("exec --namespace kube-system agent-node-a ").count(), 1, "{words}");
    assert_eq!(words.matches("exec --namespace kube-system agent-node-b ").count(), 2, "{words}");
    assert!(words.contains("get networkpolicies.networking.k8s.io web --namespace shop --ignore-not-found"));
    assert!(
        words.contains(" status --output=json --socket=/run/bridgewarden/status.sock --policy=shop/web\n")
    );
}

#[test]
fn wait_that_times_out_names_the_nodes_that_lack_the_policy_and_why() {
    let cluster = Cluster::new("lack", &["node-a", "node-b", "node-c"]);
    cluster.prints("node-a", &status("node-a", true, "in-force", 3, 3), 0);
    cluster.prints("node-b", &status("node-b", false, "pending", 3, 2), 1);
    cluster.answers("node-c", "echo 'no route' >&2; exit 1\n");
    let object = json!({"metadata": {"uid": "u", "generation": 3, "resourceVersion": "300"}});
    cluster.write("policy", &object.to_string());
    let ran = cluster.run(&["wait", "shop/web", "--all", "--timeout", "100ms"]);
    assert_eq!((ran.code, ran.error.as_str()), (Some(1), ""));
    let wanted = "timed out after 100ms: networkpolicy/shop/web is in force on 1 of 3 nodes
  node-b: generation 3 (resourceVersion 300) is received and not in force yet, generation 2 (resourceVersion 200) is; \
                  sync: the kernel refuses
  node-c: no answer: no route
";
    assert_eq!(ran.out, wanted);
    let ran = cluster.run(&["wait", "shop/web", "--all", "--for", "delete", "--timeout", "100ms"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("node-a: it still exists"), "{}", ran.out);
    cluster.write("policy", "");
    let ran = cluster.run(&["wait", "shop/web", "--all"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("there is no networkpolicy shop/web"), "{}", ran.error);
    let ran = cluster.run(&["wait", "shop/web", "--all", "--for", "delete", "--timeout", "100ms"]);
    assert!(ran.out.contains("node-a: it is still known"), "{}", ran.out);
}

#[test]
fn at_most_sixteen_agents_are_asked_at_once_and_none_is_left_out() {
    let nodes: Vec<String> = (10..50).map(|number| format!("node-{number}")).collect();
    let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let cluster = Cluster::new("many", &names);
    for node in &nodes {
        cluster.write(&format!("{node}.text"), &flow(node, 1, "web"));
        let script = format!(
            ": >\"$here/under-way-$$\"; sleep 0.05; ls \"$here\" | grep -c under-way >>\"$here/counts\"; \
             rm \"$here/under-way-$$\"; cat \"$here/{node}.text\"\n"
        );
        cluster.answers(node, &script);
    }
    let ran = cluster.run(&["flows", "--all", "-o", "json"]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 40), "{}", ran.error);
    let most = cluster.read("counts").lines().filter_map(|line| line.parse::<usize>().ok()).max();
    assert!(most > Some(1) && most <= Some(16), "{most:?}");
}

#[test]
fn program_is_a_plugin_of_kubectl_under_another_name() {
    let cluster = Cluster::new("plugin", &[]);
    let link = cluster.here.join("kubectl-bridgewarden");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bridgewarden"), &link).expect("it is linked");
    let ran = Ran::of(Command::new(&link).args(["flows", "--help"]).output().expect("the program runs"));
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("Usage: kubectl bridgewarden flows [OPTIONS]"), "{}", ran.out);
    let missing = Command::new(&link).args(["status", "--all"]).env("PATH", "/nowhere").output();
    let ran = Ran::of(missing.expect("the program runs"));
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("cannot start kubectl"), "{}", ran.error);
}
