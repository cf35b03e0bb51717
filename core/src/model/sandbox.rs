//! Pod sandboxes of this node, which are known before the API server reports their pods.

use super::{Hardware, SandboxKey};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The network of a pod of this node, as the container runtime created it before the pod's first process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sandbox {
    /// Its identity.
    pub key: SandboxKey,
    /// The pod's uid; `None` if the CNI result does not state it.
    pub uid: Option<Arc<str>>,
    /// Its addresses, without duplicates.
    pub addresses: Vec<IpAddr>,
    /// When it was created, since the Unix epoch. If two sandboxes claim an address, the later one has it.
    pub made: Duration,
    /// The devices on the node that its CNI result names. One of them is its port of the bridge.
    pub devices: Vec<Box<str>>,
    /// The Ethernet address of the pod's own interface, if its CNI result states it.
    pub hardware: Option<Hardware>,
}
