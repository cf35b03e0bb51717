//! networking.k8s.io/v1 NetworkPolicy. The API distinguishes absent lists from empty ones, so lists that may be absent
//! are `Option`.

use super::{IntOrString, ObjectMeta};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of a policy, at any level below its metadata.
pub trait Part {
    /// Keys that this version of the API does not have. If there are any, the meaning of the part is unknown.
    fn unknown(&self) -> &UnknownFields;
}

/// Declares a part of a policy. Every part is declared by this macro, so none can omit the field for unknown keys.
macro_rules! part {
    ($(#[$about:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $($fields)*
            /// Keys that this version of the API does not have. If there are any, the meaning of the part is unknown.
            #[serde(flatten, skip_serializing)]
            pub unknown: UnknownFields,
        }

        impl Part for $name {
            fn unknown(&self) -> &UnknownFields {
                &self.unknown
            }
        }
    };
}

/// A networking.k8s.io/v1 NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its specification.
    pub spec: NetworkPolicySpec,
}

part! {
    /// NetworkPolicySpec.
    pub struct NetworkPolicySpec {
        /// The pods of the policy's namespace that it applies to; an empty selector selects all.
        pub pod_selector: LabelSelector,
        /// The ingress rules: which sources may reach these pods.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ingress: Option<Vec<NetworkPolicyIngressRule>>,
        /// The egress rules: which destinations these pods may reach.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub egress: Option<Vec<NetworkPolicyEgressRule>>,
        /// `Ingress`, `Egress` or both.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub policy_types: Option<Vec<String>>,
    }
}

part! {
    /// NetworkPolicyIngressRule.
    pub struct NetworkPolicyIngressRule {
        /// Sources; absent or empty means every source.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub from: Option<Vec<NetworkPolicyPeer>>,
        /// Ports; absent or empty means every port.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ports: Option<Vec<NetworkPolicyPort>>,
    }
}

part! {
    /// NetworkPolicyEgressRule.
    pub struct NetworkPolicyEgressRule {
        /// Destinations; absent or empty means every destination.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub to: Option<Vec<NetworkPolicyPeer>>,
        /// Ports; absent or empty means every port.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ports: Option<Vec<NetworkPolicyPort>>,
    }
}

part! {
    /// NetworkPolicyPeer.
    pub struct NetworkPolicyPeer {
        /// Selects pods by label, in the policy's namespace or in those that `namespaceSelector` selects.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pod_selector: Option<LabelSelector>,
        /// Selects namespaces by label.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub namespace_selector: Option<LabelSelector>,
        /// A range of addresses; cannot be combined with the selectors.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ip_block: Option<IpBlock>,
    }
}

part! {
    /// IPBlock.
    pub struct IpBlock {
        /// The prefix, such as `192.168.1.0/24`.
        pub cidr: String,
        /// Prefixes inside `cidr` that are excluded.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub except: Option<Vec<String>>,
    }
}

part! {
    /// NetworkPolicyPort.
    pub struct NetworkPolicyPort {
        /// `TCP` when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub protocol: Option<String>,
        /// A number or a container port's name; absent means every port of the protocol.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub port: Option<IntOrString>,
        /// The last port of a range that begins at a numeric `port`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub end_port: Option<i64>,
    }
}

part! {
    /// metav1.LabelSelector.
    pub struct LabelSelector {
        /// Labels that an object must all have.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub match_labels: Option<BTreeMap<String, String>>,
        /// Requirements that an object must all meet.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
    }
}

part! {
    /// metav1.LabelSelectorRequirement.
    pub struct LabelSelectorRequirement {
        /// The label's key.
        pub key: String,
        /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
        pub operator: String,
        /// Values for `In` and `NotIn`; none for the others.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub values: Option<Vec<String>>,
    }
}

/// The keys of an object that this program does not know.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct UnknownFields(BTreeMap<String, IgnoredAny>);

impl UnknownFields {
    /// The first unknown key, if there is one.
    pub fn first(&self) -> Option<&str> {
        self.keys().next()
    }

    /// All of them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
