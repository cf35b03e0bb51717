//! The fields of Kubernetes objects that decide what a policy means, and no others.
//!
//! These types have the shape of the API and none of its rules: defaults and validation belong to `source::convert`.
//! They depend on serde only, so that the oracle can read objects without using the compiler's code.

mod network_policy;
mod node;
mod pod;
mod service;
mod workload;

pub use network_policy::*;
pub use node::*;
pub use pod::*;
pub use service::*;
pub use workload::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// ObjectMeta: the identity of an object.
#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// The object's name.
    pub name: String,
    /// Its namespace; absent for a Namespace, and in a manifest that leaves it out and so means `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// When deletion began; the object still exists until its finalizers are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The uid, which distinguishes objects that have the same name one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Which state of the specification this is: the server counts its changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The server's version of the object. It is opaque: clients must not compare two versions by order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// The objects that own it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_references: Option<Vec<OwnerReference>>,
    /// Those of its annotations that decide what a policy means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// OwnerReference: an object in the same namespace that owns another.
#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether this owner is the controller of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
}

/// The annotations that decide what a policy means.
#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct Annotations {
    /// Set on the mirror of a static pod: the uid by which the kubelet and the container runtime know the pod.
    #[serde(rename = "kubernetes.io/config.mirror")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_mirror: Option<String>,
}

/// A v1 Namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Namespace {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status.
    pub status: NamespaceStatus,
}

/// NamespaceStatus.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

/// A port or target that the API writes as a number or as a name (intstr.IntOrString).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number. Wider than a port, so that a value such as 70000 can be read and then rejected with a message.
    Int(i64),
    /// A name.
    String(String),
}
