//! The agent on a node, as a process.

use crate::cluster::NodeName;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::http;

/// The address of its pages.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);
/// How long the response to a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running agent.
#[derive(Debug)]
pub(super) struct ScenarioAgent {
    child: Child,
    namespace: Netns,
    log: PathBuf,
}

impl ScenarioAgent {
    /// Starts it. Its output is appended to its log.
    pub(super) fn start(
        namespace: &Netns,
        program: &Path,
        node: NodeName,
        backend: &str,
        [manifests, results]: [&Path; 2],
        log: PathBuf,
    ) -> Result<ScenarioAgent> {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command.arg("run").arg("--manifests").arg(manifests).arg("--cni-results-dir").arg(results);
        command.args([
            "--node-name",
            node.as_str(),
            "--backend",
            backend,
            "--http-addr",
            &ADDRESS.to_string(),
            "--flows-socket=",
            "--status-socket=",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Ok(ScenarioAgent { child: namespace.spawn(&mut command)?, namespace: namespace.clone(), log })
    }

    /// Waits until it is ready.
    pub(super) fn is_ready(&self, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        let readiness = || http::get(&self.namespace, ADDRESS, "/readyz", PATIENCE);
        while !readiness().is_ok_and(|page| page.status == 200) {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(start.elapsed() < deadline, "an agent is not ready after {deadline:?}:\n{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it, and waits for that. The rules in force stay in force.
    pub(super) fn end(mut self, by_force: bool) -> Result<()> {
        let signal = if by_force { Signal::SIGKILL } else { Signal::SIGTERM };
        let pid = i32::try_from(self.child.id()).context("a process id fits")?;
        kill(Pid::from_raw(pid), signal).context("cannot end an agent")?;
        let status = self.child.wait().context("cannot wait for an agent")?;
        ensure!(by_force || status.success(), "an agent ended badly ({status})");
        Ok(())
    }
}

impl Drop for ScenarioAgent {
    /// No agent must outlive a scenario that failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
