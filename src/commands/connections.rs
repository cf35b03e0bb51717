//! Asks agents for the live connections of their nodes' pods.

use super::agent_socket;
use super::agents::{AgentChoice, AgentPlace, Kubectl, KubectlOutput, NodeAnswer, until_signal};
use super::flags::STATUS_SOCKET;
use crate::flow::LiveFlows;
use crate::status::StatusQuestion;
use anyhow::Result;
use std::path::Path;

/// What agents answered.
#[derive(Debug, Default)]
pub(super) struct ConnectionAnswers {
    pub(super) nodes: Vec<LiveFlows>,
    /// The nodes without an answer, and why.
    pub(super) silent: Vec<(String, String)>,
}

/// The connections of this node's pods, as the agent at this socket knows them.
pub(super) fn of_this_node(socket: &Path) -> Result<ConnectionAnswers> {
    let flows = agent_socket::ask(socket, &StatusQuestion::Connections)?;
    Ok(ConnectionAnswers { nodes: vec![flows], silent: Vec::new() })
}

/// The same of the nodes that are meant. `None` if a signal ended it.
pub(super) fn of_nodes(choice: &AgentChoice, kubectl: &Kubectl) -> Result<Option<ConnectionAnswers>> {
    let asked = until_signal(async {
        let agents = choice.find(kubectl).await?;
        Ok(choice.ask(kubectl, agents, choice.patience(), words).await)
    })?;
    Ok(asked.map(|answers| {
        let mut all = ConnectionAnswers::default();
        for NodeAnswer { node, answer } in answers {
            match answer.and_then(|finished| answered(&finished)) {
                Ok(flows) => all.nodes.push(flows),
                Err(why) => all.silent.push((node, why)),
            }
        }
        all
    }))
}

/// The command that asks an agent in its own container.
fn words(place: &AgentPlace) -> Result<Vec<String>, String> {
    let socket = place.socket("status-socket", STATUS_SOCKET)?;
    let words = ["status", "--connections", "--output=json"].map(str::to_owned);
    Ok(words.into_iter().chain([format!("--socket={socket}")]).collect())
}

fn answered(finished: &KubectlOutput) -> Result<LiveFlows, String> {
    if finished.code != Some(0) {
        return Err(finished.complaint());
    }
    serde_json::from_slice(&finished.stdout)
        .map_err(|error| format!("cannot read its connections: {error}; is the agent of another version?"))
}
