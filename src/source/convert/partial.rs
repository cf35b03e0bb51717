//! Objects that cannot be read completely: converts what is certain of them, so that one such object affects no other.
//!
//! Such a pod is unknown, such a policy isolates its whole namespace unless its label says that it is audited, and such a
//! namespace has no labels. Fields that
//! do not affect enforcement are removed first: if the rest can be read, the object is complete.

use super::object_kind::ObjectKind;
use super::{DEFAULT_NAMESPACE, unreadable_policy};
use crate::api::ObjectMeta;
use crate::model::{AUDIT_LABEL, Change, NamespaceName, PodKey, UnreadablePod};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What identifies an object, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct ObjectIdentity {
    pub(in crate::source) name: Option<String>,
    /// None if the object has none, or an unreadable one.
    pub(in crate::source) namespace: Option<String>,
    pub(in crate::source) uid: Option<String>,
    pub(in crate::source) resource_version: Option<String>,
}

/// Reads an object of the API, and ignores errors in fields that do not affect enforcement.
///
/// # Errors
/// What is wrong with the object, and what can be read of it.
pub(in crate::source) fn read<T: DeserializeOwned>(
    kind: ObjectKind,
    mut object: Value,
) -> Result<T, (String, Value)> {
    let fault = match damage(kind, &object) {
        None => match T::deserialize(&object) {
            Ok(read) => return Ok(read),
            Err(error) => error.to_string(),
        },
        Some(fault) => fault,
    };
    remove_immaterial(kind, &mut object);
    remove_nulls(&mut object);
    if damage(kind, &object).is_none()
        && let Ok(read) = T::deserialize(&object)
    {
        return Ok(read);
    }
    Err((fault, object))
}

/// The change that represents an object that cannot be read completely; `None` if not even its name can be read.
pub(in crate::source) fn change(kind: ObjectKind, object: &Value, fault: &str) -> Option<Change> {
    let ObjectIdentity { name, namespace, uid, resource_version } = identity(object);
    let name = name?;
    if kind != ObjectKind::Namespace && !names_namespace(object) {
        return None;
    }
    Some(match kind {
        ObjectKind::Namespace => Change::NamespaceUnreadable(NamespaceName::new(&name)),
        ObjectKind::Pod => {
            let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
            Change::PodUnreadable(pod(PodKey::new(namespace, &name), uid, object))
        }
        ObjectKind::NetworkPolicy => {
            let labels = audit_label(object).map(|value| [(AUDIT_LABEL.to_owned(), value.to_owned())].into());
            let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
            let metadata = ObjectMeta {
                name,
                namespace,
                uid,
                generation,
                resource_version,
                labels,
                ..ObjectMeta::default()
            };
            Change::Policy(unreadable_policy(&metadata, fault))
        }
    })
}

/// What identifies an object.
pub(in crate::source) fn identity(object: &Value) -> ObjectIdentity {
    let metadata = object.get("metadata");
    let text = |field: &str| {
        let text = metadata?.get(field)?.as_str()?;
        Some(text).filter(|text| !text.is_empty() && is_sound(text)).map(str::to_owned)
    };
    ObjectIdentity {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
    }
}

/// Whether the namespace of an object is certain: the one it names, or `default` if it names none.
fn names_namespace(object: &Value) -> bool {
    let namespace = object.get("metadata").and_then(|metadata| metadata.get("namespace"));
    match namespace {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => is_sound(text),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => false,
    }
}

