//! The testbed with its controllers and files, and the order in which they go.

use super::cast::Cast;
use super::change::Recast;
use super::daemon::Daemon;
use super::measure::measure;
use super::question::{Finding, Question, connections, questions};
use super::stop::Stop;
use super::workplace::Workplace;
use crate::explain::oracle::World;
use crate::testbed::{Layout, PodPlacement, Port, Testbed};
use anyhow::{Context, Result};

/// Everything that was made. Dropping it removes it: the controllers first, then the network, then the files.
#[derive(Debug)]
pub(super) struct Stage {
    daemons: Vec<Daemon>,
    /// The network.
    pub(super) testbed: Testbed,
    /// The files.
    pub(super) workplace: Workplace,
    outside_listens: Vec<Port>,
    nodes: Vec<String>,
}

impl Stage {
    /// Builds the network of a cast; nothing is enforced in it.
    pub(super) fn build(id: &str, cast: &Cast, workplace: Workplace) -> Result<Stage> {
        let layout = Layout::new(cast.nodes(), cast.places.clone());
        let testbed = Testbed::build(id, &layout).context("cannot build the testbed")?;
        let Layout { outside_listens, nodes, .. } = layout;
        Ok(Stage { daemons: Vec::new(), testbed, workplace, outside_listens, nodes })
    }

    /// The nodes' names.
    pub(super) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Starts a controller on every node, and waits until all enforce.
    pub(super) fn start_controllers(&mut self, backend: &str, stop: &Stop) -> Result<()> {
        for (node, number) in self.nodes.iter().zip(1..) {
            let Some(namespace) = self.testbed.node_namespace(node) else { continue };
            let (manifests, log) = (self.workplace.manifests(), self.workplace.log(number));
            let results = self.testbed.cni_results_dir(node);
            self.daemons.push(Daemon::start(node, namespace, [&manifests, &results], backend, log)?);
        }
        self.daemons.iter_mut().try_for_each(|daemon| daemon.wait_until_ready(stop))
    }

    /// Makes sure that the controllers run.
    pub(super) fn check_controllers(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }

    /// The questions that can be asked of the pods that are there.
    pub(super) fn questions(&self, world: &World) -> Result<Vec<Question>> {
        let places: Vec<PodPlacement> = self.testbed.pods().cloned().collect();
        questions(world, connections(&places, &self.outside_listens))
            .context("the policies say nothing of a connection")
    }

    /// Asks the network.
    pub(super) fn measure(&self, questions: &[Question], stop: &Stop) -> Result<Vec<Finding>> {
        Ok(measure(&self.testbed, questions, stop)?)
    }

    /// Changes the pods; returns a line for each change, also for those that could not be made.
    pub(super) fn recast(&mut self, cast: &Cast) -> Vec<String> {
        let there: Vec<PodPlacement> = self.testbed.pods().cloned().collect();
        let recast = Recast::between(&there, &cast.places);
        let mut told = Vec::new();
        let mut tell = |done: Result<(), _>, what: String| match done {
            Ok(()) => told.push(what),
            Err(error) => told.push(format!("{what}: failed: {error}")),
        };
        for pod in &recast.leaving {
            tell(self.testbed.remove_pod(pod), format!("pod {pod} has gone"));
        }
        for place in &recast.arriving {
            tell(self.testbed.add_pod(place), format!("pod {} has come to {}", place.pod, place.node));
        }
        for (pod, ports) in &recast.listening {
            tell(self.testbed.set_listens(pod, ports), format!("pod {pod} listens on other ports"));
        }
        told
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Lists what could not be removed.
    pub(super) fn remove(self) -> Result<()> {
        let Stage { mut daemons, testbed, workplace, .. } = self;
        Daemon::end_all(&mut daemons);
        let removed = testbed.remove();
        drop(workplace);
        Ok(removed?)
    }
}
