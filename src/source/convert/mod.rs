//! From the API's shapes to the model: the place where the letter of the API lives.
//!
//! Comes in: `api` objects as someone wrote them. Goes out: `model` objects with every default filled in, and a
//! `Refusal` for each part that the API server would not have accepted. A refused part allows nothing; it never
//! widens what the rest allows, and the rest stays in force. Pure: it reads no file, clock or cluster.

mod block;
pub(in crate::source) mod key;
pub(in crate::source) mod kind;
mod label;
pub(in crate::source) mod name;
pub(in crate::source) mod partial;
pub(in crate::source) mod path;
mod pod;
mod policy;
mod port;
pub mod reason;
mod rule;
mod selector;

pub use pod::{implied_namespace, namespace, pod};
pub use policy::{policy, unreadable_policy};

use crate::api::{ObjectMeta, Part};
use crate::model::Refusal;
use path::Path;

/// The namespace of a namespaced object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The label that the API server sets on every namespace, with the namespace's name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace that an object lives in.
pub(in crate::source) fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// The parts refused so far.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn refuse(&mut self, path: &Path<'_>, reason: &'static str, message: String) {
        self.0.push(Refusal { path: path.to_string(), reason, message });
    }

    /// Refuses each key of the part at `path` that this version of the API does not have; says whether it had any.
    fn refuse_unknown(&mut self, path: &Path<'_>, part: &impl Part) -> bool {
        for key in part.unknown().keys() {
            let message = format!("unknown field `{key}`: remove it or correct its spelling");
            self.refuse(&path.field(key), reason::UNKNOWN_FIELD, message);
        }
        part.unknown().first().is_some()
    }
}
