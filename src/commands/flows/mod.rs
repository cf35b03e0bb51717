//! `bridgewarden flows`: the flows that the daemon of this node has reported as denied, with policies and reasons.

mod cluster;
mod families;
mod unread;

use super::agents::AgentFlags;
use super::flags::FLOWS_SOCKET;
use super::flow_filter::FlowFilter;
use crate::flow::Record;
use crate::observe::END_MARK;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use families::FamilyPairs;
use jiff::Timestamp;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a flow is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FlowFormat {
    /// Two lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Prints the flows that were denied on this node, or with --all on all nodes: the last thousand of each, the oldest first.
#[derive(Debug, Args)]
pub(super) struct Flows {
    /// Continue with new denied flows until interrupted. A flow that goes on is printed again, with its count
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filter: FlowFilter,
    /// Print flows in this format
    #[arg(short, long, value_enum, default_value_t)]
    output: FlowFormat,
    /// Connect to the agent at this Unix socket
    #[arg(long, value_name = "PATH", default_value = FLOWS_SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    agents: AgentFlags,
}

impl Flows {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        if self.agents.are_given() {
            return self.ask_agents(out);
        }
        let socket = self.socket.display();
        let stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "cannot connect to the agent at {socket}. It must run on this node with the same --flows-socket, and only root \
                 may connect. From outside the cluster, ask with --all or --node"
            )
        })?;
        let unread = Arc::new(AtomicBool::new(false));
        if self.follow {
            let (connection, told) = (stream.try_clone().context("cannot watch the output")?, unread.clone());
            let close = move || {
                told.store(true, Ordering::Relaxed);
                connection.shutdown(Shutdown::Both).ok();
            };
            unread::watch(close).context("cannot watch the output")?;
        }
        let ended = self.print(BufReader::new(stream), out);
        let ended = ended.with_context(|| format!("cannot print the flows from {socket}"))?;
        match ended {
            FlowStreamEnd::Whole => Ok(ExitCode::SUCCESS),
            FlowStreamEnd::Refused(why) => bail!("the agent at {socket} closed the stream: {why}"),
            FlowStreamEnd::Cut if unread.load(Ordering::Relaxed) => Ok(ExitCode::SUCCESS),
            FlowStreamEnd::Cut => bail!(
                "the agent at {socket} has ended, so some flows may not have been printed; run the command again"
            ),
        }
    }

    /// Prints the flows that are kept, and with `--follow` those after the empty line. Of those that are kept, an attempt in both families
    /// is one line; later ones are printed as they come.
    fn print(&self, lines: impl BufRead, out: &mut impl Write) -> std::io::Result<FlowStreamEnd> {
        let mut kept = Some(FamilyPairs::default());
        let ended = self.print_lines(lines, &mut kept, out);
        print_kept(kept, out)?;
        ended
    }

    fn print_lines(
        &self,
        lines: impl BufRead,
        kept: &mut Option<FamilyPairs>,
        out: &mut impl Write,
    ) -> std::io::Result<FlowStreamEnd> {
        let asked = Timestamp::now();
        for line in lines.lines() {
            let line = line?;
            if let Some(why) = line.strip_prefix(END_MARK) {
                return Ok(FlowStreamEnd::Refused(why.trim().to_owned()));
            }
            if line.is_empty() {
                print_kept(kept.take(), out)?;
                if !self.follow {
                    return Ok(FlowStreamEnd::Whole);
                }
                continue;
            }
            let record: Record = serde_json::from_str(&line)?;
            if !self.filter.admits(&record, asked) {
                continue;
            }
            match (self.output, kept.as_mut()) {
                (FlowFormat::Text, Some(kept)) => kept.add(record),
                (FlowFormat::Text, None) => writeln!(out, "{record}")?,
                (FlowFormat::Json, _) => writeln!(out, "{line}")?,
            }
            if self.follow {
                out.flush()?;
            }
        }
        Ok(FlowStreamEnd::Cut)
    }
}

fn print_kept(kept: Option<FamilyPairs>, out: &mut impl Write) -> std::io::Result<()> {
    let lines = kept.map(FamilyPairs::into_lines).unwrap_or_default();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

/// How the daemon's stream of flows ended.
enum FlowStreamEnd {
    /// Completely.
    Whole,
    /// With the daemon's reason for sending no more.
    Refused(String),
    /// The daemon has ended, or the connection was closed.
    Cut,
}
