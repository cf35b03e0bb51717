//! What a server was heard to have, so that what a new list leaves out is known to be gone.

use crate::model::Change;
use crate::source::fact::Key;
use std::collections::BTreeSet;

/// What a server tells of one resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A list begins. What was told of one that did not end counts nothing for what is gone.
    ListBegins,
    /// An object, from a list or as it changed.
    Is(Box<Change>),
    /// An object that is gone.
    Gone(Key),
    /// The list is complete.
    ListEnds,
}

/// The objects that a server was heard to have.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    keys: BTreeSet<Key>,
    /// Those that the list under way has not named yet.
    unnamed: Option<BTreeSet<Key>>,
    listed: bool,
}

impl Known {
    /// Takes in what was told, and adds what follows from it to `changes`.
    pub(super) fn take_in(&mut self, told: Told, changes: &mut Vec<Change>) {
        match told {
            Told::ListBegins => self.unnamed = Some(self.keys.clone()),
            Told::Is(change) => {
                let key = Key::of(&change);
                if let Some(unnamed) = &mut self.unnamed {
                    unnamed.remove(&key);
                }
                self.keys.insert(key);
                changes.push(*change);
            }
            Told::Gone(key) => {
                if self.keys.remove(&key) {
                    changes.push(key.gone());
                }
            }
            Told::ListEnds => {
                self.listed = true;
                for key in self.unnamed.take().into_iter().flatten() {
                    self.keys.remove(&key);
                    changes.push(key.gone());
                }
            }
        }
    }

    /// Whether a list has ever ended.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Namespace, NamespaceName};

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
            Change::Pod(_) | Change::PodGone(_) | Change::Policy(_) | Change::PolicyGone(_) => {
                panic!("only namespaces are told: {change:?}")
            }
            Change::Sandbox(_) | Change::SandboxGone(_) => panic!("only namespaces are told: {change:?}"),
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
    fn what_was_never_there_is_not_told_gone() {
        assert_eq!(changes([gone("a")]), "");
    }
}
