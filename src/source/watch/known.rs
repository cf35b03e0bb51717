//! What a server was heard to have, so that what a new list leaves out is known to be gone.

use crate::model::{Change, Finder, NamespaceName, Pool, Slab};
use crate::source::convert::key::Key;
use std::collections::BTreeSet;

/// What a server tells of one resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A list begins. What was told of one that did not end counts nothing for what is gone.
    ListBegins,
    /// An object, from a list or as it changed.
    Is(Box<Change>),
    /// An object that cannot be read whole: what follows for it, and what is wrong with it.
    Unreadable(Box<Change>, String),
    /// Something about an object, and it cannot even be read about which.
    Lost,
    /// An object that is gone.
    Gone(Key),
    /// The list is complete.
    ListEnds,
}

/// The objects that a server was heard to have.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    keys: Slab<Key>,
    by_key: Finder<u32>,
    /// Those that the list under way has not named yet.
    unnamed: Option<BTreeSet<u32>>,
    /// The namespaces that they live in.
    namespaces: Pool<NamespaceName>,
    listed: bool,
}

impl Known {
    /// Takes in what was told, and adds what follows from it to `changes`.
    pub(super) fn take_in(&mut self, told: Told, changes: &mut Vec<Change>) {
        match told {
            Told::ListBegins => self.unnamed = Some(self.keys.iter().map(|(number, _)| number).collect()),
            Told::Lost => {}
            Told::Is(change) | Told::Unreadable(change, _) => {
                let key = Key::of(&change);
                match (self.number(&key), &mut self.unnamed) {
                    (None, _) => self.insert(key),
                    (Some(number), Some(unnamed)) => {
                        unnamed.remove(&number);
                    }
                    (Some(_), None) => {}
                }
                changes.push(*change);
            }
            Told::Gone(key) => changes.extend(self.number(&key).and_then(|number| self.remove(number))),
            Told::ListEnds => {
                self.listed = true;
                let gone = self.unnamed.take().into_iter().flatten();
                changes.extend(gone.filter_map(|number| self.remove(number)));
            }
        }
    }

    /// Whether a list has ever ended.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether the server has an object of this name.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.number(key).is_some()
    }

    fn number(&self, key: &Key) -> Option<u32> {
        self.by_key.get(key, |number| self.keys.get(*number) == Some(key)).copied()
    }

    fn insert(&mut self, mut key: Key) {
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
        Some(key.gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Namespace, NamespaceName, Pod, PodKey};

    fn is(name: &str) -> Told {
        let name = NamespaceName::new(name);
        Told::Is(Box::new(Change::Namespace(Namespace {
            name,
            labels: Labels::default(),
            terminating: false,
        })))
    }

    fn gone(name: &str) -> Told {
        Told::Gone(Key::Namespace(NamespaceName::new(name)))
    }

    /// What each of these leads to, as `+name` and `-name`.
    fn changes(told: impl IntoIterator<Item = Told>) -> String {
        let (mut known, mut changes) = (Known::default(), Vec::new());
        told.into_iter().for_each(|told| known.take_in(told, &mut changes));
        let words = changes.iter().map(|change| match change {
            Change::Namespace(namespace) => format!("+{}", namespace.name),
            Change::NamespaceGone(name) => format!("-{name}"),
            Change::NamespaceUnreadable(_)
            | Change::Pod(_)
            | Change::PodUnreadable(_)
            | Change::PodGone(_)
            | Change::Policy(_)
            | Change::PolicyGone(_) => {
                panic!("only namespaces are told: {change:?}")
            }
            Change::Sandbox(_) | Change::SandboxGone(_) | Change::Link(_) => {
                panic!("only namespaces are told: {change:?}")
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_a_new_list_leaves_out_is_gone_when_it_ends() {
        let first = [Told::ListBegins, is("a"), is("b"), Told::ListEnds];
        assert_eq!(changes(first.clone()), "+a +b");
        let again = first.into_iter().chain([Told::ListBegins, is("b"), is("c")]);
        assert_eq!(changes(again.clone()), "+a +b +b +c");
        assert_eq!(changes(again.chain([Told::ListEnds])), "+a +b +b +c -a");
    }

    #[test]
    fn what_was_learnt_after_a_list_counts_for_the_next() {
        let told =
            [Told::ListBegins, Told::ListEnds, is("a"), is("b"), gone("b"), Told::ListBegins, Told::ListEnds];
        assert_eq!(changes(told), "+a +b -b -a");
    }

    #[test]
    fn list_that_broke_off_says_nothing_about_what_is_gone() {
        let broken = [Told::ListBegins, is("a"), is("b"), Told::ListEnds, Told::ListBegins, is("a")];
        let again = [Told::ListBegins, is("b"), Told::ListEnds];
        assert_eq!(changes(broken.into_iter().chain(again)), "+a +b +a +b -a");
    }

    #[test]
    fn namespace_is_kept_once_and_no_longer_than_what_lives_in_it() {
        let pod = |name: &str| Pod {
            key: PodKey::new("shop", name),
            uid: None,
            node: None,
            owner: None,
            labels: Labels::default(),
            ports: Vec::new(),
            networked: true,
            finished: false,
            addresses: Vec::new(),
        };
        let (mut known, mut changes) = (Known::default(), Vec::new());
        for (name, kept) in [("a", 1), ("b", 1), ("a", 1)] {
            known.take_in(Told::Is(Box::new(Change::Pod(pod(name)))), &mut changes);
            assert_eq!(known.namespaces.len(), kept);
        }
        for (name, kept) in [("a", 1), ("b", 0)] {
            known.take_in(Told::Gone(Key::Pod(PodKey::new("shop", name))), &mut changes);
            assert_eq!(known.namespaces.len(), kept, "whoever else still has the name");
        }
    }

    #[test]
    fn what_was_never_there_is_not_told_gone() {
        assert_eq!(changes([gone("a")]), "");
    }
}
