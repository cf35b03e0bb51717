//! The daemon as a process: starting it, looking at it from outside, ending it.

use crate::http::{self, Metrics};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that anything waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The binary.
    pub(crate) path: PathBuf,
    /// Its directory of manifests.
    pub(crate) manifests: PathBuf,
    /// Where its log goes.
    pub(crate) log: PathBuf,
}

/// A daemon that runs.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    started: Instant,
    log: PathBuf,
}

/// How much memory a process has, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) highest: f64,
}

impl Program {
    /// Starts it in the calling thread's network namespace.
    pub(crate) fn start(&self, audit_seconds: u32) -> Result<Daemon> {
        let log = self.log.clone();
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.path);
        command
            .arg("run")
            .arg("--manifests")
            .arg(&self.manifests)
            .args([
                "--node-name",
                crate::cluster::LOCAL_NODE,
                "--http-addr",
                http::ADDRESS,
                "--flows-socket=",
            ])
            .args(["--backend", "iptables-nft", "--audit-interval-seconds", &audit_seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        Ok(Daemon { child, started, log })
    }
}

impl Daemon {
    /// Waits until a line of /readyz reads so; tells how long after the start that was.
    pub(crate) fn wait_for(&mut self, line: &str) -> Result<Duration> {
        loop {
            let page = http::page("/readyz").unwrap_or_default();
            let after = self.started.elapsed();
            if page.lines().any(|own| own == line) {
                return Ok(after);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended ({status}):\n{}", self.log());
            }
            ensure!(after < PATIENCE, "the daemon does not say `{line}` but\n{page}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until its numbers are as wanted.
    pub(crate) fn wait_until(&self, wanted: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
        let begun = Instant::now();
        loop {
            let metrics = Metrics::read()?;
            if wanted(&metrics) {
                return Ok(metrics);
            }
            ensure!(begun.elapsed() < PATIENCE, "the daemon does not get there:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = self.read("status")?;
        let mebibytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
        };
        let (resident, highest) = (mebibytes("VmRSS"), mebibytes("VmHWM"));
        let unknown = "the kernel does not tell the daemon's memory";
        Ok(Memory { resident: resident.context(unknown)?, highest: highest.context(unknown)? })
    }

    /// How long it has worked, and the processes that it has started and seen the end of.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default().split(' ');
        let ticks: Vec<u64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
        ensure!(ticks.len() == 4, "the kernel does not tell the daemon's processor time");
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / per_second))
    }

    /// Ends it as its operator would, and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended badly ({status}):\n{}", self.log());
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    /// So that none outlives an error.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
