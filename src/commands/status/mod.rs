//! `bridgewarden status`: what an agent holds, and whether that is in force.

mod cluster;
mod text;

pub(super) use cluster::{answered, question};

use super::agent_socket;
use super::agents::{AgentFlags, INTERRUPTED, report_silent};
use super::connections;
use super::flags::STATUS_SOCKET;
use super::policy_name::PolicyName;
use crate::commands::API_VERSION;
use crate::status::{AgentStatus, StatusQuestion};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints what the agent of this node holds: whether it is ready, and which version of each policy the kernel enforces.
///
/// Exit codes: 0 the agent is ready, 1 it is not or does not know the policy, 2 it does not answer. Of several agents, the highest counts.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print this policy only: NAMESPACE/NAME
    #[arg(long, value_name = "POLICY")]
    policy: Option<PolicyName>,
    /// Print the live connections of this node's pods instead, as the kernel tracks them: those that differ in the source's port alone
    /// share a line
    #[arg(long, conflicts_with = "policy")]
    connections: bool,
    /// Print in this format
    #[arg(short, long, value_enum, default_value_t)]
    output: StatusFormat,
    /// Connect to the agent at this Unix socket
    #[arg(long, value_name = "PATH", default_value = STATUS_SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    agents: AgentFlags,
}

/// How a status is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Status {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if self.connections {
            return self.print_connections(out);
        }
        if self.agents.are_given() {
            return self.ask_agents(out);
        }
        let status: AgentStatus = agent_socket::ask(&self.socket, &self.question())?;
        match self.output {
            StatusFormat::Text => text::print(&status, out),
            StatusFormat::Json => writeln!(out, "{:#}", document(&status)),
        }
        .context("cannot print the status")?;
        let is_known = self.is_known([&status]);
        Ok(if status.ready && is_known { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    /// Whether one of these agents knows the policy that is asked about, if one is; says so if none does.
    fn is_known<'s>(&self, statuses: impl IntoIterator<Item = &'s AgentStatus>) -> bool {
        let Some(policy) = &self.policy else { return true };
        // An agent without its first complete lists says so itself.
        let mut statuses = statuses.into_iter();
        let is_known =
            statuses.any(|status| status.policies.as_ref().is_none_or(|policies| !policies.is_empty()));
        if !is_known {
            let _ =
                writeln!(std::io::stderr(), "bridgewarden: networkpolicy/{policy} is not known to the agent");
        }
        is_known
    }

    fn print_connections(&self, out: &mut impl Write) -> Result<ExitCode> {
        let answers = match self.agents.are_given() {
            true => connections::of_nodes(&self.agents.choice, &self.agents.kubectl())?,
            false => Some(connections::of_this_node(&self.socket)?),
        };
        let Some(answers) = answers else { return Ok(ExitCode::from(INTERRUPTED)) };
        answers.silent.iter().for_each(|(node, why)| report_silent(node, why));
        for node in &answers.nodes {
            match self.output {
                StatusFormat::Json => writeln!(out, "{}", tagged("LiveConnections", node)),
                StatusFormat::Text => text::print_connections(node, self.agents.are_given(), out),
            }
            .context("cannot print the connections")?;
        }
        Ok(if answers.silent.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }

    fn question(&self) -> StatusQuestion {
        self.policy.as_ref().map_or(StatusQuestion::All, PolicyName::question)
    }
}

/// The status for programs, as docs/status.md describes it.
fn document(status: &AgentStatus) -> Value {
    tagged("AgentStatus", status)
}

/// An object for programs, with its version and kind.
fn tagged(kind: &str, object: &impl Serialize) -> Value {
    let mut document = json!({ "apiVersion": API_VERSION, "kind": kind });
    if let (Value::Object(all), Ok(Value::Object(own))) = (&mut document, serde_json::to_value(object)) {
        all.extend(own);
    }
    document
}
