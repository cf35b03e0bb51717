//! The objects that a server has. Objects that are missing from a new list are reported as deleted.

use super::event::WatchEvent;
use crate::collections::{HashIndex, Interner, Slab};
use crate::model::{Change, NamespaceName};
use crate::source::convert::object_key::ObjectKey;
use std::collections::BTreeSet;

/// The objects that the server has listed or added and not deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownObjects {
    keys: Slab<ObjectKey>,
    by_key: HashIndex<u32>,
    /// The objects that the list in progress has not contained so far.
    unnamed: Option<BTreeSet<u32>>,
    /// The namespaces of these objects, each name stored once.
    namespaces: Interner<NamespaceName>,
    listed: bool,
}

impl KnownObjects {
    /// Applies an event, and appends the changes that follow from it to `changes`.
    pub(super) fn apply(&mut self, event: WatchEvent, changes: &mut Vec<Change>) {
        match event {
            WatchEvent::ListStarted => {
                self.unnamed = Some(self.keys.iter().map(|(number, _)| number).collect())
            }
            WatchEvent::Unidentified => {}
            WatchEvent::Applied(change) | WatchEvent::Unreadable(change, _) => {
                let key = ObjectKey::of(&change);
                match (self.number(&key), &mut self.unnamed) {
                    (None, _) => self.insert(key),
                    (Some(number), Some(unnamed)) => {
                        unnamed.remove(&number);
                    }
                    (Some(_), None) => {}
                }
                changes.push(*change);
            }
            WatchEvent::Deleted(key) => {
                changes.extend(self.number(&key).and_then(|number| self.remove(number)))
            }
            WatchEvent::ListCompleted => {
                self.listed = true;
                let gone = self.unnamed.take().into_iter().flatten();
                changes.extend(gone.filter_map(|number| self.remove(number)));
            }
        }
    }

    /// Whether a list has ever completed.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether the server has an object of this name.
    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.number(key).is_some()
    }

    fn number(&self, key: &ObjectKey) -> Option<u32> {
        self.by_key.get(key, |number| self.keys.get(*number) == Some(key)).copied()
    }

    fn insert(&mut self, mut key: ObjectKey) {
        if let Some(namespace) = key.namespace_mut() {
            *namespace = self.namespaces.share(namespace.clone());
        }
        let number = self.keys.insert(key.clone());
        self.by_key.insert(&key, number);
    }

    fn remove(&mut self, number: u32) -> Option<Change> {
        let key = self.keys.remove(number)?;
        self.by_key.remove(&key, |own| *own == number);
        if let Some(unnamed) = &mut self.unnamed {
            unnamed.remove(&number);
        }
        if let Some(namespace) = key.namespace() {
            self.namespaces.release(namespace);
        }
        Some(key.deleted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Namespace, NamespaceName, Pod, PodKey};

    fn is(name: &str) -> WatchEvent {
        let name = NamespaceName::new(name);
        WatchEvent::Applied(Box::new(Change::Namespace(Namespace {
            name,
            labels: Labels::default(),
            terminating: false,
        })))
    }

    fn gone(name: &str) -> WatchEvent {
        WatchEvent::Deleted(ObjectKey::Namespace(NamespaceName::new(name)))
    }

    /// The changes that follow from these events, as `+name` and `-name`.
    fn changes(events: impl IntoIterator<Item = WatchEvent>) -> String {
        let (mut known, mut changes) = (KnownObjects::default(), Vec::new());
        events.into_iter().for_each(|event| known.apply(event, &mut changes));
        let words = changes.iter().map(|change| match change {
            Change::Namespace(namespace) => format!("+{}", namespace.name),
            Change::NamespaceGone(name) => format!("-{name}"),
            Change::NamespaceUnreadable(_)
            | Change::Pod(_)
            | Change::PodUnreadable(_)
            | Change::PodGone(_)
            | Change::Policy(_)
            | Change::PolicyGone(_) => {
                panic!("only namespaces are reported: {change:?}")
            }
            Change::Sandbox(_) | Change::SandboxGone(_) | Change::Link(_) => {
                panic!("only namespaces are reported: {change:?}")
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn objects_missing_from_a_new_list_are_deleted_when_it_completes() {
        let first = [WatchEvent::ListStarted, is("a"), is("b"), WatchEvent::ListCompleted];
        assert_eq!(changes(first.clone()), "+a +b");
        let again = first.into_iter().chain([WatchEvent::ListStarted, is("b"), is("c")]);
        assert_eq!(changes(again.clone()), "+a +b +b +c");
        assert_eq!(changes(again.chain([WatchEvent::ListCompleted])), "+a +b +b +c -a");
    }

    #[test]
    fn objects_added_after_a_list_are_compared_with_the_next_list() {
        let events = [
            WatchEvent::ListStarted,
            WatchEvent::ListCompleted,
            is("a"),
            is("b"),
            gone("b"),
            WatchEvent::ListStarted,
            WatchEvent::ListCompleted,
        ];
        assert_eq!(changes(events), "+a +b -b -a");
    }

    #[test]
    fn list_that_broke_off_deletes_nothing() {
        let broken = [
            WatchEvent::ListStarted,
            is("a"),
            is("b"),
            WatchEvent::ListCompleted,
            WatchEvent::ListStarted,
            is("a"),
        ];
        let again = [WatchEvent::ListStarted, is("b"), WatchEvent::ListCompleted];
        assert_eq!(changes(broken.into_iter().chain(again)), "+a +b +a +b -a");
    }

    #[test]
    fn namespace_name_is_kept_once_and_no_longer_than_its_objects() {
        let pod = |name: &str| Pod::new(PodKey::new("shop", name));
        let (mut known, mut changes) = (KnownObjects::default(), Vec::new());
        for (name, kept) in [("a", 1), ("b", 1), ("a", 1)] {
            known.apply(WatchEvent::Applied(Box::new(Change::Pod(pod(name)))), &mut changes);
            assert_eq!(known.namespaces.len(), kept);
        }
        for (name, kept) in [("a", 1), ("b", 0)] {
            known.apply(WatchEvent::Deleted(ObjectKey::Pod(PodKey::new("shop", name))), &mut changes);
            assert_eq!(known.namespaces.len(), kept, "as long as another object has the name");
        }
    }

    #[test]
    fn object_that_was_never_listed_is_not_reported_deleted() {
        assert_eq!(changes([gone("a")]), "");
    }
}
