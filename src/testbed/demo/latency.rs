//! The latency of an edit: from the moment a policy's file exists until a real connection is denied.

use super::cluster::DemoCluster;
use super::dir::DemoDir;
use super::question::{Finding, ProbedConnection, short};
use super::stop::Stop;
use crate::api::Namespace;
use crate::explain::oracle::{Ruling, World};
use crate::net::Protocol;
use crate::source::parse_manifests;
use crate::testbed::{Endpoint, ProbeOutcome, Testbed};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the edit is made and undone.
const ROUNDS: usize = 5;
/// Before each edit, so that the agents have nothing left to do.
const IDLE: Duration = Duration::from_millis(100);
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(1);
/// How long an edit may take.
const LONGEST: Duration = Duration::from_secs(5);
/// The file and the policy that are created and removed.
const FILE: &str = "bridgewarden-demo-latency.yaml";
const NAME: &str = "bridgewarden-demo-latency";

/// An open connection, and a policy that ends it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LatencyTest {
    connection: ProbedConnection,
    /// The node that both ends are on, if they are on one.
    node: Option<String>,
    policy: String,
}

impl LatencyTest {
    /// Picks an open TCP connection between two pods that is denied once its destination is isolated. Prefers one
    /// within a node, where only one agent is involved.
    pub(super) fn choose(cluster: &DemoCluster, findings: &[Finding]) -> Option<LatencyTest> {
        let node_of = |endpoint: &Endpoint| match endpoint {
            Endpoint::Pod(pod) => {
                cluster.places.iter().find(|place| place.pod == *pod).map(|place| &place.node)
            }
            Endpoint::Node(_) | Endpoint::Outside => None,
        };
        let mut worlds: BTreeMap<&Endpoint, Option<(String, World)>> = BTreeMap::new();
        let mut best = None;
        for finding in findings.iter().filter(|finding| finding.measured == ProbeOutcome::Open) {
            let connection = &finding.question.connection;
            let (from, to) = (node_of(&connection.from), node_of(&connection.to));
            let is_candidate = connection.protocol == Protocol::Tcp
                && finding.question.expected == Ruling::Allowed
                && from.is_some()
                && to.is_some();
            let node = from.filter(|_| from == to).cloned();
            if !is_candidate || (best.is_some() && node.is_none()) {
                continue;
            }
            let isolated =
                worlds.entry(&connection.to).or_insert_with(|| isolate(&cluster.world, &connection.to));
            let Some((policy, world)) = isolated else { continue };
            if let Ok(Ruling::Denied { .. }) = connection.verdict(world) {
                let is_local = node.is_some();
                best = Some(LatencyTest { connection: connection.clone(), node, policy: policy.clone() });
                if is_local {
                    break;
                }
            }
        }
        best
    }

    /// Makes the edit and undoes it, repeatedly.
    ///
    /// # Errors
    /// The files cannot be written, or the demo is stopped.
    pub(super) fn run(
        self,
        testbed: &Testbed,
        dir: &DemoDir,
        stop: &Stop,
    ) -> Result<Result<EditLatency, Late>> {
        let (mut until_refused, mut until_open) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            stop.sleep(IDLE)?;
            let edited = Instant::now();
            dir.publish_file(Path::new(FILE), self.policy.as_bytes())?;
            let refused = self.wait(testbed, &ProbeOutcome::Refused, edited, stop);
            // The file is removed even if the demo is stopped here.
            std::thread::sleep(IDLE);
            let removed = Instant::now();
            dir.withdraw(Path::new(FILE))?;
            until_refused.extend(refused?);
            until_open.extend(self.wait(testbed, &ProbeOutcome::Open, removed, stop)?);
        }
        if until_refused.len() < ROUNDS || until_open.len() < ROUNDS {
            return Ok(Err(Late(self.connection)));
        }
        Ok(Ok(EditLatency { connection: self.connection, node: self.node, until_refused, until_open }))
    }

    /// Probes until the outcome is as expected; returns how long after `since` that was, or `None` if it took too long.
    fn wait(
        &self,
        testbed: &Testbed,
        wanted: &ProbeOutcome,
        since: Instant,
        stop: &Stop,
    ) -> Result<Option<Duration>> {
        let probe = self.connection.probe();
        while since.elapsed() < LONGEST {
            if testbed.probe(&probe) == *wanted {
                return Ok(Some(since.elapsed()));
            }
            stop.sleep(PROBE_EVERY).context("while the latency was measured")?;
        }
        Ok(None)
    }
}

