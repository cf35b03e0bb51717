//! Asks the agents of other nodes through the user's own kubectl, so that every way to log in to a cluster works, and no agent
//! needs a port that is open to the network.
//!
//! Comes in: flags, and the words of a command. Goes out: what that command prints in each agent's container. An agent that cannot
//! be asked is an answer, too: its node is never left out.

mod kubectl;
mod pod;

pub(super) use kubectl::{Kubectl, KubectlOutput, not_started};
pub(super) use pod::{AgentPlace, AgentPod};

use super::duration::WaitTime;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many agents are asked at once.
const PARALLEL: usize = 16;
/// How long the API server may take for a list.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// The exit code after a signal, as shells have it for SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

/// Which agents to ask, and at which API server.
#[derive(Clone, Debug, Args)]
pub(super) struct AgentFlags {
    #[command(flatten)]
    pub(super) choice: AgentChoice,
    /// With --all or --node, the context of the kubeconfig
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// Reach the API server as this kubeconfig says
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
}

/// Which agents to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct AgentChoice {
    /// Ask the agents of all nodes, with kubectl. This needs the right to run commands in their pods (docs/status.md)
    #[arg(short = 'A', long)]
    all: bool,
    /// Ask the agent of this node, with kubectl. May be given several times
    #[arg(long, value_name = "NODE", conflicts_with = "all")]
    node: Vec<String>,
    /// With --all or --node, the namespace of the agents
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    agent_namespace: String,
    /// With --all or --node, the labels that the agents' pods have
    #[arg(long, value_name = "SELECTOR", default_value = "app.kubernetes.io/name=bridgewarden")]
    agent_selector: String,
    /// With --all or --node, how long one agent may take for its answer
    #[arg(long, value_name = "TIME", default_value = "60s")]
    node_timeout: WaitTime,
}

/// What came of asking one agent.
pub(super) struct NodeAnswer {
    pub(super) node: String,
    /// What the command printed, or why there is no answer.
    pub(super) answer: Result<KubectlOutput, String>,
}

impl AgentFlags {
    /// Whether agents are asked through kubectl, and not the one of this node.
    pub(super) fn are_given(&self) -> bool {
        self.choice.is_given()
    }

    /// kubectl, as the flags say.
    pub(super) fn kubectl(&self) -> Kubectl {
        self.choice.kubectl(self.context.as_deref(), self.kubeconfig.as_deref())
    }
}

impl AgentChoice {
    /// Whether agents are asked through kubectl, and not the one of this node.
    pub(super) fn is_given(&self) -> bool {
        self.all || !self.node.is_empty()
    }

    /// kubectl for the API server that has the agents.
    pub(super) fn kubectl(&self, context: Option<&str>, kubeconfig: Option<&Path>) -> Kubectl {
        Kubectl::new(context, kubeconfig, &self.agent_namespace)
    }

    /// How long one agent may take.
    pub(super) fn patience(&self) -> Duration {
        self.node_timeout.0
    }

    /// The agents that are meant, by node.
    ///
    /// # Errors
    /// They cannot be listed, or there are none.
    pub(super) async fn find(&self, kubectl: &Kubectl) -> Result<Vec<AgentPod>> {
        let (namespace, selector) = (&self.agent_namespace, &self.agent_selector);
        let what = || format!("cannot list the agents' pods ({selector}) in namespace {namespace}");
        let words = ["get", "pods", "--namespace", namespace, "--selector", selector, "--output", "json"];
        let listed = kubectl.get(&words, LIST_LIMIT).await.with_context(what)?;
        let all = pod::agents(&listed).with_context(what)?;
        if all.is_empty() {
            bail!(
                "there are no agents with the labels {selector} in namespace {namespace}; see --agent-namespace and --agent-selector"
            );
        }
        Ok(if self.all { all } else { chosen(all, &self.node) })
    }

    /// Runs a command of this program in the container of each agent, and returns all answers by node. `words` returns the command
    /// for an agent, or why it cannot be asked.
    pub(super) async fn ask(
        &self,
        kubectl: &Kubectl,
        agents: Vec<AgentPod>,
        patience: Duration,
        words: impl Fn(&AgentPlace) -> Result<Vec<String>, String>,
    ) -> Vec<NodeAnswer> {
        let free = Arc::new(Semaphore::new(PARALLEL));
        let mut asked = JoinSet::new();
        for AgentPod { node, place } in agents {
            let (kubectl, free) = (kubectl.clone(), free.clone());
            let words = place.and_then(|place| Ok(kubectl.words_in(&place, words(&place)?)));
            asked.spawn(async move {
                let turn = free.acquire_owned().await;
                let answer = match words {
                    Ok(words) => kubectl.run(&words, patience).await,
                    Err(why) => Err(why),
                };
                drop(turn);
                NodeAnswer { node, answer }
            });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            answers.extend(answer);
        }
        answers.sort_by(|one, other| one.node.cmp(&other.node));
        answers
    }
}

/// The agents of these nodes; a node without one has a reason instead.
fn chosen(all: Vec<AgentPod>, nodes: &[String]) -> Vec<AgentPod> {
    let mut wanted: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let mut chosen: Vec<AgentPod> =
        all.into_iter().filter(|agent| wanted.remove(agent.node.as_str())).collect();
    chosen.extend(
        wanted
            .into_iter()
            .map(|node| AgentPod { node: node.to_owned(), place: Err("no agent's pod is on it".to_owned()) }),
    );
    chosen.sort_by(|one, other| one.node.cmp(&other.node));
    chosen
}

/// Does work until it is done, or until a signal ends it; then `None`. Programs that the work has started end with it.
pub(super) fn until_signal<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            done = work => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })
}

/// Names a node without an answer on stderr.
pub(super) fn report_silent(node: &str, why: &str) {
    // Without a reader of stderr, the exit code still says it.
    writeln!(std::io::stderr(), "bridgewarden: no answer from node {node}: {why}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_without_an_agent_is_named_and_not_left_out() {
        let agent = |node: &str| AgentPod {
            node: node.into(),
            place: Ok(AgentPlace { pod: format!("agent-{node}"), arguments: Vec::new() }),
        };
        let nodes = ["node-c", "node-b"].map(str::to_owned);
        let chosen = chosen(vec![agent("node-a"), agent("node-b")], &nodes);
        let shown: Vec<_> = chosen.iter().map(|agent| (agent.node.as_str(), agent.place.is_ok())).collect();
        assert_eq!(shown, [("node-b", true), ("node-c", false)]);
    }
}
