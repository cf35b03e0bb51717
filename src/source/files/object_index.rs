//! The objects in the files of a directory: which file counts for each object, and what has changed since the last
//! report.

use super::fingerprint::Fingerprint;
use crate::api;
use crate::model::{Change, Namespace, NamespaceName, Pod, Policy};
use crate::source::convert;
use crate::source::convert::object_key::ObjectKey;
use crate::source::manifest::collect::Collect;
use crate::source::manifest::problem::duplicate;
use crate::source::manifest::{Object, Origin, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// An object in a file, with its position.
#[derive(Debug)]
pub(super) struct FileObject {
    fact: Change,
    line: usize,
    column: usize,
}

/// The objects of one file.
#[derive(Debug, Default)]
pub(super) struct FileObjects(Vec<FileObject>);

impl FileObjects {
    fn add(&mut self, fact: Change, origin: &Origin) {
        self.0.push(FileObject { fact, line: origin.line, column: origin.column });
    }
}

impl Collect for FileObjects {
    fn namespace(&mut self, object: Object<api::Namespace, Namespace>) {
        self.add(Change::Namespace(object.converted), &object.origin);
    }

    fn pod(&mut self, object: Object<api::Pod, Pod>) {
        self.add(Change::Pod(object.converted), &object.origin);
    }

    fn policy(&mut self, object: Object<api::NetworkPolicy, Policy>) {
        self.add(Change::Policy(object.converted), &object.origin);
    }

    fn unreadable(&mut self, stand_in: Change, origin: &Origin) {
        self.add(stand_in, origin);
    }

    fn replace(&mut self, key: &ObjectKey) {
        self.0.retain(|object| ObjectKey::of(&object.fact) != *key);
    }
}

/// The content of an object in one file.
#[derive(Debug)]
struct Declaration {
    file: Arc<Path>,
    line: usize,
    column: usize,
    fingerprint: Fingerprint,
    /// The change itself, until it is reported.
    fact: Option<Box<Change>>,
}

#[derive(Debug, Default)]
struct IndexEntry {
    /// The content that was last reported.
    reported: Option<Fingerprint>,
    /// One for each file that contains the object. The first counts; further ones are reported as a mistake.
    declarations: Vec<Declaration>,
}

/// The objects that all files contain.
///
/// Changes are kept only until they are reported; after that, a fingerprint is enough to find differences.
#[derive(Debug, Default)]
pub(super) struct ObjectIndex {
    entries: BTreeMap<ObjectKey, IndexEntry>,
    /// Objects that may have changed since the last report.
    touched: BTreeSet<ObjectKey>,
    /// Objects that several files contain.
    duplicated: BTreeSet<ObjectKey>,
    /// How many objects each namespace has.
    objects_in: BTreeMap<NamespaceName, usize>,
}

impl ObjectIndex {
    /// Records that a file now contains `now` instead of `before`; returns the keys of `now`.
    pub(super) fn update(
        &mut self,
        file: &Arc<Path>,
        before: &[ObjectKey],
        now: FileObjects,
    ) -> Box<[ObjectKey]> {
        let mut left: BTreeSet<&ObjectKey> = before.iter().collect();
        let mut keys = Vec::with_capacity(now.0.len());
        for object in now.0 {
            let key = self.share_namespace(ObjectKey::of(&object.fact));
            left.remove(&key);
            self.declare(file, &key, object);
            keys.push(key);
        }
        left.into_iter().for_each(|key| self.withdraw(file, key));
        keys.into()
    }

    /// Returns what has changed since the last call: first existing objects, namespaces before pods before policies, then
    /// deleted ones.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let implied = match &key {
                ObjectKey::Namespace(name) if self.objects_in.contains_key(name) => {
                    Some(Change::Namespace(convert::implied_namespace(name)))
                }
                ObjectKey::Namespace(_)
                | ObjectKey::Pod(_)
                | ObjectKey::Policy(_)
                | ObjectKey::Sandbox(_)
                | ObjectKey::Bridge
                | ObjectKey::Port(_) => None,
            };
            let (fact, fingerprint) = match (entry.declarations.first_mut(), implied) {
                (Some(declaration), _) => {
                    (declaration.fact.take().map(|fact| *fact), declaration.fingerprint)
                }
                (None, Some(implied)) => {
                    let fingerprint = Fingerprint::of(&implied);
                    (Some(implied), fingerprint)
                }
                (None, None) => {
                    let reported = entry.reported.is_some();
                    self.entries.remove(&key);
                    gone.extend(reported.then(|| key.deleted()));
                    continue;
                }
            };
            if entry.reported != Some(fingerprint) {
                entry.reported = Some(fingerprint);
                there.extend(fact);
            }
        }
        there.extend(gone.into_iter().rev());
        there
    }

    /// The objects that several files contain, as problems of every file except the first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, entry) in self.duplicated.iter().filter_map(|key| self.entries.get_key_value(key)) {
            let mut declarations: Vec<&Declaration> = entry.declarations.iter().collect();
            declarations.sort_by(|a, b| a.file.cmp(&b.file));
            let Some((first, others)) = declarations.split_first() else { continue };
            let message = duplicate(key, &first.origin());
            problems.extend(others.iter().map(|declaration| {
                let Origin { file, line, column } = declaration.origin();
                Problem { line, column, ..Problem::of_file(&file, message.clone()) }
            }));
        }
        problems
    }

    fn declare(&mut self, file: &Arc<Path>, key: &ObjectKey, object: FileObject) {
        let FileObject { fact, line, column } = object;
        let fingerprint = Fingerprint::of(&fact);
        let mut declaration =
            Declaration { file: Arc::clone(file), line, column, fingerprint, fact: Some(Box::new(fact)) };
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(own) = entry.declarations.iter_mut().find(|own| own.file == *file) {
            if own.fingerprint == fingerprint {
                declaration.fact = own.fact.take();
            } else {
                self.touched.insert(key.clone());
            }
            *own = declaration;
            return;
        }
        // The file that was reported stays first. The others, and all of them before anything is reported, are in the
        // order of their paths.
        let fixed = usize::from(entry.reported.is_some()).min(entry.declarations.len());
        let place = entry.declarations.iter().skip(fixed).position(|other| other.file > *file);
        entry.declarations.reserve_exact(1);
        entry.declarations.insert(place.map_or(entry.declarations.len(), |place| fixed + place), declaration);
        self.touched.insert(key.clone());
        if entry.declarations.len() > 1 {
            self.duplicated.insert(key.clone());
        } else if let Some(namespace) = key.namespace() {
            let count = self.objects_in.entry(namespace.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.touch_namespace(namespace);
            }
        }
    }

    fn withdraw(&mut self, file: &Arc<Path>, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.declarations.retain(|declaration| declaration.file != *file);
        let left = entry.declarations.len();
        self.touched.insert(key.clone());
        if left < 2 {
            self.duplicated.remove(key);
        }
        if let (0, Some(namespace)) = (left, key.namespace())
            && let Some(count) = self.objects_in.get_mut(namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.objects_in.remove(namespace);
                self.touch_namespace(namespace);
            }
        }
    }

    fn touch_namespace(&mut self, name: &NamespaceName) {
        let key = ObjectKey::Namespace(name.clone());
        self.entries.entry(key.clone()).or_default();
        self.touched.insert(key);
    }

    /// The key, with the copy of its namespace's name that all keys share.
    fn share_namespace(&self, mut key: ObjectKey) -> ObjectKey {
        let own = match &mut key {
            ObjectKey::Namespace(_) | ObjectKey::Sandbox(_) | ObjectKey::Bridge | ObjectKey::Port(_) => None,
            ObjectKey::Pod(key) => Some(&mut key.namespace),
            ObjectKey::Policy(key) => Some(&mut key.namespace),
        };
        if let Some(own) = own
            && let Some((shared, _)) = self.objects_in.get_key_value(own)
        {
            *own = shared.clone();
        }
        key
    }
}

impl Declaration {
    fn origin(&self) -> Origin {
        let file = self.file.to_string_lossy().into();
        Origin { file, line: self.line, column: self.column }
    }
}
