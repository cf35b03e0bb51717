//! What a step does to the cluster.

use crate::cluster::{Labels, ScenarioPod};
use crate::key::ObjectKey;
use anyhow::Error;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Makes policies, or changes them: the API's NetworkPolicySpec by name.
    Apply(BTreeMap<ObjectKey, Value>),
    /// Deletes policies.
    Delete(Vec<ObjectKey>),
    /// Makes pods, and waits until they run.
    Create(BTreeMap<ObjectKey, ScenarioPod>),
    /// Deletes pods, and waits until they are gone.
    Remove(Vec<ObjectKey>),
    /// Begins to delete pods, which go on running for as long as they may.
    Terminate(Vec<ObjectKey>),
    /// Lets pods' programs end well. The pods stay in the API, and their addresses are free.
    Finish(Vec<ObjectKey>),
    /// Gives pods or namespaces these labels, and takes the others.
    Relabel(BTreeMap<RelabelTarget, Labels>),
    /// Begins to delete namespaces; their pods go on running for as long as they may.
    TerminateNamespaces(Vec<String>),
    /// Waits until namespaces that terminate are gone, without the patience their pods ask for.
    RemoveNamespaces(Vec<String>),
    /// Something happens to the agents of both nodes.
    Agents(AgentAct),
}

/// What happens to agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentAct {
    /// They end as asked, and new ones start.
    Restart,
    /// They are killed in the middle of whatever they do (SIGKILL), and new ones start.
    Kill,
    /// They end, and none start.
    Stop,
    /// They start again after a stop or a cleanup.
    Start,
    /// They end, and what they put into the kernel is taken out: `bridgewarden cleanup`, or the chart's `cleanup.enabled`.
    Cleanup,
}

/// Whose labels change: `namespace/pod`, or a namespace's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum RelabelTarget {
    /// A namespace.
    Namespace(String),
    /// A pod.
    Pod(ObjectKey),
}

impl TryFrom<String> for RelabelTarget {
    type Error = Error;

    fn try_from(text: String) -> Result<RelabelTarget, Error> {
        Ok(if text.contains('/') {
            RelabelTarget::Pod(text.parse()?)
        } else {
            RelabelTarget::Namespace(text)
        })
    }
}

impl Verb {
    /// Whether the change removes a pod's network.
    pub fn ends(&self, pod: &ObjectKey) -> bool {
        match self {
            Verb::Remove(pods) | Verb::Finish(pods) => pods.contains(pod),
            Verb::RemoveNamespaces(names) => names.contains(&pod.namespace),
            Verb::Apply(_)
            | Verb::Delete(_)
            | Verb::Create(_)
            | Verb::Terminate(_)
            | Verb::Relabel(_)
            | Verb::TerminateNamespaces(_)
            | Verb::Agents(_) => false,
        }
    }

    /// Whether pods that it does not name stay reachable as before.
    pub fn leaves_others_alone(&self) -> bool {
        match self {
            Verb::Create(_)
            | Verb::Remove(_)
            | Verb::Terminate(_)
            | Verb::Finish(_)
            | Verb::TerminateNamespaces(_)
            | Verb::RemoveNamespaces(_)
            | Verb::Agents(_) => true,
            Verb::Apply(_) | Verb::Delete(_) | Verb::Relabel(_) => false,
        }
    }
}
