//! What the files of a directory say, object by object: whose word counts, and what has not been told yet.

use super::fingerprint::Fingerprint;
use crate::api;
use crate::model::{Change, Namespace, NamespaceName, Pod, Policy};
use crate::source::convert;
use crate::source::convert::key::Key;
use crate::source::manifest::collect::Collect;
use crate::source::manifest::problem::duplicate;
use crate::source::manifest::{Object, Origin, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What a file says about an object.
#[derive(Debug)]
pub(super) struct Statement {
    fact: Change,
    line: usize,
    column: usize,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Statements(Vec<Statement>);

impl Statements {
    fn add(&mut self, fact: Change, origin: &Origin) {
        self.0.push(Statement { fact, line: origin.line, column: origin.column });
    }
}

impl Collect for Statements {
    fn namespace(&mut self, object: Object<api::Namespace, Namespace>) {
        self.add(Change::Namespace(object.lowered), &object.origin);
    }

    fn pod(&mut self, object: Object<api::Pod, Pod>) {
        self.add(Change::Pod(object.lowered), &object.origin);
    }

    fn policy(&mut self, object: Object<api::NetworkPolicy, Policy>) {
        self.add(Change::Policy(object.lowered), &object.origin);
    }

    fn unreadable(&mut self, stand_in: Change, origin: &Origin) {
        self.add(stand_in, origin);
    }

    fn replace(&mut self, key: &Key) {
        self.0.retain(|statement| Key::of(&statement.fact) != *key);
    }
}

/// One file's word about an object.
#[derive(Debug)]
struct Word {
    file: Arc<Path>,
    line: usize,
    column: usize,
    fingerprint: Fingerprint,
    /// The fact itself, until it is told.
    fact: Option<Box<Change>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// What was told last.
    told: Option<Fingerprint>,
    /// Never more than one but by mistake. The first counts.
    words: Vec<Word>,
}

/// What the files say.
///
/// Facts are kept only until they are told; after that, a fingerprint is enough to know what is different.
#[derive(Debug, Default)]
pub(super) struct Register {
    entries: BTreeMap<Key, Entry>,
    /// Objects about which files said something else than before.
    touched: BTreeSet<Key>,
    /// Objects that several files say.
    contested: BTreeSet<Key>,
    /// How many objects live in each namespace.
    inhabitants: BTreeMap<NamespaceName, usize>,
}

impl Register {
    /// Takes in that a file says this now, and no longer what it said `before`; returns what it speaks of.
    pub(super) fn hear(&mut self, file: &Arc<Path>, before: &[Key], now: Statements) -> Box<[Key]> {
        let mut left: BTreeSet<&Key> = before.iter().collect();
        let mut said = Vec::with_capacity(now.0.len());
        for statement in now.0 {
            let key = self.share_namespace(Key::of(&statement.fact));
            left.remove(&key);
            self.say(file, &key, statement);
            said.push(key);
        }
        left.into_iter().for_each(|key| self.unsay(file, key));
        said.into()
    }

    /// What is different from what was told, and is told hereby: first what is there, namespaces before pods before
    /// policies, then what is gone.
    pub(super) fn tell(&mut self) -> Vec<Change> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let implied = match &key {
                Key::Namespace(name) if self.inhabitants.contains_key(name) => {
                    Some(Change::Namespace(convert::implied_namespace(name)))
                }
                Key::Namespace(_)
                | Key::Pod(_)
                | Key::Policy(_)
                | Key::Sandbox(_)
                | Key::Bridge
                | Key::Port(_) => None,
            };
            let (fact, fingerprint) = match (entry.words.first_mut(), implied) {
                (Some(word), _) => (word.fact.take().map(|fact| *fact), word.fingerprint),
                (None, Some(implied)) => {
                    let fingerprint = Fingerprint::of(&implied);
                    (Some(implied), fingerprint)
                }
                (None, None) => {
                    let told = entry.told.is_some();
                    self.entries.remove(&key);
                    gone.extend(told.then(|| key.gone()));
                    continue;
                }
            };
            if entry.told != Some(fingerprint) {
                entry.told = Some(fingerprint);
                there.extend(fact);
            }
        }
        there.extend(gone.into_iter().rev());
        there
    }

    /// The objects that several files say, told at every place but the first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, entry) in self.contested.iter().filter_map(|key| self.entries.get_key_value(key)) {
            let mut words: Vec<&Word> = entry.words.iter().collect();
            words.sort_by(|a, b| a.file.cmp(&b.file));
            let Some((first, others)) = words.split_first() else { continue };
            let message = duplicate(key, &first.origin());
            problems.extend(others.iter().map(|word| {
                let Origin { file, line, column } = word.origin();
                Problem { line, column, ..Problem::of_file(&file, message.clone()) }
            }));
        }
        problems
    }

    fn say(&mut self, file: &Arc<Path>, key: &Key, statement: Statement) {
        let Statement { fact, line, column } = statement;
        let fingerprint = Fingerprint::of(&fact);
        let mut word = Word { file: Arc::clone(file), line, column, fingerprint, fact: Some(Box::new(fact)) };
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(own) = entry.words.iter_mut().find(|own| own.file == *file) {
            if own.fingerprint == fingerprint {
                word.fact = own.fact.take();
            } else {
                self.touched.insert(key.clone());
            }
            *own = word;
            return;
        }
        // Whoever was told first stays first; behind it, and before anything is told, the order is that of the paths.
        let fixed = usize::from(entry.told.is_some()).min(entry.words.len());
        let place = entry.words.iter().skip(fixed).position(|other| other.file > *file);
        entry.words.reserve_exact(1);
        entry.words.insert(place.map_or(entry.words.len(), |place| fixed + place), word);
        self.touched.insert(key.clone());
        if entry.words.len() > 1 {
            self.contested.insert(key.clone());
        } else if let Some(namespace) = key.namespace() {
            let count = self.inhabitants.entry(namespace.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.touch_namespace(namespace);
            }
        }
    }

    fn unsay(&mut self, file: &Arc<Path>, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.words.retain(|word| word.file != *file);
        let left = entry.words.len();
        self.touched.insert(key.clone());
        if left < 2 {
            self.contested.remove(key);
        }
        if let (0, Some(namespace)) = (left, key.namespace())
            && let Some(count) = self.inhabitants.get_mut(namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.inhabitants.remove(namespace);
                self.touch_namespace(namespace);
            }
        }
    }

    fn touch_namespace(&mut self, name: &NamespaceName) {
        let key = Key::Namespace(name.clone());
        self.entries.entry(key.clone()).or_default();
        self.touched.insert(key);
    }

    /// The key with the one copy of its namespace's name that all keys share.
    fn share_namespace(&self, mut key: Key) -> Key {
        let own = match &mut key {
            Key::Namespace(_) | Key::Sandbox(_) | Key::Bridge | Key::Port(_) => None,
            Key::Pod(key) => Some(&mut key.namespace),
            Key::Policy(key) => Some(&mut key.namespace),
        };
        if let Some(own) = own
            && let Some((shared, _)) = self.inhabitants.get_key_value(own)
        {
            *own = shared.clone();
        }
        key
    }
}

impl Word {
    fn origin(&self) -> Origin {
        let file = self.file.to_string_lossy().into();
        Origin { file, line: self.line, column: self.column }
    }
}
