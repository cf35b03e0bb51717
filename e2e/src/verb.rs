//! The changes that steps make to the cluster.

use crate::cluster::{Labels, ScenarioPod};
use crate::key::ObjectKey;
use anyhow::Error;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Creates or changes policies: the API's NetworkPolicySpec by name.
    Apply(BTreeMap<ObjectKey, Value>),
    /// Deletes policies.
    Delete(Vec<ObjectKey>),
    /// Creates pods, and waits until they run.
    Create(BTreeMap<ObjectKey, ScenarioPod>),
    /// Deletes pods, and waits until they are gone.
    Remove(Vec<ObjectKey>),
    /// Begins to delete pods, which continue to run for their grace period.
    Terminate(Vec<ObjectKey>),
    /// Makes pods' programs end successfully. The pods stay in the API, and their addresses are free.
    Finish(Vec<ObjectKey>),
    /// Sets the labels of pods or namespaces to exactly these.
    Relabel(BTreeMap<RelabelTarget, Labels>),
    /// Begins to delete namespaces; their pods continue to run for their grace period.
    TerminateNamespaces(Vec<String>),
    /// Waits until namespaces that are being deleted are gone, without waiting for the grace period of their pods.
    RemoveNamespaces(Vec<String>),
    /// Acts on the agents of both nodes.
    Agents(AgentAct),
}

/// An action on agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentAct {
    /// They end normally, and new ones start.
    Restart,
    /// They are killed (SIGKILL), and new ones start.
    Kill,
    /// They end, and no new ones start.
    Stop,
    /// They start again after a stop or a cleanup.
    Start,
    /// They end, and everything that they wrote to the kernel is removed: `bridgewarden cleanup`, or the chart's
    /// `cleanup.enabled`.
    Cleanup,
}

/// The object whose labels change: `namespace/pod`, or a namespace.
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
