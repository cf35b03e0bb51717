//! The API's objects as kube asks for them: their own shape, and the metadata that a watch goes by.
//!
//! Whatever an object looks like, it can be read: one that is not understood is reported with what is certain of it, so that it
//! is no trouble for the list or watch that it comes in.

use super::known::Told;
use crate::api::{self, ObjectMeta};
use crate::model::{Change, NamespaceName, PodKey, PolicyKey, UnreadablePod};
use crate::source::convert::key::Key;
use crate::source::convert::kind::Kind;
use crate::source::convert::partial::{self, Identity};
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
pub(super) trait Listed: Clone + Debug + Send + Sync + DeserializeOwned + 'static {
    /// The API group, version, kind and plural.
    const NAMES: [&'static str; 4];
    const KIND: Kind;

    fn metadata(&self) -> &ObjectMeta;
    /// The fact that the object is there, and is so; with what is wrong if it is not wholly understood.
    fn change(&self) -> (Change, Option<String>);
    fn key(&self) -> Key;
}

impl Listed for api::Namespace {
    const NAMES: [&'static str; 4] = ["", "v1", "Namespace", "namespaces"];
    const KIND: Kind = Kind::Namespace;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        (Change::Namespace(convert::namespace(self)), None)
    }

    fn key(&self) -> Key {
        Key::Namespace(NamespaceName::new(&self.metadata.name))
    }
}

impl Listed for api::Pod {
    const NAMES: [&'static str; 4] = ["", "v1", "Pod", "pods"];
    const KIND: Kind = Kind::Pod;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        let (pod, refusals) = convert::pod(self);
        let mut faults = refusals.iter();
        // Where such a pod is cannot be told, and so not who speaks.
        if let Some(fault) = faults.find(|fault| fault.reason == reason::BAD_ADDRESS) {
            let unreadable = UnreadablePod { key: pod.key, node: pod.node, addresses: pod.addresses };
            return (Change::PodUnreadable(unreadable), Some(fault.to_string()));
        }
        (Change::Pod(pod), None)
    }

    fn key(&self) -> Key {
        Key::Pod(PodKey::new(convert::namespace_of(&self.metadata), &self.metadata.name))
    }
}

impl Listed for api::NetworkPolicy {
    const NAMES: [&'static str; 4] = ["networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"];
    const KIND: Kind = Kind::NetworkPolicy;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn change(&self) -> (Change, Option<String>) {
        (Change::Policy(convert::policy(self)), None)
    }

    fn key(&self) -> Key {
        Key::Policy(PolicyKey::new(convert::namespace_of(&self.metadata), &self.metadata.name))
    }
}

/// An object with the metadata that a watch goes by.
#[derive(Clone, Debug)]
pub(super) struct Object<T> {
    read: Read<T>,
    meta: KubeMeta,
}

#[derive(Clone, Debug)]
enum Read<T> {
    Whole(T),
    /// What is wrong, and what can be read.
    Partial(String, Value),
}

impl<T: Listed> Object<T> {
    /// What it tells, where it is there.
    pub(super) fn told(&self) -> Told {
        match &self.read {
            Read::Whole(object) => match object.change() {
                (change, None) => Told::Is(Box::new(change)),
                (change, Some(fault)) => Told::Unreadable(Box::new(change), fault),
            },
            Read::Partial(fault, object) => match partial::change(T::KIND, object, fault) {
                Some(change) => Told::Unreadable(Box::new(change), fault.clone()),
                None => Told::Lost,
            },
        }
    }

    /// What it tells, where it is gone.
    pub(super) fn gone(&self) -> Told {
        match &self.read {
            Read::Whole(object) => Told::Gone(object.key()),
            Read::Partial(fault, object) => match partial::change(T::KIND, object, fault) {
                Some(change) => Told::Gone(Key::of(&change)),
                None => Told::Lost,
            },
        }
    }

    fn whole(object: T) -> Object<T> {
        let from = object.metadata();
        let meta = KubeMeta {
            name: Some(from.name.clone()),
            namespace: from.namespace.clone(),
            resource_version: from.resource_version.clone(),
            ..KubeMeta::default()
        };
        Object { read: Read::Whole(object), meta }
    }

    fn partial(fault: String, object: Value) -> Object<T> {
        let Identity { name, namespace, resource_version, .. } = partial::identity(&object);
        let meta = KubeMeta { name, namespace, resource_version, ..KubeMeta::default() };
        Object { read: Read::Partial(fault, object), meta }
    }

    fn of(object: Value) -> Object<T> {
        match partial::read::<T>(T::KIND, object) {
            Ok(read) if read.metadata().name.is_empty() => {
                Object::partial("it has no name".to_owned(), Value::Null)
            }
            Ok(read) => Object::whole(read),
            Err((fault, object)) => Object::partial(fault, object),
        }
    }
}

impl<'de, T: Listed> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyObject(PhantomData))
    }
}

/// Reads an object as the server sends it, or as the pair that [`protobuf::Session`](crate::source::watch::protobuf::Session) makes
/// of it: that is read without a detour, for pods are many.
struct AnyObject<T>(PhantomData<T>);

impl<'de, T: Listed> Visitor<'de> for AnyObject<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Object<T>, A::Error> {
        let fault: Option<Value> = pair.next_element()?;
        let object = match fault {
            Some(Value::Null) => match pair.next_element::<T>()? {
                Some(object) => Object::whole(object),
                None => Object::partial("it is a list".to_owned(), Value::Null),
            },
            Some(Value::String(fault)) => Object::partial(fault, pair.next_element()?.unwrap_or(Value::Null)),
            _ => Object::partial("it is a list".to_owned(), Value::Null),
        };
        while pair.next_element::<IgnoredAny>()?.is_some() {}
        Ok(object)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(fields)).map(Object::of)
    }

    fn visit_unit<E>(self) -> Result<Object<T>, E> {
        Ok(Object::of(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Object<T>, E> {
        Ok(Object::of(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Object<T>, E> {
        Ok(Object::of(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Object<T>, E> {
        Ok(Object::of(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Object<T>, E> {
        Ok(Object::of(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Object<T>, E> {
        Ok(Object::of(value.into()))
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
