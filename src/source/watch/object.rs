//! The API's objects as kube needs them: their fields, and the metadata that a watch needs.
//!
//! Reading an object never fails: one that does not have the API's shape is reported with what is certain of it, so
//! that the list or watch that contains it continues.

use super::event::WatchEvent;
use crate::api::{self, ObjectMeta};
use crate::model::{Change, NamespaceName, PodKey, PolicyKey, UnreadablePod};
use crate::source::convert::object_key::ObjectKey;
use crate::source::convert::object_kind::ObjectKind;
use crate::source::convert::partial::{self, ObjectIdentity};
use crate::source::convert::{self, reason};
use kube::core::DynamicResourceScope;
use kube::core::metadata::ObjectMeta as KubeMeta;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::marker::PhantomData;

/// A kind of object that is watched.
pub(super) trait WatchedKind: Clone + Debug + Send + Sync + DeserializeOwned + 'static {
    /// The API group, version, kind and plural.
    const NAMES: [&'static str; 4];
    const KIND: ObjectKind;

    fn metadata(&self) -> &ObjectMeta;
    /// The change that reports the object's current state, and what is wrong if it cannot be read completely.
    fn change(&self) -> (Change, Option<String>);
    fn key(&self) -> ObjectKey;
}

impl WatchedKind for api::Namespace {
    const NAMES: [&'static str; 4] = ["", "v1", "Namespace", "namespaces"];
    const KIND: ObjectKind = ObjectKind::Namespace;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        (Change::Namespace(convert::namespace(self)), None)
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::Namespace(NamespaceName::new(&self.metadata.name))
    }
}

impl WatchedKind for api::Pod {
    const NAMES: [&'static str; 4] = ["", "v1", "Pod", "pods"];
    const KIND: ObjectKind = ObjectKind::Pod;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        let (pod, invalid_parts) = convert::pod(self);
        let mut faults = invalid_parts.iter();
        // The addresses of such a pod remain unknown, and so do the packets that are its own.
        if let Some(fault) = faults.find(|fault| fault.reason == reason::BAD_ADDRESS) {
            let unreadable =
                UnreadablePod { key: pod.key, uid: pod.uid, node: pod.node, addresses: pod.addresses };
            return (Change::PodUnreadable(unreadable), Some(fault.to_string()));
        }
        (Change::Pod(pod), None)
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::Pod(PodKey::new(convert::namespace_of(&self.metadata), &self.metadata.name))
    }
}

impl WatchedKind for api::NetworkPolicy {
    const NAMES: [&'static str; 4] = ["networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"];
    const KIND: ObjectKind = ObjectKind::NetworkPolicy;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        (Change::Policy(convert::policy(self)), None)
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::Policy(PolicyKey::new(convert::namespace_of(&self.metadata), &self.metadata.name))
    }
}

/// An object with the metadata that a watch needs.
#[derive(Clone, Debug)]
pub(super) struct WatchedObject<T> {
    read: Read<T>,
    meta: KubeMeta,
}

#[derive(Clone, Debug)]
enum Read<T> {
    Whole(T),
    /// What is wrong, and the JSON that can be read.
    Partial(String, Value),
}

impl<T: WatchedKind> WatchedObject<T> {
    /// The event that reports the object's current state.
    pub(super) fn applied(&self) -> WatchEvent {
        match &self.read {
            Read::Whole(object) => match object.change() {
                (change, None) => WatchEvent::Applied(Box::new(change)),
                (change, Some(fault)) => WatchEvent::Unreadable(Box::new(change), fault),
            },
            Read::Partial(fault, object) => match partial::change(T::KIND, object, fault) {
                Some(change) => WatchEvent::Unreadable(Box::new(change), fault.clone()),
                None => WatchEvent::Unidentified,
            },
        }
    }

    /// The event that reports the object's deletion.
    pub(super) fn deleted(&self) -> WatchEvent {
        match &self.read {
            Read::Whole(object) => WatchEvent::Deleted(object.key()),
            Read::Partial(fault, object) => match partial::change(T::KIND, object, fault) {
                Some(change) => WatchEvent::Deleted(ObjectKey::of(&change)),
                None => WatchEvent::Unidentified,
            },
        }
    }

    fn whole(object: T) -> WatchedObject<T> {
        let from = object.metadata();
        let meta = KubeMeta {
            name: Some(from.name.clone()),
            namespace: from.namespace.clone(),
            resource_version: from.resource_version.clone(),
            ..KubeMeta::default()
        };
        WatchedObject { read: Read::Whole(object), meta }
    }

    fn partial(fault: String, object: Value) -> WatchedObject<T> {
        let ObjectIdentity { name, namespace, resource_version, .. } = partial::identity(&object);
        let meta = KubeMeta { name, namespace, resource_version, ..KubeMeta::default() };
        WatchedObject { read: Read::Partial(fault, object), meta }
    }

    fn of(object: Value) -> WatchedObject<T> {
        match partial::read::<T>(T::KIND, object) {
            Ok(read) if read.metadata().name.is_empty() => {
                WatchedObject::partial("it has no name".to_owned(), Value::Null)
            }
            Ok(read) => WatchedObject::whole(read),
            Err((fault, object)) => WatchedObject::partial(fault, object),
        }
    }
}

impl<'de, T: WatchedKind> Deserialize<'de> for WatchedObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyObject(PhantomData))
    }
}

/// Reads an object as the server sends it, or the pair that
/// [`protobuf::Session`](crate::source::watch::protobuf::Session) makes of it. The pair is read without a buffer,
/// because there are many pods.
struct AnyObject<T>(PhantomData<T>);

impl<'de, T: WatchedKind> Visitor<'de> for AnyObject<T> {
    type Value = WatchedObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<WatchedObject<T>, A::Error> {
        let fault: Option<Value> = pair.next_element()?;
        let object = match fault {
            Some(Value::Null) => match pair.next_element::<T>()? {
                Some(object) => WatchedObject::whole(object),
                None => WatchedObject::partial("it is a list".to_owned(), Value::Null),
            },
            Some(Value::String(fault)) => {
                WatchedObject::partial(fault, pair.next_element()?.unwrap_or(Value::Null))
            }
            _ => WatchedObject::partial("it is a list".to_owned(), Value::Null),
        };
        while pair.next_element::<IgnoredAny>()?.is_some() {}
        Ok(object)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<WatchedObject<T>, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(fields)).map(WatchedObject::of)
    }

    fn visit_unit<E>(self) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<WatchedObject<T>, E> {
        Ok(WatchedObject::of(value.into()))
    }
}

impl<T: WatchedKind> kube::Resource for WatchedObject<T> {
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
