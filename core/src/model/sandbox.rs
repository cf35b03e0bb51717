//! What this node says of its pods before the API does.

use super::{Hardware, SandboxKey};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The network of a pod of this node, as the container runtime made it: it is there before the pod's first process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sandbox {
    /// Which one.
    pub key: SandboxKey,
    /// The pod's uid; `None` when the runtime did not say.
    pub uid: Option<Arc<str>>,
    /// Its addresses, each once.
    pub addresses: Vec<IpAddr>,
    /// When it was made, since the Unix epoch. Of two that claim one address, the later one has it.
    pub made: Duration,
    /// The devices on the node that its result names. One of them is its port of the bridge.
    pub devices: Vec<Box<str>>,
    /// The Ethernet address of the pod's own interface, if its result says it.
    pub hardware: Option<Hardware>,
}