/// A policy that isolates a pod for ingress, and the world with this policy.
fn isolate(world: &World, pod: &Endpoint) -> Option<(String, World)> {
    let Endpoint::Pod(key) = pod else { return None };
    // In a terminating namespace, pods stay isolated after their policy is deleted.
    if world.namespaces.iter().any(|other| other.metadata.name == key.namespace.as_str() && terminates(other))
    {
        return None;
    }
    let is_it = |other: &&crate::api::Pod| {
        other.metadata.name == *key.name
            && other.metadata.namespace.as_deref().unwrap_or("default") == key.namespace.as_str()
    };
    let labels = world.pods.iter().find(is_it)?.metadata.labels.clone().unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key:?}: {value:?}")).collect();
    let policy = format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata: {{name: {NAME}, namespace: {}}}\n\
         spec: {{podSelector: {{matchLabels: {{{}}}}}, policyTypes: [Ingress]}}\n",
        key.namespace,
        labels.join(", "),
    );
    let mut world = world.clone();
    world.policies.push(parse_manifests(FILE, &policy).ok()?.policies.pop()?.written);
    Some((policy, world))
}

fn terminates(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        || namespace.status.phase.as_deref() == Some("Terminating")
}

/// An edit was not enforced in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Late(ProbedConnection);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a policy edit was not enforced within {} s at {}", LONGEST.as_secs(), self.0)
    }
}

/// How long edits took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EditLatency {
    connection: ProbedConnection,
    node: Option<String>,
    until_refused: Vec<Duration>,
    until_open: Vec<Duration>,
}

impl fmt::Display for EditLatency {
    /// Four lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.connection;
        writeln!(f, "policy edit → first refused connection: {}", Spread(&self.until_refused))?;
        writeln!(f, "policy gone → first open connection:    {}", Spread(&self.until_open))?;
        let (from, to) = (short(&connection.from), short(&connection.to));
        write!(f, "measured at {from} → {to}:{}/{}", connection.port, connection.protocol)?;
        match &self.node {
            Some(node) => writeln!(f, ", both on {node}, with a probe every millisecond.")?,
            None => writeln!(f, ", on two nodes, with a probe every millisecond.")?,
        }
        f.write_str(
            "Included: noticing the file, parsing, compiling, writing the rules, and the probe itself.",
        )
    }
}

/// Formats durations as their median, followed by all of them.
struct Spread<'a>(&'a [Duration]);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.to_vec();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let all: Vec<String> = sorted.iter().map(|time| time.as_millis().to_string()).collect();
        write!(f, "{} ms (median of {})", median.as_millis(), all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::demo::question::tests::{TWO, cluster, findings};

    #[test]
    fn connection_is_chosen_that_an_isolating_policy_ends() {
        let test = LatencyTest::choose(&cluster(TWO), &findings(TWO)).unwrap();
        assert_eq!(test.connection.to_string(), "shop/db → shop/web:80/TCP over IPv4");
        assert_eq!(test.node.as_deref(), Some("a"));
        assert!(test.policy.contains(r#"matchLabels: {"app": "web"}"#), "{}", test.policy);
    }

    #[test]
    fn connection_that_another_policy_allows_is_not_chosen() {
        let everyone = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: everyone, namespace: shop}
spec: {podSelector: {}, ingress: [{}]}
";
        let text = format!("{TWO}{everyone}");
        assert_eq!(LatencyTest::choose(&cluster(&text), &findings(&text)), None);
    }

    #[test]
    fn connection_into_a_namespace_that_terminates_is_not_chosen() {
        let dying = "
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
status: {phase: Terminating}
";
        let text = format!("{TWO}{dying}");
        assert_eq!(LatencyTest::choose(&cluster(&text), &findings(&text)), None);
    }

    #[test]
    fn connection_that_was_not_open_is_not_chosen() {
        let mut findings = findings(TWO);
        findings.iter_mut().for_each(|finding| finding.measured = ProbeOutcome::Refused);
        assert_eq!(LatencyTest::choose(&cluster(TWO), &findings), None);
    }

    #[test]
    fn latency_says_the_median_and_what_it_includes() {
        let times = |all: [u64; 5]| all.map(Duration::from_millis).to_vec();
        let connection = findings(TWO).remove(5).question.connection;
        let latency = EditLatency {
            connection,
            node: Some("a".to_owned()),
            until_refused: times([30, 23, 21, 25, 22]),
            until_open: times([9, 9, 9, 9, 9]),
        };
        assert_eq!(
            latency.to_string(),
            "policy edit → first refused connection: 23 ms (median of 21, 22, 23, 25, 30)\n\
             policy gone → first open connection:    9 ms (median of 9, 9, 9, 9, 9)\n\
             measured at shop/db → shop/web:80/TCP, both on a, with a probe every millisecond.\n\
             Included: noticing the file, parsing, compiling, writing the rules, and the probe itself."
        );
    }
}
