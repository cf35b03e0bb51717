//! Two nodes with a few pods, a control plane, kube-router and Bridgewarden's agent on the first node.

use crate::connection_pair::{self, ELSEWHERE, NODE};
use crate::kube_router::{self, RouterProgram};
use crate::process::RunningProgram;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::netfilter::BackendName;
use bridgewarden::testbed::{Endpoint, Layout, Netns, Probe, ProbeOutcome, Testbed};
use bridgewarden_e2e::connection_probes::{ChangeProbes, ConnectionPair};
use std::env;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::control_plane::{ControlPlane, PORT, Who};
use support::http;

const ID: &str = "change";
const CONTROL_PLANE: &str = "control-plane";
/// The address of the agent's pages.
const PAGES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20245);
/// The timeout of a page.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often each pair is dialled.
const PERIOD: Duration = Duration::from_millis(5);
/// The deadline of every step.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The programs to use, and where to write.
pub(crate) struct ChangeSettings {
    /// The agent's program.
    pub(crate) program: PathBuf,
    /// The directory of `etcd`, `kube-apiserver` and `kubectl`.
    pub(crate) programs: PathBuf,
    pub(crate) kube_router: PathBuf,
    /// Logs and figures.
    pub(crate) directory: PathBuf,
    /// Bridgewarden's packet filter.
    pub(crate) backend: BackendName,
    /// The variant of iptables that kube-router uses.
    pub(crate) variant: &'static str,
}

/// The nodes under test. Fields are dropped in order: the controllers end first.
pub(crate) struct ChangeTest {
    agent: Option<RunningProgram>,
    other: Option<RunningProgram>,
    kube_router: RouterProgram,
    control_plane: ControlPlane,
    pub(crate) testbed: Testbed,
    settings: ChangeSettings,
}

