//! `bridgewarden diff`: which connections open and close between two states of a cluster, such as before and after a change.

mod change;
mod cut;
mod cut_text;
mod side;

use super::API_VERSION;
use super::agents::{AgentChoice, INTERRUPTED};
use super::connections::{self, ConnectionAnswers};
use super::flags::STATUS_SOCKET;
use super::input::{AccessFlags, print_warnings};
use super::progress::ProgressDisplay;
use super::reach::json::addresses;
use crate::reach::{Difference, Reach, ReachState};
use anyhow::{Context, Result, bail};
use change::{Effect, came_and_went, changes, few, isolation, names};
use clap::{Args, ValueEnum};
use cut::CutConnections;
use serde_json::{Value, json};
use side::DiffSide;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// How the difference is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// Lines for people.
    #[default]
    Table,
    /// One JSON object: see docs/reach-difference.schema.json.
    Json,
    /// Markdown for a pull request.
    Md,
}

/// Shows which connections open and close between two states of a cluster, and which workloads become isolated.
///
/// A state is a file or a directory of manifests, REVISION:PATH for a revision of git, `cluster` for the cluster of the
/// kubeconfig, or `-` for the standard input. Exit code: 0 no difference, 1 a difference, 2 error, or an agent did not answer.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Diff {
    /// The state before
    #[arg(value_name = "OLD")]
    old: DiffSide,
    /// The state after
    #[arg(value_name = "NEW")]
    new: DiffSide,
    #[command(flatten)]
    access: AccessFlags,
    /// Print in this format
    #[arg(short, long, value_enum, default_value_t)]
    output: DiffFormat,
    #[command(flatten, next_help_heading = "Live connections")]
    live: LiveConnectionFlags,
}

/// Which agents are asked for live connections.
#[derive(Debug, Args)]
struct LiveConnectionFlags {
    /// Also ask the agent of this node which connections its pods have, and print those that OLD allows and NEW denies. With --all or
    /// --node ask the agents of other nodes. The pods must be in OLD and NEW, by their names or as workloads
    #[arg(long)]
    connections: bool,
    /// With --connections, connect to the agent of this node at this Unix socket
    #[arg(long, value_name = "PATH", default_value = STATUS_SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    agents: AgentChoice,
}

impl LiveConnectionFlags {
    /// The live connections, if they are wanted. `None` if a signal ended it.
    fn ask(&self, access: &AccessFlags) -> Result<Option<Option<ConnectionAnswers>>> {
        match (self.connections, self.agents.is_given()) {
            (false, false) => Ok(Some(None)),
            (false, true) => {
                bail!("--all and --node say which agents are asked for live connections: add --connections")
            }
            (true, false) => Ok(Some(Some(connections::of_this_node(&self.socket)?))),
            (true, true) => {
                let kubectl = self.agents.kubectl(access.context.as_deref(), access.kubeconfig.as_deref());
                Ok(connections::of_nodes(&self.agents, &kubectl)?.map(Some))
            }
        }
    }
}

const EXAMPLES: &str = "Examples:
  bridgewarden diff main:deploy deploy            what this branch changes
  bridgewarden diff cluster deploy                what applying these manifests would change
  bridgewarden diff main:deploy deploy -o md      for a pull request
  bridgewarden diff cluster deploy --connections --all
                                                  and which live connections that would cut";

impl Diff {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if self.old.is_stdin() && self.new.is_stdin() {
            bail!(
                "OLD and NEW are both the standard input, which can be read once: write one of them to a file"
            );
        }
        let progress = ProgressDisplay::begin("asking for live connections");
        let Some(answers) = self.live.ask(&self.access)? else {
            return Ok(ExitCode::from(INTERRUPTED));
        };
        progress.now("reading the old state");
        let old = self.old.read(&self.access)?;
        progress.now("reading the new state");
        let new = self.new.read(&self.access)?;
        progress.aside(|| {
            for input in [&old, &new] {
                print_warnings(input);
            }
            super::reach::note_what_is_left_out(&new.snapshot);
        });
        progress.now("comparing all connections");
        let (before, after) = (Reach::new(&old.snapshot), Reach::new(&new.snapshot));
        let difference = Difference::between(
            ReachState { snapshot: &old.snapshot, reach: &before },
            ReachState { snapshot: &new.snapshot, reach: &after },
        );
        let cut = answers.map(|answers| CutConnections::between(&old.snapshot, &new.snapshot, answers));
        let cut = cut.as_ref();
        drop(progress);
        let printed = match self.output {
            DiffFormat::Table => print_table(&difference, cut, out),
            DiffFormat::Md => print_markdown(&difference, cut, out),
            DiffFormat::Json => writeln!(out, "{:#}", json(&difference, cut)),
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed.context("cannot print the difference")?,
        }
        if let Some(cut) = cut {
            cut.note_what_is_left_out();
        }
        let is_whole = cut.is_none_or(|cut| cut.silent.is_empty());
        Ok(match (is_whole, difference.is_empty()) {
            (false, _) => ExitCode::from(2),
            (true, false) => ExitCode::from(1),
            (true, true) => ExitCode::SUCCESS,
        })
    }
}

