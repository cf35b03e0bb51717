//! By what a part of a rule misses an end of a connection.

use crate::model::{Labels, NamespaceName, NamespaceScope, PodKey, PortMatch, Requirement, Selector};
use crate::net::{IpNet, Protocol};
use std::fmt;
use std::net::IpAddr;

/// One thing by which a peer of a rule misses the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerDifference {
    /// A label of the pod.
    PodLabel {
        /// The pod.
        pod: PodKey,
        /// What is demanded.
        wanted: Requirement,
        /// The value that the pod has; `None` if it does not have the label.
        found: Option<Box<str>>,
    },
    /// A label of the pod's namespace.
    NamespaceLabel {
        /// The namespace.
        namespace: NamespaceName,
        /// What is demanded.
        wanted: Requirement,
        /// The value that the namespace has; `None` if it does not have the label.
        found: Option<Box<str>>,
    },
    /// The pod's namespace is not known, so neither are its labels.
    UnknownNamespace(NamespaceName),
    /// The pod's namespace, where the peer has no namespaceSelector.
    OtherNamespace {
        /// The pod.
        pod: PodKey,
        /// The policy's namespace, whose pods alone such a peer selects.
        own: NamespaceName,
    },
    /// A peer that selects pods, and an end that is none of the pod network.
    NoPod,
    /// A block does not hold the address.
    OutsideBlock {
        /// The block.
        cidr: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// An exception of a block holds the address.
    Excepted {
        /// The exception.
        except: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// A block, and an end of which no address is known.
    UnknownAddress,
}

/// By what a port of a rule misses the port of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortDifference {
    /// The protocol.
    Protocol(Protocol),
    /// The number.
    Number(u16),
    /// The destination declares the name for other ports, or for none.
    Declared(Vec<u16>),
}

/// The differences between a peer that selects pods, in a policy of namespace `own`, and a pod; none if it selects the pod.
pub(super) fn of_pod(
    own: &NamespaceName,
    scope: &NamespaceScope,
    selector: &Selector,
    pod: (&PodKey, &Labels),
    namespace: Option<&Labels>,
) -> Vec<PeerDifference> {
    let (key, labels) = pod;
    let mut differences = match scope {
        NamespaceScope::Own if key.namespace == *own => Vec::new(),
        NamespaceScope::Own => {
            vec![PeerDifference::OtherNamespace { pod: key.clone(), own: own.clone() }]
        }
        NamespaceScope::Matching(selector) => of_namespace(selector, &key.namespace, namespace),
    };
    differences.extend(lacking(selector, labels).map(|wanted| PeerDifference::PodLabel {
        pod: key.clone(),
        wanted: wanted.clone(),
        found: labels.get(&wanted.key).map(Into::into),
    }));
    differences
}

/// The differences between a selector of namespaces and one. Of a namespace whose object is not known, only the name is certain.
fn of_namespace(selector: &Selector, name: &NamespaceName, labels: Option<&Labels>) -> Vec<PeerDifference> {
    let Some(labels) = labels else {
        let selected = selector.selects_unknown_namespace(name);
        return if selected { Vec::new() } else { vec![PeerDifference::UnknownNamespace(name.clone())] };
    };
    let differences = lacking(selector, labels).map(|wanted| PeerDifference::NamespaceLabel {
        namespace: name.clone(),
        wanted: wanted.clone(),
        found: labels.get(&wanted.key).map(Into::into),
    });
    differences.collect()
}

/// The requirements of a selector that some labels do not meet.
pub(super) fn lacking<'a>(
    selector: &'a Selector,
    labels: &'a Labels,
) -> impl Iterator<Item = &'a Requirement> {
    selector.requirements().filter(|requirement| !requirement.holds(labels))
}

/// What is there instead of a label that is wanted: `app=db`, or `no label app`.
pub fn found_label(wanted: &Requirement, found: Option<&str>) -> String {
    let key = &wanted.key;
    found.map_or_else(|| format!("no label {key}"), |value| format!("{key}={value}"))
}

impl fmt::Display for PeerDifference {
    /// What is there, so that it can follow a description of the peer: `shop/web has app=web, not app=api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerDifference::PodLabel { pod, wanted, found } => {
                write!(f, "{pod} has {}, wanted: {wanted}", found_label(wanted, found.as_deref()))
            }
            PeerDifference::NamespaceLabel { namespace, wanted, found } => {
                let found = found_label(wanted, found.as_deref());
                write!(f, "namespace {namespace} has {found}, wanted: {wanted}")
            }
            PeerDifference::UnknownNamespace(namespace) => {
                write!(f, "the labels of namespace {namespace} are not known")
            }
            PeerDifference::OtherNamespace { pod, own } => {
                write!(f, "{pod} is not in {own}: without a namespaceSelector only pods of {own} match")
            }
            PeerDifference::NoPod => f.write_str("it is no pod of the pod network"),
            PeerDifference::OutsideBlock { cidr, address } => write!(f, "{cidr} does not hold {address}"),
            PeerDifference::Excepted { except, address } => {
                write!(f, "the exception {except} holds {address}")
            }
            PeerDifference::UnknownAddress => {
                f.write_str("its address is not known, so a block is taken not to hold it")
            }
        }
    }
}

/// What a port of a rule is, as users write it: `80/TCP`, `80-90/TCP`, `any TCP`, `http/TCP`.
pub fn port_text(port: &PortMatch) -> String {
    match port {
        PortMatch::Protocol(protocol) => format!("any {protocol}"),
        PortMatch::Numbered(protocol, range) if range.first() == range.last() => {
            format!("{}/{protocol}", range.first())
        }
        PortMatch::Numbered(protocol, range) => format!("{}-{}/{protocol}", range.first(), range.last()),
        PortMatch::Named(protocol, name) => format!("{name}/{protocol}"),
    }
}
