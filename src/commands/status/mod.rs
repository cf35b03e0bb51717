//! `bridgewarden status`: what an agent holds, and whether that is in force.

mod cluster;
mod text;

pub(super) use cluster::{answered, question};

use super::agent_socket;
use super::agents::AgentFlags;
use super::flags::STATUS_SOCKET;
use super::policy_name::PolicyName;
use crate::commands::API_VERSION;
use crate::status::{AgentStatus, StatusQuestion};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints what the agent of this node holds: whether it is ready, and which version of each policy the kernel enforces.
///
/// Exit codes: 0 the agent is ready, 1 it is not, 2 it does not answer. Of several agents, the highest counts.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print this policy only: NAMESPACE/NAME
    #[arg(long, value_name = "POLICY")]
    policy: Option<PolicyName>,
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
        if self.agents.are_given() {
            return self.ask_agents(out);
        }
        let status = agent_socket::ask(&self.socket, &self.question())?;
        match self.output {
            StatusFormat::Text => text::print(&status, out),
            StatusFormat::Json => writeln!(out, "{:#}", document(&status)),
        }
        .context("cannot print the status")?;
        Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn question(&self) -> StatusQuestion {
        self.policy.as_ref().map_or(StatusQuestion::All, PolicyName::question)
    }
}

/// The status for programs, as docs/status.md describes it.
fn document(status: &AgentStatus) -> Value {
    let mut document = json!({ "apiVersion": API_VERSION, "kind": "AgentStatus" });
    if let (Value::Object(all), Ok(Value::Object(own))) = (&mut document, serde_json::to_value(status)) {
        all.extend(own);
    }
    document
}
