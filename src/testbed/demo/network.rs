//! The testbed with its agents and files, and the order in which they are removed.

use super::agent::AgentProcess;
use super::changes::PodChanges;
use super::cluster::DemoCluster;
use super::dir::DemoDir;
use super::measure::measure;
use super::question::{ExpectedOutcome, Finding, connections, questions};
use super::stop::Stop;
use crate::explain::oracle::World;
use crate::testbed::{Layout, PodPlacement, Port, Testbed};
use anyhow::{Context, Result};

/// Everything that was created. Dropping it removes it: the agents first, then the network, then the files.
#[derive(Debug)]
pub(super) struct DemoNetwork {
    agents: Vec<AgentProcess>,
    /// The network.
    pub(super) testbed: Testbed,
    /// The files.
    pub(super) dir: DemoDir,
    outside_listens: Vec<Port>,
    nodes: Vec<String>,
}

impl DemoNetwork {
    /// Builds the network of a cluster; nothing is enforced in it yet.
    pub(super) fn build(id: &str, cluster: &DemoCluster, dir: DemoDir) -> Result<DemoNetwork> {
        let layout = Layout::new(cluster.nodes(), cluster.places.clone());
        let testbed = Testbed::build(id, &layout).context("cannot build the testbed")?;
        let Layout { outside_listens, nodes, .. } = layout;
        Ok(DemoNetwork { agents: Vec::new(), testbed, dir, outside_listens, nodes })
    }

    /// The nodes' names.
    pub(super) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Starts an agent on every node, and waits until all enforce.
    pub(super) fn start_agents(&mut self, backend: &str, stop: &Stop) -> Result<()> {
        for (node, number) in self.nodes.iter().zip(1..) {
            let Some(namespace) = self.testbed.node_namespace(node) else { continue };
            let (manifests, log) = (self.dir.manifests(), self.dir.log(number));
            let results = self.testbed.cni_results_dir(node);
            self.agents.push(AgentProcess::start(node, namespace, [&manifests, &results], backend, log)?);
        }
        self.agents.iter_mut().try_for_each(|agent| agent.wait_until_ready(stop))
    }

    /// Checks that the agents run.
    pub(super) fn check_agents(&mut self) -> Result<()> {
        self.agents.iter_mut().try_for_each(AgentProcess::check)
    }

    /// All connections between the pods, with their expected outcomes.
    pub(super) fn questions(&self, world: &World) -> Result<Vec<ExpectedOutcome>> {
        let places: Vec<PodPlacement> = self.testbed.pods().cloned().collect();
        questions(world, connections(&places, &self.outside_listens))
            .context("the oracle cannot decide a connection")
    }

    /// Measures connections.
    pub(super) fn measure(&self, questions: &[ExpectedOutcome], stop: &Stop) -> Result<Vec<Finding>> {
        Ok(measure(&self.testbed, questions, stop)?)
    }

    /// Changes the pods; returns a line for each change, also for those that could not be made.
    pub(super) fn change_pods(&mut self, cluster: &DemoCluster) -> Vec<String> {
        let there: Vec<PodPlacement> = self.testbed.pods().cloned().collect();
        let changes = PodChanges::between(&there, &cluster.places);
        let mut lines = Vec::new();
        let mut report = |done: Result<(), _>, what: String| match done {
            Ok(()) => lines.push(what),
            Err(error) => lines.push(format!("{what}: failed: {error}")),
        };
        for pod in &changes.leaving {
            report(self.testbed.remove_pod(pod), format!("pod {pod} has gone"));
        }
        for place in &changes.arriving {
            report(self.testbed.add_pod(place), format!("pod {} has come to {}", place.pod, place.node));
        }
        for (pod, ports) in &changes.listening {
            report(self.testbed.set_listens(pod, ports), format!("pod {pod} listens on other ports"));
        }
        lines
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Lists what could not be removed.
    pub(super) fn remove(self) -> Result<()> {
        let DemoNetwork { mut agents, testbed, dir, .. } = self;
        AgentProcess::end_all(&mut agents);
        let removed = testbed.remove();
        drop(dir);
        Ok(removed?)
    }
}
