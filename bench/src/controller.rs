//! The measured controller as a process: Bridgewarden, or the command of another one.

use crate::metrics::{self, AgentMetrics};
use crate::process::{self, Memory};
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::control_plane::KillOnDrop;

/// The longest time that Bridgewarden may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time that another controller may take for its work.
const PEERS_PATIENCE: Duration = Duration::from_secs(900);
/// A process that uses almost no processor time for this long is idle.
const REST: Duration = Duration::from_millis(500);

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControllerKind {
    /// Bridgewarden, which serves metrics.
    Own,
    /// Another program, which is only measured from outside.
    Peer,
}

/// How a controller is started, and its node and pods on which its effects are measured.
#[derive(Clone, Debug)]
pub(crate) struct ControllerUnderTest {
    pub(crate) kind: ControllerKind,
    /// Its name in the figures.
    pub(crate) name: String,
    /// Its node.
    pub(crate) namespace: Netns,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) log: PathBuf,
    /// The directory of CNI results, if it reads them.
    pub(crate) results: PathBuf,
    /// The CNI result of the pod that is started during the measurement.
    pub(crate) starting_result: Value,
    /// The block of its pods' addresses.
    pub(crate) block: Ipv4Addr,
}

/// A running controller.
pub(crate) struct ControllerProcess {
    pub(crate) subject: ControllerUnderTest,
    child: KillOnDrop,
    process: u32,
    pub(crate) started: Instant,
}

impl ControllerUnderTest {
    /// Starts it.
    pub(crate) fn start(&self) -> Result<ControllerProcess> {
        let started = Instant::now();
        let child = KillOnDrop::start(&self.namespace, &self.program, &self.arguments, &self.log)?;
        let process = child.process()?;
        Ok(ControllerProcess { subject: self.clone(), child, process, started })
    }

    /// The timeout for its work.
    pub(crate) fn patience(&self) -> Duration {
        match self.kind {
            ControllerKind::Own => PATIENCE,
            ControllerKind::Peer => PEERS_PATIENCE,
        }
    }

    /// The address of one of its own pods.
    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.block.octets();
        Ipv4Addr::new(a, b, c, host)
    }
}

impl ControllerProcess {
    /// Waits until /readyz has this line, and returns how long after the start that was. Only Bridgewarden serves it.
    pub(crate) fn wait_for_line(&mut self, line: &str) -> Result<Duration> {
        loop {
            let page = metrics::page(&self.subject.namespace, "/readyz").unwrap_or_default();
            let after = self.started.elapsed();
            if page.lines().any(|own| own == line) {
                return Ok(after);
            }
            self.runs()?;
            ensure!(after < PATIENCE, "/readyz does not have `{line}` but\n{page}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its metrics. Only Bridgewarden serves them.
    pub(crate) fn metrics(&self) -> Result<AgentMetrics> {
        AgentMetrics::of(&self.subject.namespace)
    }

    /// Waits until its metrics satisfy a condition.
    pub(crate) fn wait_for_metrics(&self, wanted: impl Fn(&AgentMetrics) -> bool) -> Result<AgentMetrics> {
        let begun = Instant::now();
        loop {
            let metrics = self.metrics()?;
            if wanted(&metrics) {
                return Ok(metrics);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the metrics do not reach the expected state:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it is idle.
    pub(crate) fn wait_until_idle(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut quiet = 0;
        while quiet < 2 {
            let before = self.cpu()?;
            std::thread::sleep(REST);
            quiet = if self.cpu()? - before <= Duration::from_millis(20) { quiet + 1 } else { 0 };
            self.runs()?;
            ensure!(begun.elapsed() < self.subject.patience(), "{} does not come to rest", self.subject.name);
        }
        Ok(())
    }

    /// Its processor time, including the programs that it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu(self.process)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        process::memory(self.process)
    }

    /// Stops it (SIGSTOP), so that another can be measured alone.
    pub(crate) fn hold(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Continues it (SIGCONT).
    pub(crate) fn release(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Ends it (SIGTERM), and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let begun = Instant::now();
        while self.child.ended()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "{} does not end", self.subject.name);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(i32::try_from(self.process)?);
        kill(process, signal).with_context(|| format!("cannot send {signal} to {}", self.subject.name))
    }

    fn runs(&mut self) -> Result<()> {
        let ended = self.child.ended()?;
        ensure!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.subject.name, self.log());
        Ok(())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(&self.subject.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}
