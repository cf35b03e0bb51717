//! The objects of manifests: what is written, what it means, and where it stands.

use super::problem::{Origin, Problem};
use crate::model::Change;
use crate::source::convert::implied_namespace;
use crate::source::convert::key::Key;
use crate::{api, model};
use std::collections::{BTreeMap, BTreeSet};

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<A, M> {
    /// The API's words as they are written, without any default.
    pub written: A,
    /// What they mean.
    pub lowered: M,
    /// Where they stand.
    pub origin: Origin,
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
    /// The policies' refusals, and objects that are written twice, with the places where they stand.
    pub refused: Vec<Problem>,
    /// How many objects of other kinds were passed over, by kind.
    pub skipped: BTreeMap<String, usize>,
}

impl Manifests {
    /// The changes that make everything known, namespaces that are only spoken of included: namespaces before pods
    /// before policies.
    pub fn changes(&self) -> Vec<Change> {
        let namespaces = self.namespaces.iter().map(|object| Change::Namespace(object.lowered.clone()));
        let pods = self.pods.iter().map(|object| Change::Pod(object.lowered.clone()));
        let policies = self.policies.iter().map(|object| Change::Policy(object.lowered.clone()));
        let facts = namespaces.chain(pods).chain(policies);
        let mut facts: BTreeMap<Key, Change> = facts.map(|fact| (Key::of(&fact), fact)).collect();
        let spoken_of: BTreeSet<_> = facts.keys().filter_map(Key::namespace).cloned().collect();
        for name in spoken_of {
            let implied = Change::Namespace(implied_namespace(&name));
            facts.entry(Key::Namespace(name)).or_insert(implied);
        }
        facts.into_values().collect()
    }
}

/// What a text holds besides the objects that are read.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Remarks {
    /// The policies' refusals, and objects that are written twice, with the places where they stand.
    pub(in crate::source) refused: Vec<Problem>,
    /// How many objects of other kinds were passed over, by kind.
    pub(in crate::source) skipped: BTreeMap<String, usize>,
}
