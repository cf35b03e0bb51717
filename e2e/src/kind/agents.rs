//! Bridgewarden in the cluster, as its chart installed it.

use super::client::Client;
use super::node::KindNode;
use super::{PATIENCE, PAUSE, items, waits_for};
use crate::first_instant::Micros;
use crate::key::ObjectKey;
use crate::verb::AgentAct;
use anyhow::{Context, Result, ensure};
use bridgewarden::flow::Record;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;
use support::http;

/// Where the chart is installed, and under which name.
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const RELEASE: &str = "bridgewarden";
const DAEMON_SET: &str = "daemonset/bridgewarden";
const LABEL: &str = "app.kubernetes.io/name=bridgewarden";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/bridgewarden");
/// What an agent logs once after its start, when the kernel holds the rules of all policies.
const ENFORCES: &str = "enforcing: the kernel holds the rules of all policies";
/// What an agent logs at its start on a kernel without rules.
const DENIES: &str = "the kernel has no rules: all traffic of pods is denied until rules are in force";
/// The address of its metrics on its node.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);
/// The beginning of the line with a count of dropped frames.
const DROPPED: &str = "bridgewarden_dropped_frames_total{reason=\"";
/// The command line of its processes on a node.
const PROCESS: &str = "^/usr/local/bin/bridgewarden run";

/// Waits until all agents are ready.
pub(super) fn are_ready(client: &Client) -> Result<()> {
    client
        .kubectl(&["-n", NAMESPACE, "rollout", "status", DAEMON_SET, "--timeout=120s"])
        .map(drop)
        .context("Bridgewarden is not ready in the cluster: e2e/run installs it")
}

