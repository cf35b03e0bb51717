//! Asks the agent of this node for its status, or for the live connections of its pods.

use crate::observe::END_MARK;
use crate::status::StatusQuestion;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
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
        // An agent that closes the connection before it was asked may have said why.
        unless_closed(writeln!(stream, "{question}"))?;
        let mut line = String::new();
        unless_closed(BufReader::new(&stream).read_line(&mut line).map(drop))?;
        io::Result::Ok(line)
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

/// What was done, or nothing if the other end has closed the connection.
fn unless_closed(done: io::Result<()>) -> io::Result<()> {
    let is_closed = |kind| matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
    done.or_else(|error| if is_closed(error.kind()) { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::AgentStatus;
    use std::net::Shutdown;
    use std::os::unix::net::UnixListener;

    #[test]
    fn agent_that_closes_the_connection_at_once_has_not_answered() {
        let path = std::env::temp_dir().join(format!("bridgewarden-closing-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        // Nothing can be written to these from the beginning.
        let closing = std::thread::spawn(move || {
            for _ in 0..20 {
                let (stream, _) = listener.accept().unwrap();
                stream.shutdown(Shutdown::Read).unwrap();
            }
        });
        for _ in 0..20 {
            let asked: Result<AgentStatus> = ask(&path, &StatusQuestion::All);
            let error = asked.unwrap_err().to_string();
            assert!(error.contains("closed the connection without an answer"), "{error}");
        }
        closing.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
