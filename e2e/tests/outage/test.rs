//! Three nodes with a dozen pods, a control plane that knows ten thousand, and the means to partition them.

use crate::agent::{KernelState, NODES, NodeAgent};
use crate::cluster::{BACKGROUND_PODS, OutageCluster, PairCheck, background_objects};
use crate::continuous_check::report;
use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::{Layout, Netns, Probe, ProbeOutcome, Testbed};
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::control_plane::{ControlPlane, PORT, Relay, Who};
use support::program::output;

const ID: &str = "outage";
const CONTROL_PLANE: &str = "control-plane";
const SEED: u64 = 1;
/// The relay's port, on the control plane's address.
pub(crate) const RELAY: u16 = 6444;
/// The deadline for enforcement without an outage.
const CALM: Duration = Duration::from_secs(20);
/// How long an outage may last before agents become unready.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);

/// The programs to use, and where to write.
pub(crate) struct OutageSettings {
    /// The agent's program.
    pub(crate) program: PathBuf,
    /// The directory of `etcd` and `kube-apiserver`.
    pub(crate) programs: PathBuf,
    /// Logs and figures.
    pub(crate) directory: PathBuf,
}

/// The cluster under test. Fields are dropped in order: the agents end first.
pub(crate) struct OutageTest {
    pub(crate) agents: Vec<NodeAgent>,
    pub(crate) relay: Relay,
    pub(crate) control_plane: ControlPlane,
    pub(crate) testbed: Testbed,
    pub(crate) cluster: OutageCluster,
    settings: OutageSettings,
    figures: File,
}

impl OutageTest {
    /// Builds everything but the agents.
    pub(crate) fn start(settings: OutageSettings) -> Result<OutageTest> {
        let _ = fs::remove_dir_all(&settings.directory);
        fs::create_dir_all(&settings.directory).context("cannot make the directory of figures")?;
        let figures = File::create(settings.directory.join("figures")).context("cannot write figures")?;
        let cluster = OutageCluster::new();
        Testbed::sweep(ID)?;
        let nodes =
            NODES.map(|node| node.name).into_iter().chain([CONTROL_PLANE]).map(str::to_owned).collect();
        let testbed = Testbed::build(ID, &Layout::new(nodes, cluster.places()))?;
        let namespace = testbed.node_namespace(CONTROL_PLANE).context("there is no control plane")?;
        let address = testbed.node_addresses(CONTROL_PLANE).into_iter().find(IpAddr::is_ipv4);
        let address = address.context("the control plane has no address")?;
        let own = settings.directory.join(CONTROL_PLANE);
        let control_plane = ControlPlane::start(namespace, address, &settings.programs, &own)?;
        let relay = Relay::start(namespace, SocketAddr::new(address, RELAY), control_plane.address(), SEED)?;
        let mut test =
            OutageTest { agents: Vec::new(), relay, control_plane, testbed, cluster, settings, figures };
        let begun = Instant::now();
        test.control_plane.objects()?.create(&background_objects(SEED))?;
        test.control_plane.objects()?.create(&test.cluster.objects())?;
        test.note(&format!("{:.1} s to load {BACKGROUND_PODS} pods", begun.elapsed().as_secs_f64()))?;
        Ok(test)
    }

    /// Restarts the agents, connected to the API server at this port, and waits until they enforce its state.
    pub(crate) fn watch(&mut self, port: u16) -> Result<()> {
        self.agents.clear();
        let kubeconfig = self.control_plane.kubeconfig(Who::Daemon, port)?;
        for node in NODES {
            let namespace = self.testbed.node_namespace(node.name).context("there is no such node")?;
            let log = self.settings.directory.join(format!("{}.log", node.name));
            let agent = NodeAgent::start(node, namespace, &self.settings.program, &kubeconfig, log)?;
            self.agents.push(agent);
        }
        for agent in &self.agents {
            agent.is_ready()?;
        }
        self.settle(&self.cluster.questions(), CALM).map(drop)
    }

    /// Restarts the agents and checks that they change nothing: the kernels match the API server's state.
    pub(crate) fn is_as_the_server_says(&mut self) -> Result<()> {
        for agent in &self.agents {
            agent.rests()?;
        }
        let before = self.held()?;
        self.watch(PORT)?;
        for (before, agent) in before.iter().zip(&self.agents) {
            agent.rests()?;
            let moved = before.moved_to(&agent.held()?);
            ensure!(moved.is_empty(), "a new agent of {} changed\n{moved}\n{}", agent.node.name, agent.log());
        }
        Ok(())
    }

