//! The Kubernetes objects, as slim as the work allows: only the fields that decide what a policy means.
//!
//! These types have the shape of the API and none of its rules: defaults and validation belong to `source::convert`.
//! They carry serde and nothing else, so that the oracle can read the API's own words without the compiler's help.

mod network_policy;
mod pod;

pub use network_policy::*;
pub use pod::*;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// ObjectMeta: who an object is.
#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// The object's name.
    pub name: String,
    /// Its namespace; absent for a Namespace, and for a manifest that means `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Set once deletion began; the object lives on until its finalizers are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The object's identity over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The version of the object as the server counts them; nothing but the server can compare two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// What it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_references: Option<Vec<OwnerReference>>,
    /// Those of its annotations that matter here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// OwnerReference: an object in the same namespace that another belongs to.
#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that made the object and looks after it.
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
    /// Who it is.
    pub metadata: ObjectMeta,
    /// How it fares.
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
    /// A number. Wider than a port, so that 70000 can be read and then refused by name.
    Int(i64),
    /// A name.
    String(String),
}