/// Restarts, kills, stops or starts them, and waits until that is done.
pub(super) fn act<'n>(
    client: &Client,
    nodes: impl IntoIterator<Item = &'n KindNode>,
    act: AgentAct,
) -> Result<()> {
    match act {
        AgentAct::Restart => {
            client.kubectl(&["-n", NAMESPACE, "rollout", "restart", DAEMON_SET])?;
            are_ready(client)
        }
        AgentAct::Kill => kill(client, nodes),
        AgentAct::Stop => {
            select_nodes(client, r#"{"bridgewarden.test/stopped": "true"}"#)?;
            let start = Instant::now();
            while items(&pods(client)?).next().is_some() {
                ensure!(start.elapsed() < PATIENCE, "agents do not end within {PATIENCE:?}");
                std::thread::sleep(PAUSE);
            }
            Ok(())
        }
        AgentAct::Start => {
            select_nodes(client, r#"{"bridgewarden.test/stopped": null}"#)?;
            upgrade(client, "cleanup.enabled=false")?;
            are_ready(client)
        }
        AgentAct::Cleanup => {
            upgrade(client, "cleanup.enabled=true")?;
            are_ready(client)
        }
    }
}

/// Writes their logs.
pub(super) fn dump(client: &Client, directory: &Path) -> Result<()> {
    for pod in items(&pods(client)?) {
        let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
        for (ending, more) in [("log", &[][..]), ("previous.log", &["--previous"])] {
            let words = [&["-n", NAMESPACE, "logs", name][..], more].concat();
            let said = client.kubectl(&words).unwrap_or_else(|error| format!("{error:#}\n"));
            fs::write(directory.join(format!("{name}.{ending}")), said)?;
        }
    }
    Ok(())
}

/// Kills them on all nodes at once; the kubelets start new ones.
fn kill<'n>(client: &Client, nodes: impl IntoIterator<Item = &'n KindNode>) -> Result<()> {
    let before = restarts(client)?;
    for node in nodes {
        node.run(client, &["pkill", "-KILL", "-f", PROCESS]).context("no agent to kill")?;
    }
    let start = Instant::now();
    while restarts(client)? < before + 2 {
        ensure!(start.elapsed() < PATIENCE, "agents do not come back within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
    are_ready(client)
}

/// How often all of them together were restarted.
fn restarts(client: &Client) -> Result<u64> {
    let pods = pods(client)?;
    let containers = items(&pods).flat_map(|pod| pod["status"]["containerStatuses"].as_array());
    Ok(containers.flatten().filter_map(|container| container["restartCount"].as_u64()).sum())
}

fn pods(client: &Client) -> Result<Value> {
    client.get(&["-n", NAMESPACE, "pods", "-l", LABEL])
}

/// The name of the pod of a node's agent.
pub(super) fn pod_on(client: &Client, node: &KindNode) -> Result<String> {
    let place = format!("--field-selector=spec.nodeName={}", node.name);
    let listed = client.get(&["-n", NAMESPACE, "pods", "-l", LABEL, &place])?;
    let name = items(&listed).find_map(|pod| pod["metadata"]["name"].as_str());
    name.map(str::to_owned).with_context(|| format!("node {} has no agent", node.name))
}

/// When a node's agent first logged after `after` that policies are enforced.
pub(super) fn first_enforced(client: &Client, node: &KindNode, after: Micros) -> Result<Micros> {
    let pod = pod_on(client, node)?;
    let mut first = None;
    // The kubelet, which serves the log, may still be starting.
    waits_for(&format!("agent {pod} on {} has logged {ENFORCES:?}", node.name), || {
        first = first_logged(client, &pod, after, ENFORCES).unwrap_or_default();
        Ok(first.is_some())
    })?;
    first.with_context(|| format!("agent {pod} on {} has not logged {ENFORCES:?}", node.name))
}

/// When a node's agent, which has logged since that policies are enforced, first logged after `after` that it denies all traffic of pods.
pub(super) fn first_denied(client: &Client, node: &KindNode, after: Micros) -> Result<Option<Micros>> {
    first_logged(client, &pod_on(client, node)?, after, DENIES)
}

/// When an agent first logged this message after `after`.
fn first_logged(client: &Client, pod: &str, after: Micros, message: &str) -> Result<Option<Micros>> {
    let log = client.kubectl(&["-n", NAMESPACE, "logs", pod])?;
    Ok(log.lines().filter_map(|line| logged_at(line, message)).find(|at| *at > after))
}

/// The time of a log line, if it has this message.
fn logged_at(line: &str, message: &str) -> Option<Micros> {
    let line: Value = serde_json::from_str(line).ok().filter(|line: &Value| line["message"] == message)?;
    let at: jiff::Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    u64::try_from(at.as_microsecond()).ok()
}

/// Changes the labels that a node must have to get an agent.
fn select_nodes(client: &Client, labels: &str) -> Result<()> {
    let patch = format!(r#"{{"spec": {{"template": {{"spec": {{"nodeSelector": {labels}}}}}}}}}"#);
    client.kubectl(&["-n", NAMESPACE, "patch", DAEMON_SET, "--type=merge", "-p", &patch]).map(drop)
}

/// Installs them with or without the options that isolate a pod before the API reports it.
pub(super) fn guard(client: &Client, guarded: bool) -> Result<()> {
    // Without CNI results, the rules of unknown pods are those of their ports of the bridge.
    let values = if guarded {
        "cniResultsDir=/var/lib/cni/results,unknownPods=reject"
    } else {
        "cniResultsDir=,unknownPods=allow"
    };
    upgrade(client, values)?;
    are_ready(client)
}

/// Installs them with or without binding pods to their ports of the bridge.
pub(super) fn bind(client: &Client, bound: bool) -> Result<()> {
    upgrade(client, if bound { "bindAddresses=on" } else { "bindAddresses=off" })?;
    are_ready(client)
}

/// Gives the right to ask all agents to this service account alone, or to none.
pub(super) fn admit(client: &Client, account: Option<&ObjectKey>) -> Result<()> {
    let subjects: Vec<Value> = account
        .map(|ObjectKey { namespace, name }| json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        .into_iter()
        .collect();
    let value = format!("rbac.operators={}", Value::from(subjects));
    reinstall(client, &["--set-json", &value])
}

/// How many frames a node's agent has counted as dropped at ports of the bridge, by reason.
pub(super) fn dropped_frames(node: &KindNode) -> Result<BTreeMap<String, f64>> {
    let answer = http::get(&node.namespace, METRICS, "/metrics", PATIENCE)?;
    ensure!(
        answer.status == 200,
        "the agent of node {} answers {} for its metrics",
        node.name,
        answer.status
    );
    let counts = answer.body.lines().filter_map(|line| {
        let (reason, count) = line.strip_prefix(DROPPED)?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().ok()?))
    });
    Ok(counts.collect())
}

/// The denied flows that a node's agent reports.
pub(super) fn flows(client: &Client, node: &KindNode) -> Result<Vec<Record>> {
    let pod = pod_on(client, node)?;
    let words = ["-n", NAMESPACE, "exec", &pod, "--", "bridgewarden", "flows", "-o", "json"];
    let said = client.kubectl(&words)?;
    let records = said.lines().map(|line| {
        serde_json::from_str(line)
            .with_context(|| format!("agent {pod} reported an unreadable flow {line:?}"))
    });
    records.collect()
}

/// Reinstalls them with a changed value.
fn upgrade(client: &Client, value: &str) -> Result<()> {
    reinstall(client, &["--set", value])
}

fn reinstall(client: &Client, change: &[&str]) -> Result<()> {
    let words = ["upgrade", RELEASE, CHART, "-n", NAMESPACE, "--reuse-values"];
    client.run(client.setting("HELM")?, &[&words, change].concat(), "").map(drop)
}
