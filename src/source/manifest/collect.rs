//! Where the objects of manifests go as they are read.

use super::object::{Manifests, Object};
use super::problem::Origin;
use crate::source::convert::key::Key;
use crate::{api, model};

/// Where objects go as they are read.
pub(in crate::source) trait Collect {
    fn namespace(&mut self, object: Object<api::Namespace, model::Namespace>);
    fn pod(&mut self, object: Object<api::Pod, model::Pod>);
    fn policy(&mut self, object: Object<api::NetworkPolicy, model::Policy>);
    /// What is certain of an object that cannot be read whole.
    fn unreadable(&mut self, stand_in: model::Change, origin: &Origin);
    /// An object is written again, and what was collected of it counts no longer.
    fn replace(&mut self, key: &Key);
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

    /// Whoever asks for manifests whole is told what is wrong instead.
    fn unreadable(&mut self, _: model::Change, _: &Origin) {}

    fn replace(&mut self, key: &Key) {
        self.namespaces.retain(|object| Key::Namespace(object.lowered.name.clone()) != *key);
        self.pods.retain(|object| Key::Pod(object.lowered.key.clone()) != *key);
        self.policies.retain(|object| Key::Policy(object.lowered.key.clone()) != *key);
    }
}
