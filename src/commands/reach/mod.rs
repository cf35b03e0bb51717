//! `bridgewarden reach`: who can reach whom, on which ports.

mod expectation;
mod exposure;
mod graph;
pub(super) mod json;
mod picture;
mod table;

use super::input::{InputFlags, print_warnings};
use super::progress::ProgressDisplay;
use crate::matrix::{Grouping, ReachFilter, ReachMatrix, Selection, reach_page};
use crate::model::{Peer, Peers, Policy, Snapshot};
use crate::reach::Reach;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How the matrix is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MatrixFormat {
    /// A matrix for a terminal. The default.
    Table,
    /// One JSON object: see docs/reach.schema.json.
    Json,
    /// One line for each pair of ends between which something is allowed, named in full.
    Csv,
    /// A table in Markdown.
    Md,
    /// A graph for Graphviz.
    Dot,
    /// A picture of the matrix.
    Svg,
    /// A page for a browser, in one file: the matrix and a graph, and for each cell the policies that allow or deny it.
    Html,
    /// With --assert: the Test Anything Protocol. The default there.
    Tap,
    /// With --assert: JUnit XML.
    Junit,
}

/// Shows who can reach whom, on which ports: a row for each source, a column for each destination.
///
/// Pods are shown by workload. If policies treat the pods of a workload differently, it has a row for each part. Connections of a
/// pod to itself and between a node and its own pods are not restricted, and not shown. Exit code: 0 done, 1 an expectation does not hold, 2 error.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReachCommand {
    #[command(flatten)]
    input: InputFlags,
    /// Show only connections from or to this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Show the connections of all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Show only connections from these ends: NAMESPACE, NAMESPACE/NAME, NAMESPACE/KIND/NAME, `outside`, an address, or a block of
    /// addresses outside. An address that a pod has means that pod. May be given more than once
    #[arg(long, value_name = "END")]
    from: Vec<ReachFilter>,
    /// Show only connections to these ends
    #[arg(long, value_name = "END")]
    to: Vec<ReachFilter>,
    /// Whether ends that policies treat alike share a row
    #[arg(long, value_enum, default_value_t)]
    group: GroupChoice,
    /// Show instead what every pod, other namespaces and addresses outside reach
    #[arg(long, conflicts_with_all = ["from", "to", "group"])]
    exposed: bool,
    /// Compare with the expectations in this file instead, and exit with 1 if one does not hold
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "group", "exposed", "namespace"])]
    assert: Option<PathBuf>,
    /// Print in this format
    #[arg(short, long, value_enum)]
    output: Option<MatrixFormat>,
}

/// Whether ends that policies treat alike share a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum GroupChoice {
    /// If there are more than 60; never in CSV.
    #[default]
    Auto,
    /// Always.
    Alike,
    /// Never.
    None,
}

const EXAMPLES: &str = "Examples:
  bridgewarden reach -n shop                                        in the cluster of the kubeconfig
  bridgewarden reach -f manifests/ --to shop/deploy/db              before anything is applied
  bridgewarden reach -f manifests/ --from outside --to shop
  kubectl get ns,pods,netpol -A -o yaml | bridgewarden reach -f - -o csv
  bridgewarden reach --exposed
  bridgewarden reach -f manifests/ --assert expectations.yaml -o junit";

/// How wide a table is where COLUMNS does not say.
const WIDTH: usize = 120;

