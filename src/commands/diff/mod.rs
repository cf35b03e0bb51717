//! `bridgewarden diff`: which connections open and close between two states of a cluster, such as before and after a change.

mod change;
mod side;

use super::API_VERSION;
use super::input::{AccessFlags, print_warnings};
use crate::reach::{Difference, Reach, ReachState};
use anyhow::{Context, Result};
use change::{Effect, came_and_went, changes, few, isolation, names};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use side::DiffSide;
use std::io::{self, ErrorKind, Write};
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
/// kubeconfig, or `-` for the standard input. Exit code: 0 no difference, 1 a difference, 2 error.
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
}

const EXAMPLES: &str = "Examples:
  bridgewarden diff main:deploy deploy            what this branch changes
  bridgewarden diff cluster deploy                what applying these manifests would change
  bridgewarden diff main:deploy deploy -o md      for a pull request";

impl Diff {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let [old, new] = [self.old.read(&self.access)?, self.new.read(&self.access)?];
        for input in [&old, &new] {
            print_warnings(input);
        }
        super::reach::note_what_is_left_out(&new.snapshot);
        let (before, after) = (Reach::new(&old.snapshot), Reach::new(&new.snapshot));
        let difference = Difference::between(
            ReachState { snapshot: &old.snapshot, reach: &before },
            ReachState { snapshot: &new.snapshot, reach: &after },
        );
        let printed = match self.output {
            DiffFormat::Table => print_table(&difference, out),
            DiffFormat::Md => print_markdown(&difference, out),
            DiffFormat::Json => writeln!(out, "{:#}", json(&difference)),
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed.context("cannot print the difference")?,
        }
        Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
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

fn print_table(difference: &Difference, out: &mut impl Write) -> io::Result<()> {
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
    Ok(())
}

fn print_markdown(difference: &Difference, out: &mut impl Write) -> io::Result<()> {
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

fn json(difference: &Difference) -> Value {
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
    json!({
        "apiVersion": API_VERSION,
        "kind": "ReachDifference",
        "opened": of(Effect::Opens),
        "closed": of(Effect::Closes),
        "isolation": isolation,
        "new": came,
        "gone": went,
    })
}