    /// The state of each node's kernel.
    pub(crate) fn held(&self) -> Result<Vec<KernelState>> {
        self.agents.iter().map(NodeAgent::held).collect()
    }

    /// Probes until every outcome is right, and returns when that was.
    pub(crate) fn settle(&self, questions: &[PairCheck], deadline: Duration) -> Result<Instant> {
        let begun = Instant::now();
        let mut left: Vec<&PairCheck> = questions.iter().collect();
        loop {
            let probes: Vec<Probe> = left.iter().map(|question| question.probe()).collect();
            let outcomes = self.testbed.probe_all(&probes);
            let now = Instant::now();
            let wrong = |(question, outcome): &(&PairCheck, ProbeOutcome)| {
                (*outcome == ProbeOutcome::Open) != question.open
            };
            let differing: Vec<_> = left.into_iter().zip(outcomes).filter(wrong).collect();
            if differing.is_empty() {
                return Ok(now);
            }
            if begun.elapsed() > deadline {
                let lines = differing.iter().map(|(question, outcome)| report(question, outcome));
                let lines = lines.collect::<Vec<_>>().join("\n");
                let logs: String = self.agents.iter().map(NodeAgent::log).collect();
                anyhow::bail!("not within {deadline:?}:\n{lines}\n{logs}");
            }
            left = differing.into_iter().map(|(question, _)| question).collect();
        }
    }

    /// Drops all packets between the control plane and the nodes.
    pub(crate) fn partition(&self) -> Result<Partition> {
        let address = self.control_plane.address().ip().to_string();
        let partition = Partition { router: self.testbed.router_namespace().clone(), address };
        partition.rule("-I").map(|()| partition)
    }

    /// Waits until every agent's `/readyz` reports that its last update of each resource is this old. It must stay ready for
    /// two minutes.
    pub(crate) fn wait_through_outage(&self, duration: Duration) -> Result<()> {
        let begun = Instant::now();
        for agent in &self.agents {
            while said_age(&agent.readiness()?.body) < Some(duration) {
                let page = agent.readiness()?;
                let fails_early = page.status != 200 && begun.elapsed() < OUTAGE_LIMIT;
                ensure!(!fails_early, "{} is not ready any more: {}", agent.node.name, page.body);
                let late = begun.elapsed() > duration + CALM;
                ensure!(!late, "{} says nothing of the outage: {}", agent.node.name, page.body);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    /// Waits until every agent has read this many lists of each resource, and returns when that was.
    pub(crate) fn listed(&self, lists: [f64; 3], deadline: Duration) -> Result<Instant> {
        let begun = Instant::now();
        for agent in &self.agents {
            while agent.lists()? != lists {
                let read = agent.lists()?;
                ensure!(begun.elapsed() < deadline, "{:?} lists and not {lists:?}:\n{}", read, agent.log());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(Instant::now())
    }

    /// Changes the API server's objects to this state.
    pub(crate) fn apply(&mut self, after: &OutageCluster) -> Result<()> {
        let diff = after.diff(&self.cluster);
        let objects = self.control_plane.objects()?;
        objects.delete(&diff.gone)?;
        objects.patch(&diff.relabelled)?;
        objects.create(&diff.new)?;
        self.cluster = after.clone();
        Ok(())
    }

    /// The agent's program.
    pub(crate) fn program(&self) -> &Path {
        &self.settings.program
    }

    /// Records a figure.
    pub(crate) fn note(&mut self, figure: &str) -> Result<()> {
        writeln!(self.figures, "{figure}").context("cannot write figures")?;
        writeln!(std::io::stderr(), "    {figure}").context("cannot write to stderr")
    }
}

/// The smallest age on a page, once it has all three.
fn said_age(page: &str) -> Option<Duration> {
    let ages = page.split(": last update ").skip(1).map(|rest| rest.split(' ').next()?.parse().ok());
    let ages: Vec<u64> = ages.collect::<Option<_>>()?;
    ages.iter().min().filter(|_| ages.len() == 3).copied().map(Duration::from_secs)
}

/// A network partition, which ends when this is dropped.
pub(crate) struct Partition {
    router: Netns,
    address: String,
}

impl Partition {
    fn rule(&self, act: &str) -> Result<()> {
        for side in ["-s", "-d"] {
            output(&self.router, &["iptables-nft", act, "FORWARD", side, &self.address, "-j", "DROP"])?;
        }
        Ok(())
    }

    /// Ends the partition, and returns when.
    pub(crate) fn join(self) -> Instant {
        drop(self);
        Instant::now()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.rule("-D").expect("rules that were made can be removed");
    }
}
