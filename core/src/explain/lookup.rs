//! Finds what the names of a question mean in a cluster.

use super::case::AskedPort;
use super::question::{DestinationName, EndName, PortName};
use crate::model::{
    NamespaceName, Pod, PodKey, Service, ServiceKey, ServicePort, Snapshot, TargetPort, Workload,
};
use crate::net::{IpNet, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use thiserror::Error;

/// What a name means.
#[derive(Clone, Debug)]
pub(super) enum FoundName<'s> {
    /// A pod.
    Pod(&'s Pod),
    /// The pods of a workload, one of which every connection has at this end.
    Workload(Vec<&'s Pod>),
    /// The pods of a Service.
    Service(&'s Service, Vec<&'s Pod>),
    /// A node, by one of its addresses or by its name.
    Node(Arc<str>, Option<IpAddr>),
    /// An address of no pod, node or Service.
    Address(IpAddr),
    /// All addresses of a prefix.
    Block(IpNet),
}

/// Why a question about a cluster cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// There is no such object.
    #[error("there is no {what}{}", similar(.there))]
    NoSuch {
        /// What was looked for.
        what: String,
        /// Similar names.
        there: Vec<String>,
    },
    /// A workload or a Service has no pods.
    #[error("{what} has no pods: {why}")]
    NoPods {
        /// The object.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// The pod's containers have ended.
    #[error("{0} has finished: nothing of it sends or listens any more")]
    Finished(PodKey),
    /// A Service sends nothing by itself, and a question needs one of its ports.
    #[error("{service} {problem}. Its ports: {}", (.ports).join(", "))]
    ServicePort {
        /// The Service.
        service: String,
        /// What is wrong with the port.
        problem: String,
        /// Its ports, as a question can name them.
        ports: Vec<String>,
    },
    /// A pod does not declare the port.
    #[error("{pod} declares no port `{name}`{}", similar(.there))]
    PodPort {
        /// The pod.
        pod: PodKey,
        /// The port's name.
        name: String,
        /// The ports that it declares.
        there: Vec<String>,
    },
    /// A name of a port that stands for several of them.
    #[error("{what} has {} ports `{name}`: add a protocol, as in `:{name}/TCP`", (.ports).len())]
    AmbiguousPort {
        /// The pod.
        what: String,
        /// The port's name.
        name: String,
        /// Its ports.
        ports: Vec<String>,
    },
    /// An address does not declare ports.
    #[error("the port `{0}` needs a number: only pods and Services have names for ports")]
    NamedPortOfAddress(String),
    /// The ends share no family of addresses.
    #[error("{source_end} and {destination} have no family of addresses in common")]
    NoFamily {
        /// The source.
        source_end: String,
        /// The destination.
        destination: String,
    },
}

fn similar(there: &[String]) -> String {
    if there.is_empty() { String::new() } else { format!("; there is {}", there.join(", ")) }
}

/// Finds names in a cluster.
pub(super) struct Lookup<'s, 'q> {
    pub(super) snapshot: &'s Snapshot,
    /// The namespace of names that are written without one.
    pub(super) namespace: &'q NamespaceName,
}

impl<'s> FoundName<'s> {
    /// Its pods.
    pub(super) fn pods(&self) -> &[&'s Pod] {
        match self {
            FoundName::Pod(pod) => std::slice::from_ref(pod),
            FoundName::Workload(pods) | FoundName::Service(_, pods) => pods,
            FoundName::Node(..) | FoundName::Address(_) | FoundName::Block(_) => &[],
        }
    }
}

impl<'s> Lookup<'s, '_> {
    /// What an end's name means.
    pub(super) fn end(&self, name: &EndName) -> Result<FoundName<'s>, LookupError> {
        match name {
            EndName::Address(address) => Ok(self.address(*address)),
            EndName::Block(block) if block.prefix_len() == block.max_prefix_len() => {
                Ok(self.address(block.addr()))
            }
            EndName::Block(block) => Ok(FoundName::Block(*block)),
            EndName::Object { namespace, kind, name } => {
                self.object(namespace.as_deref(), kind.as_deref(), name)
            }
        }
    }

    fn address(&self, address: IpAddr) -> FoundName<'s> {
        let services = || self.snapshot.services.values();
        let has = |service: &&Service| {
            service.addresses.contains(&address) || service.outer_addresses.contains(&address)
        };
        if let Some(service) = services().find(has) {
            return FoundName::Service(service, self.pods_of_service(service));
        }
        let node = self.snapshot.nodes.iter().find(|(_, known)| known.contains(&address));
        node.map_or(FoundName::Address(address), |(name, _)| FoundName::Node(name.clone(), Some(address)))
    }

    /// The Service to which a port of a node leads, with the Service's port.
    pub(super) fn behind_node_port(
        &self,
        found: &FoundName<'s>,
        asked: &DestinationName,
    ) -> Option<(&'s Service, DestinationName)> {
        let (FoundName::Node(..), Some(PortName::Number(asked_port))) = (found, &asked.port) else {
            return None;
        };
        let protocol = asked.protocol.unwrap_or(Protocol::Tcp);
        self.snapshot.services.values().find_map(|service| {
            let is_it =
                |port: &&ServicePort| port.node_port == Some(*asked_port) && port.protocol == protocol;
            let port = service.ports.iter().find(is_it)?;
            let (port, protocol) = (Some(PortName::Number(port.port)), Some(protocol));
            Some((service, DestinationName { end: asked.end.clone(), port, protocol }))
        })
    }

    fn object(
        &self,
        namespace: Option<&str>,
        kind: Option<&str>,
        name: &str,
    ) -> Result<FoundName<'s>, LookupError> {
        let place = namespace.map_or_else(|| self.namespace.clone(), NamespaceName::new);
        match kind {
            None => {
                let key = PodKey { namespace: place.clone(), name: name.into() };
                match (self.snapshot.pods.get(&key), namespace) {
                    (Some(pod), _) => Ok(FoundName::Pod(self.live(pod)?)),
                    (None, None) if self.snapshot.nodes.contains_key(name) => self.node(name),
                    (None, _) => Err(self.no_such("pod", &place, name)),
                }
            }
            Some("node") => self.node(name),
            Some("service") => {
                let key = ServiceKey { namespace: place.clone(), name: name.into() };
                let service = self.snapshot.services.get(&key);
                let service = service.ok_or_else(|| self.no_such("service", &place, name))?;
                let pods = self.pods_of_service(service);
                if pods.is_empty() {
                    let why = match service.selector {
                        None => "it has no selector; ask for the addresses of its endpoints",
                        Some(_) => "none has the labels that its selector demands",
                    };
                    return Err(LookupError::NoPods { what: format!("Service {}", service.key), why });
                }
                Ok(FoundName::Service(service, pods))
            }
            Some(kind) => {
                // With the kind as a namespace's name, it is a pod of it.
                if namespace.is_none()
                    && let Some(pod) = self.snapshot.pods.get(&PodKey::new(kind, name))
                {
                    return Ok(FoundName::Pod(self.live(pod)?));
                }
                let all: Vec<&Pod> = self.pods_of_workload(&place, kind, name).collect();
                if all.is_empty() {
                    return Err(self.no_such(kind, &place, name));
                }
                let live: Vec<&Pod> = all.into_iter().filter(|pod| !pod.finished).collect();
                if live.is_empty() {
                    let what = format!("{place}/{kind}/{name}");
                    return Err(LookupError::NoPods { what, why: "all of them have finished" });
                }
                Ok(FoundName::Workload(live))
            }
        }
    }

    fn live(&self, pod: &'s Pod) -> Result<&'s Pod, LookupError> {
        if pod.finished { Err(LookupError::Finished(pod.key.clone())) } else { Ok(pod) }
    }

    fn node(&self, name: &str) -> Result<FoundName<'s>, LookupError> {
        match self.snapshot.nodes.get_key_value(name) {
            Some((name, _)) => Ok(FoundName::Node(name.clone(), None)),
            None => {
                let there = nearest_names(name, self.snapshot.nodes.keys().map(|name| name.to_string()));
                Err(LookupError::NoSuch { what: format!("node {name}"), there })
            }
        }
    }

    pub(super) fn pods_of_service(&self, service: &Service) -> Vec<&'s Pod> {
        let pods = self.snapshot.pods_in(&service.key.namespace);
        pods.filter(|pod| !pod.finished && service.selects(pod)).collect()
    }

    fn pods_of_workload(
        &self,
        namespace: &NamespaceName,
        kind: &str,
        name: &str,
    ) -> impl Iterator<Item = &'s Pod> {
        self.snapshot.pods_in(namespace).filter(move |pod| {
            let workload = Workload::of(pod);
            let is = |own_kind: &str, own_name: &str| own_kind.eq_ignore_ascii_case(kind) && own_name == name;
            is(&workload.kind, &workload.name)
                || pod.owner.as_ref().is_some_and(|owner| is(&owner.kind, &owner.name))
        })
    }

    fn no_such(&self, what: &str, namespace: &NamespaceName, name: &str) -> LookupError {
        let pods: Vec<&Pod> = self.snapshot.pods_in(namespace).collect();
        if pods.is_empty() {
            let known: BTreeSet<String> =
                self.snapshot.pods.keys().map(|key| format!("namespace {}", key.namespace)).collect();
            let what = format!("pod in namespace {namespace}");
            let there = nearest_names(&format!("namespace {namespace}"), known.into_iter());
            return LookupError::NoSuch { what, there };
        }
        let candidates: BTreeSet<String> = match what {
            "service" => {
                let of = self.snapshot.services.keys().filter(|key| key.namespace == *namespace);
                of.map(|key| format!("{namespace}/svc/{}", key.name)).collect()
            }
            _ => pods.iter().flat_map(|pod| [pod.key.to_string(), Workload::of(pod).to_string()]).collect(),
        };
        let there = nearest_names(&format!("{namespace}/{name}"), candidates.into_iter());
        LookupError::NoSuch { what: format!("{what} {namespace}/{name}"), there }
    }

    /// The ports that a question about a pod is about.
    pub(super) fn port(
        &self,
        asked: &DestinationName,
        found: &FoundName<'s>,
        pod: Option<&Pod>,
    ) -> Result<AskedPort, LookupError> {
        if let (FoundName::Service(service, _), Some(pod)) = (found, pod) {
            return port_of_service(asked, service, pod);
        }
        match (&asked.port, asked.protocol, pod) {
            (None, None, _) => Ok(AskedPort::Any),
            (None, Some(protocol), _) => Ok(AskedPort::Of(protocol)),
            (Some(PortName::Number(port)), protocol, _) => {
                Ok(AskedPort::One(protocol.unwrap_or(Protocol::Tcp), *port))
            }
            (Some(PortName::Name(name)), _, None) => Err(LookupError::NamedPortOfAddress(name.clone())),
            (Some(PortName::Name(name)), protocol, Some(pod)) => named_port(pod, name, protocol),
        }
    }
}

