//! Asks the agent of this node for its status, or for the live connections of its pods.

use crate::observe::END_MARK;
use crate::status::StatusQuestion;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the agent may take for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent's answer.
///
/// # Errors
/// The agent cannot be reached, or does not answer, or answers what this program does not understand.
pub(super) fn ask<A: DeserializeOwned>(socket: &Path, question: &StatusQuestion) -> Result<A> {
    let shown = socket.display();
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "cannot connect to the agent at {shown}. It must run on this node with the same --status-socket, and only root may \
             connect. From outside the cluster, ask with --all or --node"
        )
    })?;
    let mut exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{question}")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        std::io::Result::Ok(line)
    };
    let line = exchange().with_context(|| format!("the agent at {shown} does not answer"))?;
    if line.is_empty() {
        bail!("the agent at {shown} closed the connection without an answer; it may be ending: ask again");
    }
    if let Some(why) = line.strip_prefix(END_MARK) {
        bail!("the agent at {shown} does not answer: {}", why.trim());
    }
    serde_json::from_str(&line)
        .with_context(|| format!("cannot read what the agent at {shown} sent; is it of another version?"))
}
