//! The objects of manifests: as written, as converted to the model, and their place in the file.

use super::problem::{Origin, Problem};
use super::tree::YamlNode;
use crate::model::Change;
use crate::source::convert::implied_namespace;
use crate::source::convert::object_key::ObjectKey;
use crate::{api, model};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<A, M> {
    /// The API's fields as written, without defaults.
    pub written: A,
    /// The same converted to the model.
    pub converted: M,
    /// Where it begins.
    pub origin: Origin,
}

/// An object of a kind that policies do not concern.
pub(in crate::source) struct OtherObject<'a> {
    pub(in crate::source) api_version: &'a str,
    pub(in crate::source) kind: &'a str,
    pub(super) node: &'a YamlNode<'a>,
}

impl<'a> OtherObject<'a> {
    /// Reads its fields.
    ///
    /// # Errors
    /// What does not have the type's shape.
    pub(in crate::source) fn read<T: Deserialize<'a>>(&self) -> Result<T, String> {
        T::deserialize(self.node).map_err(|error| error.to_string())
    }

    /// The line and column on which it begins.
    pub(in crate::source) fn position(&self) -> (usize, usize) {
        (self.node.at.line, self.node.at.column)
    }
}

/// The objects of some manifests, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    /// The namespaces.
    pub namespaces: Vec<Object<api::Namespace, model::Namespace>>,
    /// The pods.
    pub pods: Vec<Object<api::Pod, model::Pod>>,
    /// The policies.
    pub policies: Vec<Object<api::NetworkPolicy, model::Policy>>,
    /// Invalid parts of policies, and objects that are defined twice, with their places.
    pub invalid: Vec<Problem>,
    /// How many objects of other kinds were skipped, by kind.
    pub skipped: BTreeMap<String, usize>,
}

impl Manifests {
    /// These objects as changes: namespaces, also those that are only named by other objects, before pods before policies.
    pub fn changes(&self) -> Vec<Change> {
        let namespaces = self.namespaces.iter().map(|object| Change::Namespace(object.converted.clone()));
        let pods = self.pods.iter().map(|object| Change::Pod(object.converted.clone()));
        let policies = self.policies.iter().map(|object| Change::Policy(object.converted.clone()));
        let changes = namespaces.chain(pods).chain(policies);
        let mut changes: BTreeMap<ObjectKey, Change> =
            changes.map(|change| (ObjectKey::of(&change), change)).collect();
        let named: BTreeSet<_> = changes.keys().filter_map(ObjectKey::namespace).cloned().collect();
        for name in named {
            let implied = Change::Namespace(implied_namespace(&name));
            changes.entry(ObjectKey::Namespace(name)).or_insert(implied);
        }
        changes.into_values().collect()
    }
}

/// What a text contains besides the objects that are read.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Remarks {
    /// Invalid parts of policies, and objects that are defined twice, with their places.
    pub(in crate::source) invalid: Vec<Problem>,
    /// How many objects of other kinds were skipped, by kind.
    pub(in crate::source) skipped: BTreeMap<String, usize>,
}
