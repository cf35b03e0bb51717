//! The state of the cluster at one point of a scenario: namespaces, pods and Services, as scenarios describe them.

use crate::key::ObjectKey;
use crate::verb::{RelabelTarget, Verb};
use anyhow::{Context, Error, Result, bail, ensure};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::Port;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use support::reach::Name;

/// Labels of a pod or namespace.
pub type Labels = BTreeMap<String, String>;

/// A pod, as a scenario describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScenarioPod {
    /// Its node.
    pub node: NodeName,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// The ports that it declares and listens on.
    #[serde(default)]
    pub ports: Vec<DeclaredPort>,
    /// Whether it shares its node's network.
    #[serde(default)]
    pub host_network: bool,
}

/// `node-a` or `node-b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeName {
    /// The first.
    NodeA,
    /// The second.
    NodeB,
}

impl NodeName {
    /// Both.
    pub const BOTH: [NodeName; 2] = [NodeName::NodeA, NodeName::NodeB];

    /// The name in scenarios.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeName::NodeA => "node-a",
            NodeName::NodeB => "node-b",
        }
    }
}

/// A port: `80/TCP`, or with a name `http=80/TCP`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DeclaredPort {
    /// The name by which policies can refer to it.
    pub name: Option<String>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl TryFrom<String> for DeclaredPort {
    type Error = Error;

    fn try_from(text: String) -> Result<DeclaredPort> {
        let form = || format!("`{text}` is no port: write 80/TCP or http=80/TCP");
        let (name, port) = match text.split_once('=') {
            Some((name, port)) => (Some(name.to_owned()), port),
            None => (None, text.as_str()),
        };
        let (number, protocol) = port.split_once('/').with_context(form)?;
        let protocol = Protocol::parse(protocol).with_context(form)?;
        Ok(DeclaredPort { name, protocol, number: number.parse().with_context(form)? })
    }
}

/// A Service: one address for some pods of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The labels that its pods have.
    pub selector: Labels,
    /// Its ports, the same as those of its pods.
    pub ports: Vec<DeclaredPort>,
}

/// The objects that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScenarioCluster {
    /// Namespaces and their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods that run.
    pub pods: BTreeMap<ObjectKey, ScenarioPod>,
    /// Services.
    pub services: BTreeMap<ObjectKey, Service>,
}

impl ScenarioCluster {
    /// Applies a change.
    ///
    /// # Errors
    /// The change refers to an object that does not exist, or creates one that does.
    pub fn follow(&mut self, verb: &Verb) -> Result<()> {
        match verb {
            Verb::Apply(policies) => policies.keys().try_for_each(|key| self.known(&key.namespace)),
            Verb::Delete(policies) => policies.iter().try_for_each(|key| self.known(&key.namespace)),
            Verb::Create(pods) => pods.iter().try_for_each(|(key, pod)| self.create(key, pod)),
            Verb::Terminate(pods) => pods.iter().try_for_each(|key| self.pod(key).map(drop)),
            Verb::Remove(pods) | Verb::Finish(pods) => pods.iter().try_for_each(|key| {
                self.pods.remove(key).map(drop).with_context(|| format!("there is no pod {key}"))
            }),
            Verb::Relabel(targets) => targets.iter().try_for_each(|(target, labels)| {
                *self.labels(target)? = labels.clone();
                Ok(())
            }),
            Verb::TerminateNamespaces(names) => names.iter().try_for_each(|name| self.known(name)),
            Verb::RemoveNamespaces(names) => names.iter().try_for_each(|name| {
                self.pods.retain(|key, _| key.namespace != *name);
                self.namespaces
                    .remove(name)
                    .map(drop)
                    .with_context(|| format!("there is no namespace {name}"))
            }),
            Verb::Agents(_) => Ok(()),
        }
    }

    /// Checks that an endpoint of a table exists, and listens on a port if one is given.
    ///
    /// # Errors
    /// A message that says what is missing.
    pub fn check(&self, name: &Name, port: Option<Port>) -> Result<()> {
        let declares = |ports: &[DeclaredPort]| {
            port.is_none_or(|port| ports.iter().any(|own| (own.protocol, own.number) == port))
        };
        let listens = match name {
            Name::Pod { namespace, name } => declares(&self.pod(&ObjectKey::new(namespace, name))?.ports),
            Name::Service { namespace, name } => {
                let key = ObjectKey::new(namespace, name);
                declares(
                    &self.services.get(&key).with_context(|| format!("there is no Service {key}"))?.ports,
                )
            }
            Name::Node(_) => port.is_none(),
            Name::Outside | Name::Stranger(_) => port.is_none_or(|port| outside_listens().contains(&port)),
        };
        ensure!(listens, "{name} does not listen on that port");
        Ok(())
    }

    /// The pods behind a Service.
    pub fn behind(&self, service: &ObjectKey) -> BTreeSet<&ObjectKey> {
        let Some(selector) = self.services.get(service).map(|service| &service.selector) else {
            return BTreeSet::new();
        };
        let selected =
            |pod: &ScenarioPod| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        let pods = self.pods.iter().filter(|(key, pod)| key.namespace == service.namespace && selected(pod));
        pods.map(|(key, _)| key).collect()
    }

    fn create(&mut self, key: &ObjectKey, pod: &ScenarioPod) -> Result<()> {
        self.known(&key.namespace)?;
        ensure!(self.pods.insert(key.clone(), pod.clone()).is_none(), "there is a pod {key} already");
        Ok(())
    }

    fn known(&self, namespace: &str) -> Result<()> {
        ensure!(self.namespaces.contains_key(namespace), "there is no namespace {namespace}");
        Ok(())
    }

    fn pod(&self, key: &ObjectKey) -> Result<&ScenarioPod> {
        self.pods.get(key).with_context(|| format!("there is no pod {key}"))
    }

    fn labels(&mut self, target: &RelabelTarget) -> Result<&mut Labels> {
        match target {
            RelabelTarget::Namespace(name) => match self.namespaces.get_mut(name) {
                Some(labels) => Ok(labels),
                None => bail!("there is no namespace {name}"),
            },
            RelabelTarget::Pod(key) => match self.pods.get_mut(key) {
                Some(pod) => Ok(&mut pod.labels),
                None => bail!("there is no pod {key}"),
            },
        }
    }
}

/// The ports on which the host outside listens.
pub fn outside_listens() -> Vec<Port> {
    let ports = support::topology::OUTSIDE_PORTS.into_iter();
    ports.flat_map(|port| [(Protocol::Tcp, port), (Protocol::Udp, port)]).collect()
}
