//! A program that is ended as the kubelet ends it: SIGTERM first.

use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::control_plane::KillOnDrop;

/// The time that the kubelet gives a container.
const GRACE: Duration = Duration::from_secs(30);

/// A program that runs, with its log.
#[derive(Debug)]
pub(crate) struct RunningProgram {
    child: KillOnDrop,
    name: &'static str,
    log: PathBuf,
}

impl RunningProgram {
    /// Starts it. Its output is appended to its log.
    pub(crate) fn start(
        name: &'static str,
        namespace: &Netns,
        program: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Result<RunningProgram> {
        let child = KillOnDrop::start(namespace, program, arguments, &log)?;
        Ok(RunningProgram { child, name, log })
    }

    /// Fails if it has ended.
    pub(crate) fn runs(&mut self) -> Result<()> {
        let ended = self.child.ended()?;
        ensure!(ended.is_none(), "{} ended by itself ({ended:?}):\n{}", self.name, self.log());
        Ok(())
    }

    /// Ends it (SIGTERM), and waits until it has ended.
    pub(crate) fn end(mut self) -> Result<()> {
        self.runs()?;
        let process = Pid::from_raw(i32::try_from(self.child.process()?).context("a process id fits")?);
        kill(process, Signal::SIGTERM).with_context(|| format!("cannot end {}", self.name))?;
        let begun = Instant::now();
        while self.child.ended()?.is_none() {
            ensure!(begun.elapsed() < GRACE, "{} does not end within {GRACE:?}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
