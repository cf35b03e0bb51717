//! The real agents: `bridgewarden run` as a process in each node's namespace.

use super::stop::Stop;
use crate::testbed::Netns;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where every agent serves its pages, in its own namespace.
pub(super) const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);

/// The deadline for an agent to become ready. On a slow machine, the first one waits for modules of the kernel to load.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The polling interval of its readiness.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long an agent may take to end.
const END_WITHIN: Duration = Duration::from_secs(3);
/// How much of a log is shown.
const TAIL_LINES: usize = 15;

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub(super) struct AgentProcess {
    node: String,
    namespace: Netns,
    child: Child,
    log: PathBuf,
}

impl AgentProcess {
    /// Starts an agent in a node's namespace.
    pub(super) fn start(
        node: &str,
        namespace: &Netns,
        [manifests, results]: [&Path; 2],
        backend: &str,
        log: PathBuf,
    ) -> Result<AgentProcess> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("run").arg("--manifests").arg(manifests).args(["--node-name", node]);
        command.arg("--cni-results-dir").arg(results);
        command.args(["--backend", backend, "--http-addr", &HTTP.to_string(), "--log-format", "text"]);
        command.arg("--flows-socket").arg(log.with_extension("flows"));
        command.arg("--status-socket").arg(log.with_extension("status"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // The terminal's Ctrl-C must reach only this process, which then ends the agent.
        command.process_group(0);
        let child = namespace.spawn(&mut command)?;
        Ok(AgentProcess { node: node.to_owned(), namespace: namespace.clone(), child, log })
    }

    /// Waits until it enforces.
    ///
    /// # Errors
    /// It ended, or is not ready in time; the error has the end of its log.
    pub(super) fn wait_until_ready(&mut self, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check()?;
            let answer = self.namespace.enter(|| get(HTTP, "/readyz"))?;
            let reason = match answer {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("/readyz says {status}:\n{}", indented(&body)),
                Err(error) => format!("/readyz cannot be read: {error}\n"),
            };
            if Instant::now() >= deadline {
                let seconds = READY_WITHIN.as_secs();
                bail!(
                    "the agent on {} is not ready after {seconds} s. {reason}{}",
                    self.node,
                    self.last_words()
                );
            }
            stop.sleep(LOOK_EVERY)?;
        }
    }

    /// Checks that it runs.
    ///
    /// # Errors
    /// It ended; the error contains the end of its log.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("cannot check on an agent")? {
            Some(status) => bail!("the agent on {} ended ({status}). {}", self.node, self.last_words()),
            None => Ok(()),
        }
    }

    /// The end of its log, with a heading.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_else(|error| format!("cannot be read: {error}"));
        format!("The end of its log:\n{}", indented(tail(&log)))
    }

    /// Ends agents together: SIGTERM first, then SIGKILL.
    pub(super) fn end_all(agents: &mut Vec<AgentProcess>) {
        for agent in agents.iter() {
            agent.ask_to_end();
        }
        agents.clear();
    }

    fn ask_to_end(&self) {
        // Until this process has waited for it, its id cannot be reused.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.ask_to_end();
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                self.child.kill().ok();
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Requests a page over HTTP; returns status and body.
fn get(server: SocketAddr, page: &str) -> io::Result<(u16, String)> {
    let patience = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn tail(log: &str) -> &str {
    let start = log.trim_end().rmatch_indices('\n').nth(TAIL_LINES - 1).map_or(0, |(newline, _)| newline + 1);
    log.get(start..).unwrap_or_default()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n[-]sync\r\n";
        assert_eq!(parse(answer), Some((503, "[-]sync\r\n".to_owned())));
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }

    #[test]
    fn tail_is_the_last_lines() {
        let log: String = (1..=40).map(|number| format!("{number}\n")).collect();
        assert!(tail(&log).starts_with("26\n27\n") && tail(&log).ends_with("40\n"));
        assert_eq!(tail("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(tail(""), "");
    }
}
