//! networking.k8s.io/v1 NetworkPolicy. Absent and empty differ in this API, so lists that may be absent are `Option`.

use super::{IntOrString, ObjectMeta};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of a policy, at any level below its metadata.
pub trait Part {
    /// Keys that this version of the API does not have: the part is not understood.
    fn unknown(&self) -> &UnknownFields;
}

/// Declares a part of a policy. Every one of them is declared so, and none can forget the keys that it does not know.
macro_rules! part {
    ($(#[$about:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $($fields)*
            /// Keys that this version of the API does not have: the part is not understood.
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
    /// Who it is.
    pub metadata: ObjectMeta,
    /// What it demands.
    pub spec: NetworkPolicySpec,
}

part! {
    /// NetworkPolicySpec.
    pub struct NetworkPolicySpec {
        /// Which pods of the policy's namespace it applies to; empty selects all.
        pub pod_selector: LabelSelector,
        /// Who may reach them.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ingress: Option<Vec<NetworkPolicyIngressRule>>,
        /// Whom they may reach.
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
        /// Pods by label, in the policy's namespace or those `namespaceSelector` selects.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pod_selector: Option<LabelSelector>,
        /// Namespaces by label.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub namespace_selector: Option<LabelSelector>,
        /// Addresses; excludes the selectors.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ip_block: Option<IpBlock>,
    }
}

part! {
    /// IPBlock.
    pub struct IpBlock {
        /// The prefix, such as `192.168.1.0/24`.
        pub cidr: String,
        /// Prefixes inside `cidr` that the block leaves out.
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
        /// Labels that must all be there.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub match_labels: Option<BTreeMap<String, String>>,
        /// Requirements that must all hold.
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

    /// Every one of them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
