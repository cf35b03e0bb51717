//! Converts API objects to the model: the only code that knows the API's defaults and validation.
//!
//! Comes in: `api` objects as their authors wrote them. Goes out: `model` objects with every default filled in, and an
//! `InvalidPart` for each part that the API server would have rejected. An invalid part allows nothing; it never widens
//! what the rest allows, and the rest stays in force. This folder reads no file, clock or cluster.

mod block;
pub(in crate::source) mod field_path;
mod label;
pub(in crate::source) mod name;
pub(in crate::source) mod object_key;
pub(in crate::source) mod object_kind;
pub(in crate::source) mod partial;
mod pod;
mod policy;
mod port;
pub mod reason;
mod rule;
mod selector;

pub use pod::{implied_namespace, namespace, pod};
pub use policy::{policy, unreadable_policy};

use crate::api::{ObjectMeta, Part};
use crate::model::InvalidPart;
use field_path::FieldPath;

/// The namespace of a namespaced object without one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The label that the API server sets on every namespace, with the namespace's name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace of an object.
pub(in crate::source) fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// The invalid parts found so far.
#[derive(Default)]
struct InvalidParts(Vec<InvalidPart>);

impl InvalidParts {
    fn add(&mut self, path: &FieldPath<'_>, reason: &'static str, message: String) {
        self.0.push(InvalidPart { path: path.to_string(), reason, message });
    }

    /// Adds each field of the part at `path` that this version of the API does not have; returns whether there was any.
    fn add_unknown_fields(&mut self, path: &FieldPath<'_>, part: &impl Part) -> bool {
        for key in part.unknown().keys() {
            let message = format!("unknown field `{key}`: remove it or correct its spelling");
            self.add(&path.field(key), reason::UNKNOWN_FIELD, message);
        }
        part.unknown().first().is_some()
    }
}