/// The port that a pod declares under a name.
fn named_port(pod: &Pod, name: &str, protocol: Option<Protocol>) -> Result<AskedPort, LookupError> {
    let text = |port: &crate::model::NamedPort| format!("{} ({}/{})", port.name, port.port, port.protocol);
    let is_it = |port: &&crate::model::NamedPort| {
        *port.name == *name && protocol.is_none_or(|asked| asked == port.protocol)
    };
    let mut ports = pod.ports.iter().filter(is_it);
    match (ports.next(), ports.next()) {
        (Some(port), None) => Ok(AskedPort::One(port.protocol, port.port)),
        (None, _) => {
            let there = pod.ports.iter().map(text).collect();
            Err(LookupError::PodPort { pod: pod.key.clone(), name: name.to_owned(), there })
        }
        (Some(_), Some(_)) => {
            let ports = pod.ports.iter().filter(is_it).map(text).collect();
            let what = pod.key.to_string();
            Err(LookupError::AmbiguousPort { what, name: name.to_owned(), ports })
        }
    }
}

/// The port of a pod to which a Service leads the port of a question; its only one if none is asked for.
fn port_of_service(asked: &DestinationName, service: &Service, pod: &Pod) -> Result<AskedPort, LookupError> {
    let problem = |problem: String| {
        let text = |port: &ServicePort| match &*port.name {
            "" => format!("{}/{}", port.port, port.protocol),
            name => format!("{name} ({}/{})", port.port, port.protocol),
        };
        let ports = service.ports.iter().map(text).collect();
        LookupError::ServicePort { service: format!("Service {}", service.key), problem, ports }
    };
    let matching: Vec<_> = (service.ports.iter())
        .filter(|port| asked.protocol.is_none_or(|protocol| protocol == port.protocol))
        .filter(|port| match &asked.port {
            None => true,
            Some(PortName::Number(number)) => port.port == *number,
            Some(PortName::Name(name)) => *port.name == **name,
        })
        .collect();
    match matching[..] {
        [port] => match &port.target {
            TargetPort::Number(target) => Ok(AskedPort::One(port.protocol, *target)),
            TargetPort::Name(name) => named_port(pod, name, Some(port.protocol)),
        },
        [] => Err(problem("does not have this port".to_owned())),
        _ if asked.port.is_none() => Err(problem("has several ports: name one of them".to_owned())),
        _ => Err(problem("has this port for several protocols: add one, as in `:53/UDP`".to_owned())),
    }
}

/// The names that are most like one: those that contain it or share the longest beginning, up to five.
fn nearest_names(name: &str, all: impl Iterator<Item = String>) -> Vec<String> {
    const FEW: usize = 5;
    let shared =
        |other: &str| name.bytes().zip(other.bytes()).take_while(|(own, other)| own == other).count();
    let mut ranked: Vec<(bool, usize, String)> = all
        .map(|other| {
            let last = name.rsplit('/').next().unwrap_or(name);
            (!other.contains(last), usize::MAX - shared(&other), other)
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(FEW).map(|(_, _, name)| name).collect()
}
