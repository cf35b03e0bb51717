//! v1 Node.

use super::ObjectMeta;
use serde::{Deserialize, Serialize};

/// A v1 Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Node {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status.
    pub status: NodeStatus,
}

/// NodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and host names.
    pub addresses: Vec<NodeAddress>,
}

/// NodeAddress.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, `InternalDNS` or `ExternalDNS`.
    #[serde(rename = "type")]
    pub address_type: String,
    /// The address, or a host name.
    pub address: String,
}
