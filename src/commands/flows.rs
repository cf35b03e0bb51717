//! `bridgewarden flows`: the flows that the daemon of this node has reported as denied, with policies and reasons.

use super::flags::FLOWS_SOCKET;
use super::flow_filter::FlowFilter;
use crate::flow::Record;
use crate::observe::END_MARK;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
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

/// Prints the flows that were denied on this node: the last thousand, the oldest first.
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
}

impl Flows {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let socket = self.socket.display();
        let stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "cannot connect to the agent at {socket}. It must run on this node with the same --flows-socket, and only root \
                 may connect"
            )
        })?;
        let unread = Arc::new(AtomicBool::new(false));
        if self.follow {
            end_when_unread(&stream, unread.clone()).context("cannot watch the output")?;
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

    /// Prints the flows that are kept, and with `--follow` those after the empty line.
    fn print(&self, lines: impl BufRead, out: &mut impl Write) -> std::io::Result<FlowStreamEnd> {
        let asked = Timestamp::now();
        for line in lines.lines() {
            let line = line?;
            if let Some(why) = line.strip_prefix(END_MARK) {
                out.flush()?;
                return Ok(FlowStreamEnd::Refused(why.trim().to_owned()));
            }
            if line.is_empty() {
                out.flush()?;
                if !self.follow {
                    return Ok(FlowStreamEnd::Whole);
                }
                continue;
            }
            let record: Record = serde_json::from_str(&line)?;
            if !self.filter.admits(&record, asked) {
                continue;
            }
            match self.output {
                FlowFormat::Text => writeln!(out, "{record}")?,
                FlowFormat::Json => writeln!(out, "{line}")?,
            }
            if self.follow {
                out.flush()?;
            }
        }
        out.flush()?;
        Ok(FlowStreamEnd::Cut)
    }
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

/// Closes the connection when the output is no longer read, or when the program that started this one has closed the
/// pipe that is its input. Otherwise this would be noticed only with the next denied flow, which may never come.
fn end_when_unread(stream: &UnixStream, unread: Arc<AtomicBool>) -> Result<()> {
    let connection = stream.try_clone()?;
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    let is_gone = move |end: &PollFd<'_>| end.revents().is_some_and(|events| events.intersects(gone));
    std::thread::Builder::new().spawn(move || {
        let (output, input) = (std::io::stdout(), std::io::stdin());
        let mut ends = vec![PollFd::new(output.as_fd(), PollFlags::empty())];
        let mut first = [PollFd::new(input.as_fd(), PollFlags::empty())];
        // An input that was closed from the start means nothing.
        if poll(&mut first, PollTimeout::ZERO).is_ok() && !is_gone(&first[0]) {
            ends.push(PollFd::new(input.as_fd(), PollFlags::empty()));
        }
        while !ends.iter().any(is_gone) {
            match poll(&mut ends, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                // If the descriptors cannot be watched, the end is noticed with the next flow.
                Err(_) => return,
            }
        }
        unread.store(true, Ordering::Relaxed);
        connection.shutdown(Shutdown::Both).ok();
    })?;
    Ok(())
}