fn pod(key: PodKey, uid: Option<String>, object: &Value) -> UnreadablePod {
    let empty = Map::new();
    let node = match object.get("spec") {
        None | Some(Value::Null) => Some(Value::Null),
        Some(spec) => spec.as_object().map(|spec| spec.get("nodeName").cloned().unwrap_or_default()),
    };
    let node = match node {
        Some(Value::String(node)) if !node.is_empty() && is_sound(&node) => Some(node.into()),
        _ => None,
    };
    let spec = object.get("spec").and_then(Value::as_object);
    let has_own_network = match spec.map(|spec| spec.get("hostNetwork")) {
        Some(None | Some(Value::Null | Value::Bool(false))) => true,
        // Without a readable spec it may have its node's address, which must not be isolated.
        Some(Some(_)) | None => false,
    };
    let status = object.get("status").and_then(Value::as_object).unwrap_or(&empty);
    let finished = matches!(status.get("phase").and_then(Value::as_str), Some("Succeeded" | "Failed"));
    let mut addresses = Vec::new();
    if has_own_network && !finished {
        let listed = status.get("podIPs").and_then(Value::as_array).into_iter().flatten();
        let texts = listed.filter_map(|item| item.get("ip")).chain(status.get("podIP"));
        for address in texts.filter_map(Value::as_str).filter_map(|text| text.parse::<IpAddr>().ok()) {
            let address = address.to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    UnreadablePod { key, uid: uid.map(Into::into), node, addresses }
}

/// The first string that was not UTF-8: it contains U+FFFD, which no valid string of these fields can.
pub(in crate::source) fn damage(kind: ObjectKind, object: &Value) -> Option<String> {
    let damaged = |path: &str| match object.pointer(path) {
        Some(value) if has_damage(value) => {
            Some(format!("{}: the text is not UTF-8", path.trim_start_matches('/').replace('/', ".")))
        }
        Some(_) | None => None,
    };
    let paths: &[&str] = match kind {
        ObjectKind::Namespace => &["/metadata/name", "/metadata/labels"],
        ObjectKind::Pod => &["/metadata/name", "/metadata/namespace", "/metadata/labels", "/spec/nodeName"],
        ObjectKind::NetworkPolicy => &["/metadata/name", "/metadata/namespace", "/spec"],
    };
    paths.iter().copied().find_map(damaged)
}

fn has_damage(value: &Value) -> bool {
    match value {
        Value::String(text) => !is_sound(text),
        Value::Array(items) => items.iter().any(has_damage),
        Value::Object(fields) => fields.iter().any(|(key, value)| !is_sound(key) || has_damage(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_sound(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

/// Removes fields that do not affect enforcement.
fn remove_immaterial(kind: ObjectKind, object: &mut Value) {
    let metadata: &[&str] = match kind {
        ObjectKind::Namespace => &["annotations", "ownerReferences", "uid"],
        ObjectKind::Pod => &["annotations", "ownerReferences", "deletionTimestamp"],
        ObjectKind::NetworkPolicy => &["annotations", "ownerReferences", "deletionTimestamp", "labels"],
    };
    let audit = audit_label(object).filter(|_| kind == ObjectKind::NetworkPolicy).map(str::to_owned);
    let Some(fields) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    fields.retain(|field, _| !metadata.contains(&field.as_str()));
    if let Some(value) = audit {
        fields.insert("labels".to_owned(), json!({ AUDIT_LABEL: value }));
    }
    for field in ["uid", "resourceVersion"] {
        if fields.get(field).is_some_and(|value| !value.is_string()) {
            fields.remove(field);
        }
    }
    if fields.get("generation").is_some_and(|value| !value.is_i64()) {
        fields.remove("generation");
    }
    if kind == ObjectKind::Pod {
        for list in ["containers", "initContainers"] {
            let list = object.get_mut("spec").and_then(|spec| spec.get_mut(list));
            for container in list.and_then(Value::as_array_mut).into_iter().flatten() {
                container.as_object_mut().and_then(|container| container.remove("name"));
            }
        }
    }
}

/// The only label of a policy that affects enforcement, if it can be read.
fn audit_label(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("labels")?.get(AUDIT_LABEL)?.as_str()
}

/// To the API, a null field is the same as an absent one.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AuditLabel, PolicyKey};

    #[test]
    fn policy_whose_namespace_cannot_be_read_isolates_none_and_one_that_names_none_isolates_default() {
        let policy =
            |metadata: Value| change(ObjectKind::NetworkPolicy, &json!({"metadata": metadata}), "why");
        for namespace in [json!("sh\u{fffd}p"), json!(7), json!({})] {
            assert!(policy(json!({"name": "p", "namespace": namespace})).is_none());
        }
        for metadata in [json!({"name": "p"}), json!({"name": "p", "namespace": null})] {
            let Some(Change::Policy(policy)) = policy(metadata) else { panic!("it is a policy") };
            assert_eq!(policy.key, PolicyKey::new(DEFAULT_NAMESPACE, "p"));
        }
    }

    #[test]
    fn policy_that_cannot_be_read_isolates_unless_its_label_says_legibly_that_it_is_audited() {
        let labelled = |spec: Value, labels: Value| {
            let object = json!({"metadata": {"name": "p", "labels": labels}, "spec": spec});
            match read::<crate::api::NetworkPolicy>(ObjectKind::NetworkPolicy, object) {
                Ok(read) => (true, super::super::policy(&read).audit),
                Err((fault, object)) => match change(ObjectKind::NetworkPolicy, &object, &fault) {
                    Some(Change::Policy(policy)) => {
                        assert!(
                            [&policy.ingress, &policy.egress]
                                .iter()
                                .all(|rules| rules.as_deref() == Some(&[]))
                        );
                        (false, policy.audit)
                    }
                    _ => panic!("it is a policy"),
                },
            }
        };
        for (is_read, spec) in [(true, json!({})), (false, json!({"podSelector": 7}))] {
            for (labels, audit) in [
                (json!({AUDIT_LABEL: "true"}), AuditLabel::Audited),
                (json!({AUDIT_LABEL: "true", "other": 7}), AuditLabel::Audited),
                (json!({AUDIT_LABEL: "yes", "other": 7}), AuditLabel::NotUnderstood("yes".into())),
                (json!({AUDIT_LABEL: true}), AuditLabel::Enforced),
                (json!({AUDIT_LABEL: ["true"]}), AuditLabel::Enforced),
                (json!([AUDIT_LABEL, "true"]), AuditLabel::Enforced),
                (json!({"other": "true"}), AuditLabel::Enforced),
            ] {
                assert_eq!(labelled(spec.clone(), labels.clone()), (is_read, audit), "{labels}");
            }
        }
    }

    #[test]
    fn version_of_a_policy_is_kept_even_if_the_rest_cannot_be_read_and_never_makes_a_policy_unreadable() {
        let version = |metadata: Value, spec: Value| {
            let object = json!({"metadata": metadata, "spec": spec});
            match read::<crate::api::NetworkPolicy>(ObjectKind::NetworkPolicy, object) {
                Ok(policy) => (true, policy.metadata.generation, policy.metadata.resource_version),
                Err((fault, object)) => match change(ObjectKind::NetworkPolicy, &object, &fault) {
                    Some(Change::Policy(policy)) => {
                        let resource = policy.version.resource.map(String::from);
                        (false, policy.version.generation, resource)
                    }
                    _ => panic!("it is a policy"),
                },
            }
        };
        let metadata =
            |generation: Value| json!({"name": "p", "generation": generation, "resourceVersion": "7"});
        let kept = Some("7".to_owned());
        assert_eq!(version(metadata(json!(3)), json!({})), (true, Some(3), kept.clone()));
        assert_eq!(version(metadata(json!(3)), json!({"podSelector": 7})), (false, Some(3), kept.clone()));
        for odd in [json!("3"), json!(u64::MAX), json!(0.5), json!([3])] {
            assert_eq!(version(metadata(odd.clone()), json!({})), (true, None, kept.clone()), "{odd}");
        }
    }
}