/// What the isolation of some workloads becomes.
fn isolation_words(isolated: bool, direction: impl std::fmt::Display) -> String {
    if isolated {
        format!("isolated for {direction} now")
    } else {
        format!("no longer isolated for {direction}")
    }
}

fn print_table(
    difference: &Difference,
    cut: Option<&CutConnections>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (word, names) in ["new", "gone"].into_iter().zip(came_and_went(difference)) {
        if !names.is_empty() {
            writeln!(out, "{word}: {}", names.join(", "))?;
        }
    }
    for ((isolated, direction), names) in isolation(difference) {
        writeln!(out, "{}: {}", isolation_words(isolated, direction), names.join(", "))?;
    }
    for change in changes(difference) {
        let [from, to] = [&change.from, &change.to].map(|places| few(&names(difference, places)));
        let sign = match change.effect {
            Effect::Opens => '+',
            Effect::Closes => '-',
        };
        writeln!(out, "{sign} {from} -> {to}: {}", change.ports.join(", "))?;
    }
    cut.map_or(Ok(()), |cut| cut.print_table(out))
}

fn print_markdown(
    difference: &Difference,
    cut: Option<&CutConnections>,
    out: &mut impl Write,
) -> io::Result<()> {
    print_markdown_changes(difference, out)?;
    cut.map_or(Ok(()), |cut| cut.print_markdown(out))
}

fn print_markdown_changes(difference: &Difference, out: &mut impl Write) -> io::Result<()> {
    if difference.is_empty() {
        return writeln!(out, "Network policies: the same connections are allowed as before.");
    }
    let changes = changes(difference);
    let count = |effect| changes.iter().filter(|change| change.effect == effect).count();
    let (opens, closes) = (count(Effect::Opens), count(Effect::Closes));
    writeln!(out, "### Network policies: {opens} changes open connections, {closes} close connections\n")?;
    for (word, names) in ["New", "Gone"].into_iter().zip(came_and_went(difference)) {
        if !names.is_empty() {
            writeln!(out, "- {word}: {}", code(&names))?;
        }
    }
    for ((isolated, direction), names) in isolation(difference) {
        let words = isolation_words(isolated, direction);
        writeln!(out, "- {}{}: {}", words[..1].to_uppercase(), &words[1..], code(&names))?;
    }
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| | from | to | ports |\n|:--|:--|:--|:--|")?;
    for change in &changes {
        let [from, to] = [&change.from, &change.to].map(|places| few(&names(difference, places)));
        writeln!(out, "| **{}** | {from} | {to} | {} |", change.effect.word(), change.ports.join(", "))?;
    }
    Ok(())
}

fn code(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn json(difference: &Difference, cut: Option<&CutConnections>) -> Value {
    let of = |effect: Effect| -> Vec<Value> {
        let changes = changes(difference).into_iter().filter(|change| change.effect == effect);
        changes
            .map(|change| {
                let [from, to] = [&change.from, &change.to].map(|places| names(difference, places));
                json!({"from": from, "to": to, "ports": change.ports})
            })
            .collect()
    };
    let isolation: Vec<Value> = isolation(difference)
        .into_iter()
        .map(|((isolated, direction), names)| {
            json!({"workloads": names, "direction": direction.to_string(), "isolated": isolated})
        })
        .collect();
    let [came, went] = came_and_went(difference);
    let mut value = json!({
        "apiVersion": API_VERSION,
        "kind": "ReachDifference",
        "opened": of(Effect::Opens),
        "closed": of(Effect::Closes),
        "isolation": isolation,
        "new": came,
        "gone": went,
        "addresses": difference.groups.iter().flat_map(|group| &group.ends).filter_map(addresses).collect::<Vec<_>>(),
    });
    if let Some(cut) = cut {
        value["connections"] = cut.json();
    }
    value
}
