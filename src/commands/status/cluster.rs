//! The status of the agents of several nodes.

use super::text::{aligned, notes, row, version};
use super::{Status, StatusFormat, document};
use crate::commands::agents::{AgentPlace, INTERRUPTED, NodeAnswer, report_silent, until_signal};
use crate::commands::flags::STATUS_SOCKET;
use crate::commands::policy_name::PolicyName;
use crate::status::{AgentStatus, PolicyState};
use anyhow::{Context, Result};
use std::io::Write;
use std::process::ExitCode;

impl Status {
    /// Asks the agents that the flags mean, and prints what each says.
    pub(super) fn ask_agents(&self, out: &mut impl Write) -> Result<ExitCode> {
        let kubectl = self.agents.kubectl();
        let asked = until_signal(async {
            let agents = self.agents.choice.find(&kubectl).await?;
            let words = |place: &AgentPlace| question(place, self.policy.as_ref());
            Ok(self.agents.choice.ask(&kubectl, agents, self.agents.choice.patience(), words).await)
        })?;
        let Some(answers) = asked else { return Ok(ExitCode::from(INTERRUPTED)) };
        let mut statuses = Vec::new();
        let mut is_whole = true;
        for answer in answers {
            match answered(&answer) {
                Ok(status) => statuses.push(status),
                Err(why) => {
                    is_whole = false;
                    report_silent(&answer.node, &why);
                }
            }
        }
        match self.output {
            StatusFormat::Json => {
                statuses.iter().try_for_each(|status| writeln!(out, "{}", document(status)))
            }
            StatusFormat::Text => print(&statuses, self.policy.is_some(), out),
        }
        .context("cannot print the statuses")?;
        let is_known = statuses.is_empty() || self.is_known(&statuses);
        Ok(match (is_whole, is_known && statuses.iter().all(|status| status.ready)) {
            (false, _) => ExitCode::from(2),
            (true, false) => ExitCode::from(1),
            (true, true) => ExitCode::SUCCESS,
        })
    }
}

/// The command that asks an agent in its own container.
///
/// # Errors
/// The agent serves no status.
pub(in crate::commands) fn question(
    place: &AgentPlace,
    policy: Option<&PolicyName>,
) -> Result<Vec<String>, String> {
    let socket = place.socket("status-socket", STATUS_SOCKET)?;
    let words = ["status", "--output=json"].map(str::to_owned).into_iter();
    let policy = policy.map(|policy| format!("--policy={policy}"));
    Ok(words.chain([format!("--socket={socket}")]).chain(policy).collect())
}

/// The status in an agent's answer.
///
/// # Errors
/// Why there is none.
pub(in crate::commands) fn answered(answer: &NodeAnswer) -> Result<AgentStatus, String> {
    let finished = answer.answer.as_ref().map_err(Clone::clone)?;
    if finished.stdout.is_empty() {
        return Err(finished.complaint());
    }
    serde_json::from_slice(&finished.stdout)
        .map_err(|error| format!("cannot read its status: {error}; is the agent of another version?"))
}

/// Prints a table of the nodes; then one of a single policy, or of all that are not in force or in part not understood.
fn print(statuses: &[AgentStatus], of_one_policy: bool, out: &mut impl Write) -> std::io::Result<()> {
    let none = || "-".to_owned();
    let head = [
        "NODE",
        "READY",
        "VERSION",
        "BACKEND",
        "POLICIES",
        "PENDING",
        "PODS",
        "LAST SYNC",
        "LAST VERIFICATION",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for status in statuses {
        let count = |count: fn(&crate::status::AgentCounts) -> usize| {
            status.counts.as_ref().map_or_else(none, |counts| count(counts).to_string())
        };
        rows.push([
            status.node.clone(),
            if status.ready { "yes".to_owned() } else { "no".to_owned() },
            version(status),
            status.backend.clone(),
            count(|counts| counts.policies),
            count(|counts| counts.pending_policies),
            count(|counts| counts.local_pods),
            status.last_sync.clone().unwrap_or_else(none),
            status.last_verification.clone().unwrap_or_else(none),
        ]);
    }
    aligned(&rows).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    for status in statuses {
        for (check, problem) in status.problems() {
            writeln!(out, "{}: {check}: {problem}", status.node)?;
        }
    }
    let mut rows = vec![["NODE", "POLICY", "STATE", "KNOWN", "IN FORCE", "PODS"].map(str::to_owned)];
    let mut remarks = Vec::new();
    for status in statuses {
        for policy in status.policies.iter().flatten() {
            let notes = notes(policy);
            let is_in_order = policy.state == PolicyState::InForce && notes.is_empty();
            if is_in_order && !of_one_policy {
                continue;
            }
            let [name, state, known, in_force, pods] = row(policy);
            remarks.extend(notes.into_iter().map(|note| format!("{}: {name}: {note}", status.node)));
            rows.push([status.node.clone(), name, state, known, in_force, pods]);
        }
    }
    if rows.len() > 1 {
        writeln!(out)?;
        aligned(&rows).iter().chain(&remarks).try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(())
}