/// How a command of `bridgewarden` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl ChangeTest {
    /// Builds everything, and starts no controller.
    pub(crate) fn start(settings: ChangeSettings) -> Result<ChangeTest> {
        let directory = &settings.directory;
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Testbed::sweep(ID)?;
        let nodes = [NODE, ELSEWHERE, CONTROL_PLANE].map(str::to_owned).into();
        let testbed = Testbed::build(ID, &Layout::new(nodes, connection_pair::places()))?;
        let namespace = testbed.node_namespace(CONTROL_PLANE).context("there is no control plane")?;
        let address = testbed.node_addresses(CONTROL_PLANE).into_iter().find(IpAddr::is_ipv4);
        let address = address.context("the control plane has no address")?;
        let own = directory.join(CONTROL_PLANE);
        let control_plane = ControlPlane::start(namespace, address, &settings.programs, &own)?;
        control_plane.objects()?.create(&connection_pair::objects())?;
        let kubeconfig = control_plane.kubeconfig(Who::Admin, PORT)?;
        let kube_router =
            RouterProgram::new(&settings.kube_router, &kubeconfig, settings.variant, directory)?;
        Ok(ChangeTest { agent: None, other: None, kube_router, control_plane, testbed, settings })
    }

    /// The node on which the controllers run.
    pub(crate) fn node(&self) -> Result<&Netns> {
        self.testbed.node_namespace(NODE).context("there is no such node")
    }

    /// Creates kube-router's DaemonSet, and starts what it would start.
    pub(crate) fn start_kube_router(&mut self) -> Result<()> {
        self.control_plane.objects()?.create(&[kube_router::daemon_set()])?;
        self.other = Some(self.kube_router.start(self.node()?)?);
        Ok(())
    }

    /// Deletes kube-router's DaemonSet, and ends its process as the kubelet would.
    pub(crate) fn delete_kube_router(&mut self) -> Result<()> {
        self.control_plane.objects()?.delete(&[kube_router::daemon_set()])?;
        self.other.take().context("kube-router does not run")?.end()
    }

    /// Starts the agent.
    pub(crate) fn start_agent(&mut self, flags: &[&str]) -> Result<()> {
        let pages = PAGES.to_string();
        let own = [
            ["--http-addr", &pages],
            ["--flows-socket", ""],
            ["--status-socket", ""],
            ["--log-format", "text"],
        ];
        let mut words: Vec<String> =
            ["run"].into_iter().chain(own.into_iter().flatten()).map(str::to_owned).collect();
        words.extend(self.flags_of_agent()?);
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let log = self.settings.directory.join("agent.log");
        self.agent =
            Some(RunningProgram::start("the agent", self.node()?, &self.settings.program, &words, log)?);
        Ok(())
    }

    /// Ends the agent. Its rules stay in force.
    pub(crate) fn end_agent(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.end()
    }

    /// The flags of the agent that `verify` must be given as well.
    fn flags_of_agent(&self) -> Result<Vec<String>> {
        let kubeconfig = self.control_plane.kubeconfig(Who::Daemon, PORT)?.display().to_string();
        let results = self.testbed.cni_results_dir(NODE).display().to_string();
        let backend = self.settings.backend.name();
        let flags = [
            ["--kubeconfig", &kubeconfig],
            ["--node-name", NODE],
            ["--backend", backend],
            ["--cni-results-dir", &results],
        ];
        Ok(flags.into_iter().flatten().map(str::to_owned).collect())
    }

    /// Waits until the agent is ready.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let node = self.node()?.clone();
        let agent = self.agent.as_mut().context("no agent runs")?;
        loop {
            let page = http::get(&node, PAGES, "/readyz", PATIENCE);
            if page.as_ref().is_ok_and(|page| page.status == 200) {
                return Ok(());
            }
            agent.runs()?;
            let late = begun.elapsed() > DEADLINE;
            ensure!(!late, "the agent is not ready after {DEADLINE:?}: {page:?}\n{}", agent.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `bridgewarden migrate` says, with these further flags.
    pub(crate) fn migrate(&self, flags: &[&str]) -> Result<CommandOutput> {
        let kubeconfig = self.control_plane.kubeconfig(Who::Admin, PORT)?.display().to_string();
        let backend = self.settings.backend.name();
        self.command(&[&["migrate", "--backend", backend, "--kubeconfig", &kubeconfig], flags].concat())
    }

    /// What `bridgewarden verify` says, with the agent's flags.
    pub(crate) fn verify(&self) -> Result<CommandOutput> {
        let flags = self.flags_of_agent()?;
        self.command(&["verify"].into_iter().chain(flags.iter().map(String::as_str)).collect::<Vec<_>>())
    }

    /// Runs a command of `bridgewarden` on the node.
    pub(crate) fn command(&self, words: &[&str]) -> Result<CommandOutput> {
        // migrate starts kubectl, which keeps its cache in the home directory.
        let path = env::var("PATH").unwrap_or_default();
        let mut command = Command::new(&self.settings.program);
        command.args(words).env("PATH", format!("{}:{path}", self.settings.programs.display()));
        command.env("KUBECACHEDIR", self.settings.directory.join("kubectl"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.node()?.spawn(&mut command)?.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(CommandOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Starts to dial every pair.
    pub(crate) fn probe(&self) -> Result<ChangeProbes> {
        ChangeProbes::start(connection_pair::pairs(), PERIOD, |pod| self.testbed.pod_namespace(pod).cloned())
    }

    /// Waits until connections are as policies say.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let begun = Instant::now();
        let pairs = connection_pair::pairs();
        let probe = |pair: &ConnectionPair| {
            let (ip, port) = (pair.destination.ip(), pair.destination.port());
            Probe::new(Endpoint::Pod(pair.from.clone()), ip, bridgewarden::net::Protocol::Tcp, port)
        };
        let probes: Vec<Probe> = pairs.iter().map(probe).collect();
        loop {
            let outcomes = self.testbed.probe_all(&probes);
            let wrong: Vec<String> = pairs
                .iter()
                .zip(&outcomes)
                .filter(|(pair, outcome)| (**outcome == ProbeOutcome::Open) != pair.is_allowed)
                .map(|(ConnectionPair { from, to, destination, .. }, outcome)| {
                    format!("{from} -> {to} ({destination}) is {outcome}")
                })
                .collect();
            if wrong.is_empty() {
                return Ok(());
            }
            if let Some(other) = self.other.as_mut() {
                other.runs()?;
            }
            if begun.elapsed() > DEADLINE {
                bail!("not enforced within {DEADLINE:?}:\n{}\n{}", wrong.join("\n"), self.logs());
            }
        }
    }

    /// The ends of the logs of what runs.
    pub(crate) fn logs(&self) -> String {
        let logs = self.other.iter().chain(&self.agent).map(RunningProgram::log);
        logs.collect::<Vec<_>>().join("\n---\n")
    }

    /// Writes a report into the trial's directory, and to stderr.
    pub(crate) fn note(&self, name: &str, report: &str) -> Result<()> {
        let path: &Path = &self.settings.directory.join(name);
        fs::write(path, report).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(std::io::stderr(), "{report}").context("cannot write to stderr")
    }

    /// Ends everything and removes it.
    pub(crate) fn remove(self) -> Result<()> {
        let ChangeTest { agent, other, control_plane, testbed, .. } = self;
        drop((agent, other, control_plane));
        Ok(testbed.remove()?)
    }
}
