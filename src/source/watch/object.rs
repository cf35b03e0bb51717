//! The API's objects as kube asks for them: their own shape, and the metadata that a watch goes by.

use crate::api::{self, ObjectMeta};
use crate::model::{Change, NamespaceName, PodKey, PolicyKey};
use crate::source::fact::Key;
use crate::source::lower;
use kube::core::DynamicResourceScope;
use kube::core::metadata::ObjectMeta as KubeMeta;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt::Debug;

/// A kind of object that is watched.
pub(super) trait Listed: Clone + Debug + Send + Sync + 'static {
    /// The API group, version, kind and plural.
    const NAMES: [&'static str; 4];

    /// Reads an object.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    fn metadata(&self) -> &ObjectMeta;
    /// The fact that the object is there, and is so.
    fn change(&self) -> Change;
    fn key(&self) -> Key;
}

impl Listed for api::Namespace {
    const NAMES: [&'static str; 4] = ["", "v1", "Namespace", "namespaces"];

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        api::Namespace::deserialize(deserializer)
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> Change {
        Change::Namespace(lower::namespace(self))
    }

    fn key(&self) -> Key {
        Key::Namespace(NamespaceName::new(&self.metadata.name))
    }
}

impl Listed for api::Pod {
    const NAMES: [&'static str; 4] = ["", "v1", "Pod", "pods"];

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        api::Pod::deserialize(deserializer)
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> Change {
        Change::Pod(lower::pod(self).0)
    }

    fn key(&self) -> Key {
        Key::Pod(PodKey::new(lower::namespace_of(&self.metadata), &self.metadata.name))
    }
}

/// A policy as it was read: if its parts do not have the API's shape, at least who it is.
#[derive(Clone, Debug)]
pub(super) struct Read {
    policy: api::NetworkPolicy,
    fault: Option<String>,
}

impl Listed for Read {
    const NAMES: [&'static str; 4] = ["networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"];

    // kube passes over an object that cannot be read, but a policy that is not understood must isolate.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match api::NetworkPolicy::deserialize(&value) {
            Ok(policy) => Ok(Read { policy, fault: None }),
            Err(error) => {
                let metadata: Named = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
                let policy = api::NetworkPolicy { metadata: metadata.metadata, ..Default::default() };
                Ok(Read { policy, fault: Some(error.to_string()) })
            }
        }
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.policy.metadata
    }

    fn change(&self) -> Change {
        Change::Policy(match &self.fault {
            None => lower::policy(&self.policy),
            Some(fault) => lower::unreadable_policy(&self.policy.metadata, fault),
        })
    }

    fn key(&self) -> Key {
        let metadata = &self.policy.metadata;
        Key::Policy(PolicyKey::new(lower::namespace_of(metadata), &metadata.name))
    }
}

#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

/// An object with the metadata that a watch goes by.
#[derive(Clone, Debug)]
pub(super) struct Object<T> {
    object: T,
    meta: KubeMeta,
}

impl<T: Listed> Object<T> {
    pub(super) fn change(&self) -> Change {
        self.object.change()
    }

    pub(super) fn key(&self) -> Key {
        self.object.key()
    }
}

impl<'de, T: Listed> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::read(deserializer)?;
        let from = object.metadata();
        let meta = KubeMeta {
            name: Some(from.name.clone()),
            namespace: from.namespace.clone(),
            resource_version: from.resource_version.clone(),
            ..KubeMeta::default()
        };
        Ok(Object { object, meta })
    }
}

impl<T: Listed> kube::Resource for Object<T> {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn group((): &()) -> Cow<'_, str> {
        T::NAMES[0].into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::NAMES[1].into()
    }

    fn kind((): &()) -> Cow<'_, str> {
        T::NAMES[2].into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::NAMES[3].into()
    }

    fn meta(&self) -> &KubeMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut KubeMeta {
        &mut self.meta
    }
}
