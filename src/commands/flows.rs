//! `bridgewarden flows`: what the daemon of this node has refused, by whom and why.

use super::flags::FLOWS_SOCKET;
use crate::flow::Record;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

/// How a flow is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Two lines for people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Prints the flows that were denied on this node: the last thousand, the oldest first.
#[derive(Debug, Args)]
pub(super) struct Flows {
    /// Goes on with what is denied from now on, until it is interrupted. A flow that goes on is printed again, with its count
    #[arg(short, long)]
    follow: bool,
    /// Only flows of which one end is in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How flows are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Where the daemon answers
    #[arg(long, value_name = "PATH", default_value = FLOWS_SOCKET)]
    socket: PathBuf,
}

impl Flows {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let socket = self.socket.display();
        let stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "cannot ask the daemon at {socket}. It must run on this node, with the same --flows-socket, and only root \
                 may ask"
            )
        })?;
        match self.print(BufReader::new(stream), out) {
            // Whoever read has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            printed => printed
                .map(|()| ExitCode::SUCCESS)
                .with_context(|| format!("cannot print what {socket} says")),
        }
    }

    /// Prints what is kept, and with `--follow` what comes behind the empty line.
    fn print(&self, lines: impl BufRead, out: &mut impl Write) -> std::io::Result<()> {
        for line in lines.lines() {
            let line = line?;
            if line.is_empty() && self.follow {
                out.flush()?;
                continue;
            }
            if line.is_empty() {
                break;
            }
            let record: Record = serde_json::from_str(&line)?;
            let ends = [&record.account.source, &record.account.destination];
            if self.namespace.is_some() && ends.iter().all(|end| end.namespace != self.namespace) {
                continue;
            }
            match self.output {
                Format::Text => writeln!(out, "{record}")?,
                Format::Json => writeln!(out, "{line}")?,
            }
            if self.follow {
                out.flush()?;
            }
        }
        out.flush()
    }
}
