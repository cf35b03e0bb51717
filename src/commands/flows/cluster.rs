//! The denied flows of several nodes.

use super::families::FamilyPairs;
use super::{FlowFormat, Flows, unread};
use crate::commands::agents::{
    AgentPlace, AgentPod, INTERRUPTED, Kubectl, KubectlOutput, not_started, report_silent, until_signal,
};
use crate::commands::flags::FLOWS_SOCKET;
use crate::flow::Record;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// How many nodes can be followed: each takes a kubectl for as long as it goes on.
const FOLLOWED: usize = 128;
/// How many lines may wait to be printed.
const QUEUE: usize = 1024;
/// The most of a kubectl's complaint that is read.
const LONGEST_COMPLAINT: u64 = 64 << 10;

/// What arrives from a node that is followed.
enum FromNode {
    Line(String),
    /// It ended, and why.
    Ended(String),
}

impl Flows {
    /// Asks the agents that the flags mean, and prints the flows of all of them: first those that are kept, the oldest first; or
    /// all as they come.
    pub(super) fn ask_agents(&self, out: &mut impl Write) -> Result<ExitCode> {
        let kubectl = self.agents.kubectl();
        let done = match self.follow {
            true => until_signal(self.follow_agents(&kubectl, out))?,
            false => until_signal(self.kept_of_agents(&kubectl, out))?,
        };
        Ok(done.unwrap_or(ExitCode::from(INTERRUPTED)))
    }

    async fn kept_of_agents(&self, kubectl: &Kubectl, out: &mut impl Write) -> Result<ExitCode> {
        let asked = Timestamp::now();
        let agents = self.agents.choice.find(kubectl).await?;
        let width = width(&agents);
        let answers = self
            .agents
            .choice
            .ask(kubectl, agents, self.agents.choice.patience(), |place| words(place, false))
            .await;
        let mut is_whole = true;
        let mut flows: Vec<(Record, String)> = Vec::new();
        for answer in answers {
            match answer.answer.and_then(|finished| self.chosen(&finished, asked)) {
                Ok(own) => flows.extend(own),
                Err(why) => {
                    is_whole = false;
                    report_silent(&answer.node, &why);
                }
            }
        }
        flows.sort_by(|(one, _), (other, _)| (&one.time, &one.node).cmp(&(&other.time, &other.node)));
        self.print_kept(flows, width, out).context("cannot print the flows")?;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }

    /// The flows in an agent's answer that meet the conditions, each with its line.
    fn chosen(&self, finished: &KubectlOutput, asked: Timestamp) -> Result<Vec<(Record, String)>, String> {
        if finished.code != Some(0) {
            return Err(finished.complaint());
        }
        let text = String::from_utf8_lossy(&finished.stdout);
        let read = |line: &str| record(line).map(|record| (record, line.to_owned()));
        let all: Vec<_> = text.lines().map(read).collect::<Result<_, _>>()?;
        Ok(all.into_iter().filter(|(record, _)| self.filter.admits(record, asked)).collect())
    }

    async fn follow_agents(&self, kubectl: &Kubectl, out: &mut impl Write) -> Result<ExitCode> {
        let asked = Timestamp::now();
        let agents = self.agents.choice.find(kubectl).await?;
        if agents.len() > FOLLOWED {
            bail!(
                "{} nodes cannot be followed at once, only {FOLLOWED}; choose some with --node, or leave out --follow",
                agents.len()
            );
        }
        let width = width(&agents);
        let (sender, mut lines) = mpsc::channel(QUEUE);
        let mut followed = JoinSet::new();
        for AgentPod { node, place } in agents {
            let (kubectl, sender) = (kubectl.clone(), sender.clone());
            followed.spawn(async move {
                let why = follow(&kubectl, place, &node, &sender).await;
                sender.send((node, FromNode::Ended(why))).await.ok();
            });
        }
        drop(sender);
        let gone = Arc::new(Notify::new());
        let told = gone.clone();
        unread::watch(move || told.notify_one()).context("cannot watch the output")?;
        loop {
            let next = tokio::select! {
                next = lines.recv() => next,
                () = gone.notified() => return Ok(ExitCode::SUCCESS),
            };
            let (node, why) = match next {
                None => return Ok(ExitCode::from(2)),
                Some((node, FromNode::Ended(why))) => (node, why),
                Some((node, FromNode::Line(line))) => match record(&line) {
                    Ok(record) => {
                        if self.filter.admits(&record, asked) {
                            let printed = self.print_of_node(&record, &line, width, out);
                            printed.and_then(|()| out.flush()).context("cannot print the flows")?;
                        }
                        continue;
                    }
                    Err(why) => (node, why),
                },
            };
            report_silent(&node, &why);
        }
    }

    fn print_kept(
        &self,
        flows: Vec<(Record, String)>,
        width: usize,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        match self.output {
            FlowFormat::Json => flows.iter().try_for_each(|(_, line)| writeln!(out, "{line}")),
            FlowFormat::Text => {
                let mut pairs = FamilyPairs::default();
                flows.into_iter().for_each(|(record, _)| pairs.add(record));
                let lines = pairs.into_lines();
                lines.iter().try_for_each(|line| print_text(line.node(), line, width, out))
            }
        }
    }

    fn print_of_node(
        &self,
        record: &Record,
        line: &str,
        width: usize,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        match self.output {
            FlowFormat::Json => writeln!(out, "{line}"),
            FlowFormat::Text => print_text(&record.node, record, width, out),
        }
    }
}

fn print_text(node: &str, text: &impl ToString, width: usize, out: &mut impl Write) -> std::io::Result<()> {
    text.to_string().lines().try_for_each(|line| writeln!(out, "{node:<width$}  {line}"))
}

/// Passes the lines of one agent on until they end; returns why they ended.
async fn follow(
    kubectl: &Kubectl,
    place: Result<AgentPlace, String>,
    node: &str,
    sender: &mpsc::Sender<(String, FromNode)>,
) -> String {
    let command = match place.and_then(|place| Ok((words(&place, true)?, place))) {
        Ok((words, place)) => kubectl.follow(&place, words).spawn(),
        Err(why) => return why,
    };
    let mut child = match command {
        Ok(child) => child,
        Err(error) => return not_started(&error),
    };
    // As long as this is open, the command in the container goes on.
    let _input = child.stdin.take();
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return "kubectl has no output".to_owned();
    };
    let mut complaint = String::new();
    let mut stderr = stderr.take(LONGEST_COMPLAINT);
    let pass_on = async {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send((node.to_owned(), FromNode::Line(line))).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(pass_on, async { stderr.read_to_string(&mut complaint).await.ok() });
    let code = child.wait().await.ok().and_then(|status| status.code());
    KubectlOutput { code, stdout: Vec::new(), stderr: complaint }.complaint()
}

/// The command that asks an agent in its own container.
///
/// # Errors
/// The agent serves no flows.
fn words(place: &AgentPlace, follow: bool) -> Result<Vec<String>, String> {
    let socket = place.socket("flows-socket", FLOWS_SOCKET)?;
    let words = ["flows", "--output=json"].map(str::to_owned).into_iter();
    let follow = follow.then(|| "--follow".to_owned());
    Ok(words.chain([format!("--socket={socket}")]).chain(follow).collect())
}

fn record(line: &str) -> Result<Record, String> {
    serde_json::from_str(line).map_err(|error| {
        format!("cannot read a flow that it sent: {error}; is the agent of another version?")
    })
}

/// How wide the column of nodes is.
fn width(agents: &[AgentPod]) -> usize {
    agents.iter().map(|agent| agent.node.chars().count()).max().unwrap_or(0)
}
