//! Waits for the agents of several nodes.

use super::goal::{Goal, Reached, WantedVersion};
use super::{AwaitedState, Wait};
use crate::commands::agents::{AgentPlace, AgentPod, INTERRUPTED, Kubectl, until_signal};
use crate::commands::status::{answered, question};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long to wait before the nodes that lack the policy are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the API server may take to send the policy.
const GET_LIMIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct PolicyObject {
    metadata: WantedVersion,
}

/// How the nodes stand, each with what it has or why it does not.
struct Standings {
    goal: Goal,
    nodes: BTreeMap<String, Result<Reached, String>>,
}

impl Wait {
    /// Waits for the agents that the flags mean.
    pub(super) fn ask_agents(&self, out: &mut impl Write) -> Result<ExitCode> {
        let kubectl = self.agents.kubectl();
        let Some((is_reached, standings)) = until_signal(self.await_agents(&kubectl))? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        self.print(is_reached, &standings, out).context("cannot print the result")?;
        Ok(ExitCode::from(u8::from(!is_reached)))
    }

    fn print(&self, is_reached: bool, standings: &Standings, out: &mut impl Write) -> std::io::Result<()> {
        let Standings { goal, nodes } = standings;
        let (policy, what) = (&self.policy, goal.outcome());
        let all = nodes.len();
        let reached: Vec<&Reached> = nodes.values().flatten().collect();
        let selects = reached.iter().filter(|node| node.pods > 0).count();
        if is_reached {
            return match goal {
                Goal::InForce(_) => {
                    writeln!(
                        out,
                        "networkpolicy/{policy} {what} on {all} nodes; pods that it selects are on {selects} of them"
                    )
                }
                Goal::Deleted => writeln!(out, "networkpolicy/{policy} {what} on {all} nodes"),
            };
        }
        writeln!(
            out,
            "timed out after {}: networkpolicy/{policy} {what} on {} of {all} nodes",
            self.timeout,
            reached.len()
        )?;
        let lacking = nodes.iter().filter_map(|(node, standing)| Some((node, standing.as_ref().err()?)));
        lacking.into_iter().try_for_each(|(node, why)| writeln!(out, "  {node}: {why}"))
    }

    /// Asks until all nodes have what is waited for, or the time is over. What that is may change meanwhile, and so may the nodes.
    async fn await_agents(&self, kubectl: &Kubectl) -> Result<(bool, Standings)> {
        let end = Instant::now() + self.timeout.0;
        let mut standings: Option<Standings> = None;
        loop {
            let (goal, exists) = self.goal_in_cluster(kubectl).await?;
            let agents = self.agents.choice.find(kubectl).await?;
            let known = standings.take().filter(|known| known.goal == goal);
            let mut nodes = known.map(|known| known.nodes).unwrap_or_default();
            nodes.retain(|node, standing| standing.is_ok() && agents.iter().any(|agent| agent.node == *node));
            let lacking: Vec<AgentPod> =
                agents.into_iter().filter(|agent| !nodes.contains_key(&agent.node)).collect();
            if exists && goal == Goal::Deleted {
                let why = || Err("it still exists".to_owned());
                nodes.extend(lacking.into_iter().map(|agent| (agent.node, why())));
            } else {
                let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
                let patience = self.agents.choice.patience().min(left);
                let words = |place: &AgentPlace| question(place, Some(&self.policy));
                let answers = self.agents.choice.ask(kubectl, lacking, patience, words).await;
                nodes.extend(answers.into_iter().map(|answer| {
                    let silent = |why: String| format!("no answer: {why}");
                    let standing = answered(&answer).map_err(silent).and_then(|status| goal.reached(&status));
                    (answer.node, standing)
                }));
            }
            let is_reached = nodes.values().all(Result::is_ok);
            let now = Standings { goal, nodes };
            if is_reached || Instant::now() >= end {
                return Ok((is_reached, now));
            }
            standings = Some(now);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What to wait for, as the API server has it, and whether the policy exists.
    async fn goal_in_cluster(&self, kubectl: &Kubectl) -> Result<(Goal, bool)> {
        let policy = &self.policy;
        let what = || format!("cannot get networkpolicy {policy}");
        let words = [
            "get",
            "networkpolicies.networking.k8s.io",
            &policy.name,
            "--namespace",
            &policy.namespace,
            "--ignore-not-found",
            "--output",
            "json",
        ];
        let found = kubectl.get(&words, GET_LIMIT).await.with_context(what)?;
        let exists = !found.trim_ascii().is_empty();
        match self.what {
            AwaitedState::Delete => Ok((Goal::Deleted, exists)),
            AwaitedState::InForce if exists => {
                let object: PolicyObject = serde_json::from_slice(&found).with_context(what)?;
                Ok((Goal::InForce(object.metadata), true))
            }
            AwaitedState::InForce => {
                bail!(
                    "there is no networkpolicy {policy}; to wait until a deletion is in force, use --for=delete"
                )
            }
        }
    }
}
