//! The verification of several nodes: each agent's container verifies its own.

use super::{Verify, VerifyFormat};
use crate::commands::agents::{AgentPlace, INTERRUPTED, KubectlOutput, report_silent, until_signal};
use crate::commands::progress::ProgressDisplay;
use anyhow::{Context, Result};
use clap::{Args, Command};
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

/// Flags of `verify` that an agent has under the same name and for another purpose, or that are given here.
const OWN: [&str; 4] = ["kubeconfig", "manifests", "node-name", "output"];

impl Verify {
    /// Lets the agents that the flags mean verify their nodes, and prints what each finds.
    pub(super) fn ask_agents(&self, out: &mut impl Write) -> Result<ExitCode> {
        let kubectl = self.agents.kubectl();
        let flags = shared_flags();
        let format = match self.output {
            VerifyFormat::Text => "text",
            VerifyFormat::Json => "json",
        };
        let progress = ProgressDisplay::begin("waiting for the agents");
        let asked = until_signal(async {
            let agents = self.agents.choice.find(&kubectl).await?;
            let words = |place: &AgentPlace| Ok(words(place, &flags, format));
            Ok(self.agents.choice.ask(&kubectl, agents, self.agents.choice.patience(), words).await)
        })?;
        drop(progress);
        let Some(answers) = asked else { return Ok(ExitCode::from(INTERRUPTED)) };
        let mut worst = 0;
        for answer in answers {
            let code = match answer.answer.and_then(found) {
                Ok((code, text)) => {
                    self.print_of_node(&answer.node, &text, out).context("cannot print the result")?;
                    code
                }
                Err(why) => {
                    report_silent(&answer.node, &why);
                    2
                }
            };
            worst = worst.max(code);
        }
        Ok(ExitCode::from(worst))
    }

    /// A JSON object becomes one line; it names its node.
    fn print_of_node(&self, node: &str, text: &str, out: &mut impl Write) -> std::io::Result<()> {
        match (self.output, serde_json::from_str::<Value>(text)) {
            (VerifyFormat::Json, Ok(object)) => writeln!(out, "{object}"),
            (VerifyFormat::Json, Err(_)) | (VerifyFormat::Text, _) => {
                text.lines().try_for_each(|line| writeln!(out, "{node}: {line}"))
            }
        }
    }
}

/// The exit code of a verification, and what it printed.
///
/// # Errors
/// There was none: it prints something whatever it finds.
fn found(finished: KubectlOutput) -> Result<(u8, String), String> {
    let code = finished.code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 2);
    match code {
        Some(code) if !finished.stdout.is_empty() => {
            Ok((code, String::from_utf8_lossy(&finished.stdout).into_owned()))
        }
        Some(_) | None => Err(finished.complaint()),
    }
}

/// The flags that `verify` has in common with the agent: they say what the agent's rules are like.
fn shared_flags() -> Vec<String> {
    let own = Verify::augment_args(Command::new("verify"));
    let names = own.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned));
    names.filter(|name| !OWN.contains(&name.as_str())).collect()
}

/// The command for an agent's container, with the flags with which the agent runs. The variables of the container name its node.
fn words(place: &AgentPlace, flags: &[String], format: &str) -> Vec<String> {
    let given = flags.iter().filter_map(|name| Some(format!("--{name}={}", place.flag(name)?)));
    ["verify".to_owned(), format!("--output={format}")].into_iter().chain(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_verified_with_the_flags_of_its_agent_and_no_others() {
        let arguments = [
            "run",
            "--backend=nftables",
            "--mark=0x2",
            "--flows-socket=/s",
            "--kubeconfig=/k",
            "--on-revoke",
            "keep",
            "--cni-results-dir=",
        ];
        let place = AgentPlace { pod: "a".into(), arguments: arguments.map(str::to_owned).into() };
        let mut words = words(&place, &shared_flags(), "json");
        words.sort();
        let wanted = [
            "--backend=nftables",
            "--cni-results-dir=",
            "--mark=0x2",
            "--on-revoke=keep",
            "--output=json",
            "verify",
        ];
        assert_eq!(words, wanted);
    }

    #[test]
    fn verification_that_printed_nothing_is_no_answer() {
        let finished = |code, stdout: &str, stderr: &str| KubectlOutput {
            code,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        assert_eq!(found(finished(Some(1), "it differs\n", "")), Ok((1, "it differs\n".to_owned())));
        assert_eq!(found(finished(Some(1), "", "no pod\n")), Err("no pod".to_owned()));
        assert!(found(finished(Some(137), "it dif", "killed")).is_err());
        assert!(found(finished(None, "", "")).is_err());
    }
}
