//! Receivers of the objects of manifests as they are read.

use super::object::{Manifests, Object, OtherObject};
use super::problem::Origin;
use crate::source::convert::object_key::ObjectKey;
use crate::{api, model};

/// A receiver of objects as they are read.
pub(in crate::source) trait Collect {
    fn namespace(&mut self, object: Object<api::Namespace, model::Namespace>);
    fn pod(&mut self, object: Object<api::Pod, model::Pod>);
    fn policy(&mut self, object: Object<api::NetworkPolicy, model::Policy>);
    /// The lines of the policy that comes next: `line_of` returns the line on which a path in it begins.
    fn policy_lines(&mut self, _policy: &model::Policy, _line_of: &dyn Fn(&str) -> usize) {}
    /// An object of another kind; returns whether it was read. Most receivers skip all of these.
    fn other(&mut self, _object: &OtherObject<'_>) -> bool {
        false
    }
    /// Receives the change that represents an object that cannot be read completely.
    fn unreadable(&mut self, stand_in: model::Change, origin: &Origin);
    /// Called when an object is defined again, so that its earlier definition no longer counts.
    fn replace(&mut self, key: &ObjectKey);
}

impl Collect for Manifests {
    fn namespace(&mut self, object: Object<api::Namespace, model::Namespace>) {
        self.namespaces.push(object);
    }

    fn pod(&mut self, object: Object<api::Pod, model::Pod>) {
        self.pods.push(object);
    }

    fn policy(&mut self, object: Object<api::NetworkPolicy, model::Policy>) {
        self.policies.push(object);
    }

    /// Ignored: if manifests are read as a whole, any problem is an error.
    fn unreadable(&mut self, _: model::Change, _: &Origin) {}

    fn replace(&mut self, key: &ObjectKey) {
        self.namespaces.retain(|object| ObjectKey::Namespace(object.converted.name.clone()) != *key);
        self.pods.retain(|object| ObjectKey::Pod(object.converted.key.clone()) != *key);
        self.policies.retain(|object| ObjectKey::Policy(object.converted.key.clone()) != *key);
    }
}
