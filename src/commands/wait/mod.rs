//! `bridgewarden wait`: waits until a version of a policy is in force.

mod cluster;
mod goal;

use super::agent_socket;
use super::agents::AgentFlags;
use super::duration::WaitTime;
use super::flags::STATUS_SOCKET;
use super::policy_name::PolicyName;
use crate::status::AgentStatus;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use goal::{Goal, WantedVersion};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long to wait before the agent is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the kernel of this node enforces a NetworkPolicy as the agent knows it; with --all, until the kernels of all nodes
/// enforce it as the API server has it.
///
/// Exit codes: 0 it is in force, 1 it was not before the timeout, 2 that could not be found out.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The policy: networkpolicy/NAMESPACE/NAME, or NAMESPACE/NAME
    #[arg(value_name = "POLICY")]
    policy: PolicyName,
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT", value_enum, default_value_t)]
    what: AwaitedState,
    /// Give up after this time, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: WaitTime,
    /// Wait for the policy with this metadata.uid
    #[arg(long, value_name = "UID", conflicts_with_all = ["all", "node"])]
    uid: Option<String>,
    /// Wait for this metadata.generation or a later one. Without it, for what the agent has received
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["all", "node"])]
    generation: Option<i64>,
    /// Wait for this metadata.resourceVersion, or a later generation
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["all", "node"])]
    resource_version: Option<String>,
    /// Connect to the agent at this Unix socket
    #[arg(long, value_name = "PATH", default_value = STATUS_SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    agents: AgentFlags,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AwaitedState {
    /// The policy is in force
    #[default]
    InForce,
    /// The policy was deleted, and nothing of it is in force any more
    Delete,
}

impl Wait {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if self.agents.are_given() {
            return self.ask_agents(out);
        }
        let goal = self.goal();
        let (policy, question, end) = (&self.policy, self.policy.question(), Instant::now() + self.timeout.0);
        let mut first = true;
        loop {
            let why = match agent_socket::ask::<AgentStatus>(&self.socket, &question) {
                Ok(status) => match goal.reached(&status) {
                    Ok(reached) => {
                        let what = goal.outcome();
                        let pods = reached.pods;
                        writeln!(
                            out,
                            "networkpolicy/{policy} {what} on {}; pods that it selects there: {pods}",
                            status.node
                        )
                        .context("cannot print the result")?;
                        return Ok(ExitCode::SUCCESS);
                    }
                    Err(why) => format!("{}: {why}", status.node),
                },
                Err(error) if first => return Err(error),
                // It may have been restarted.
                Err(error) => format!("{error:#}"),
            };
            first = false;
            if Instant::now() >= end {
                writeln!(out, "timed out after {}: networkpolicy/{policy}\n  {why}", self.timeout)
                    .context("cannot print the result")?;
                return Ok(ExitCode::from(1));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn goal(&self) -> Goal {
        match self.what {
            AwaitedState::Delete => Goal::Deleted,
            AwaitedState::InForce => Goal::InForce(WantedVersion {
                uid: self.uid.clone(),
                generation: self.generation,
                resource_version: self.resource_version.clone(),
            }),
        }
    }
}
