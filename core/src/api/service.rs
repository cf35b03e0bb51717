//! v1 Service.

use super::{IntOrString, ObjectMeta};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A v1 Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its specification.
    pub spec: ServiceSpec,
    /// Its status.
    pub status: ServiceStatus,
}

/// ServiceStatus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its load balancer.
    pub load_balancer: LoadBalancerStatus,
}

/// LoadBalancerStatus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where it takes connections.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// LoadBalancerIngress.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// Its address, unless it has a host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

/// ServiceSpec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`; absent means `ClusterIP`.
    #[serde(rename = "type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// `Local` if a connection from outside keeps its source address; otherwise a node may put its own in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// Labels that its pods must all have; without any, its endpoints are not pods that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<BTreeMap<String, String>>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its first address; `None` in text for a headless Service.
    #[serde(rename = "clusterIP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// All of its addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Addresses outside that lead to its nodes.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
}

/// ServicePort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name in the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The port of the Service.
    pub port: i64,
    /// The port of its pods, by number or by name; `port` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// The port by which every node leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i64>,
}