impl ReachCommand {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let progress = ProgressDisplay::begin(self.input.phase());
        let input = self.input.read()?;
        progress.aside(|| {
            print_warnings(&input);
            note_what_is_left_out(&input.snapshot);
        });
        progress.now("judging all connections");
        let reach = Reach::new(&input.snapshot);
        drop(progress);
        let out = &mut BufWriter::new(out);
        let (printed, code) = match &self.assert {
            Some(path) => self.verify(path, &input.snapshot, &reach, out)?,
            None => (self.print(&input.snapshot, &reach, out)?, ExitCode::SUCCESS),
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed.context("cannot print who can reach whom")?,
        }
        Ok(code)
    }

    fn verify(
        &self,
        path: &Path,
        snapshot: &Snapshot,
        reach: &Reach,
        out: &mut impl Write,
    ) -> Result<(std::io::Result<()>, ExitCode)> {
        let expectations = expectation::read(path)?;
        let verified = expectation::verify(&expectations, snapshot, reach);
        let printed = match self.output {
            None | Some(MatrixFormat::Tap) => expectation::print_tap(&verified, out),
            Some(MatrixFormat::Junit) => expectation::print_junit(&verified, out),
            Some(_) => bail!("--assert is printed with -o tap or junit"),
        };
        let all_hold = verified.iter().all(expectation::Verified::holds);
        Ok((printed, if all_hold { ExitCode::SUCCESS } else { ExitCode::from(1) }))
    }

    fn print(&self, snapshot: &Snapshot, reach: &Reach, out: &mut impl Write) -> Result<std::io::Result<()>> {
        let output = self.output.unwrap_or(MatrixFormat::Table);
        if self.exposed {
            let exposures = exposure::exposures(snapshot, reach, self.namespace.as_deref());
            return Ok(match output {
                MatrixFormat::Table => exposure::print_table(&exposures, out),
                MatrixFormat::Md => exposure::print_markdown(&exposures, out),
                MatrixFormat::Json => writeln!(out, "{:#}", exposure::json(&exposures, snapshot, reach)),
                MatrixFormat::Csv
                | MatrixFormat::Dot
                | MatrixFormat::Svg
                | MatrixFormat::Html
                | MatrixFormat::Tap
                | MatrixFormat::Junit => {
                    bail!("--exposed is printed with -o table, json or md")
                }
            });
        }
        let within = |filters: &[ReachFilter]| -> Result<Vec<ReachFilter>> {
            filters.iter().map(|filter| filter.within(snapshot).map_err(anyhow::Error::msg)).collect()
        };
        let selection = Selection {
            namespace: self.namespace.clone(),
            from: within(&self.from)?,
            to: within(&self.to)?,
            grouping: match self.group {
                // A program reads these lines: how many ends there are must not change what a line is.
                GroupChoice::Auto if output == MatrixFormat::Csv => Grouping::Apart,
                GroupChoice::Auto => Grouping::WhereMany,
                GroupChoice::Alike => Grouping::Together,
                GroupChoice::None => Grouping::Apart,
            },
        };
        let matrix = ReachMatrix::new(snapshot, reach, &selection);
        if snapshot.pods.is_empty() {
            bail!("there are no pods, and no objects that make pods");
        }
        if matrix.sources.is_empty() || matrix.destinations.is_empty() {
            bail!("no connection is selected: there is no such end, or none of that namespace");
        }
        Ok(match output {
            MatrixFormat::Table => {
                note("`-` is nothing, `all` is every port of every protocol");
                table::print(&matrix, columns(), out)
            }
            MatrixFormat::Md => table::print_markdown(&matrix, out),
            MatrixFormat::Csv => table::print_csv(&matrix, out),
            MatrixFormat::Json => json::print(&matrix, out),
            MatrixFormat::Dot => graph::print(&matrix, out),
            MatrixFormat::Svg => write!(out, "{}", picture::of(&matrix)),
            MatrixFormat::Html => write!(out, "{}", reach_page(snapshot, reach, &matrix)),
            MatrixFormat::Tap | MatrixFormat::Junit => bail!("-o tap and -o junit are for --assert"),
        })
    }
}

fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH)
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Says which pods have no row, and of which pods too little is known.
pub(super) fn note_what_is_left_out(snapshot: &Snapshot) {
    let running = || snapshot.pods.values().filter(|pod| !pod.finished);
    let on_nodes = running().filter(|pod| !pod.networked).count();
    if on_nodes > 0 {
        note(&format!(
            "left out: {} that share their node's network, which policies neither select nor isolate",
            counted(on_nodes)
        ));
    }
    let unknown = running().filter(|pod| pod.networked && pod.addresses.is_empty()).count();
    let blocks = snapshot.policies.values().any(has_blocks);
    if unknown > 0 && blocks {
        note(&format!(
            "the addresses of {} are not known, so only an ipBlock of all addresses holds them",
            counted(unknown)
        ));
    }
}

fn counted(pods: usize) -> String {
    if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") }
}

fn has_blocks(policy: &Policy) -> bool {
    let mut rules = policy.ingress.iter().chain(&policy.egress).flatten();
    rules.any(|rule| match &rule.peers {
        Peers::Anywhere => false,
        Peers::Listed(peers) => peers.iter().any(|peer| matches!(peer, Peer::Block(_))),
    })
}
