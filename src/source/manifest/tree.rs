//! A file's values as a tree in which everything knows where it stands.

use super::scalar::Scalar;
use crate::source::convert::path::{Step, steps};
use std::borrow::Cow;

/// A place in a file, both numbers from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) at: Place,
    pub(super) value: Value<'a>,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Scalar(Scalar, Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) at: Place,
    pub(super) key: Cow<'a, str>,
    /// What the key would be as a value: `on` is a boolean even there.
    pub(super) kind: Scalar,
    pub(super) value: Node<'a>,
}

impl<'a> Node<'a> {
    /// Whether nothing is written here.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null, _))
    }

    /// The value under `key`, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node<'a>> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// The text, where this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar::Text, text) => Some(text),
            Value::Scalar(..) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Where `path` leads, or as near to it as there is anything.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut node = self;
        for step in steps(path) {
            let next = match (&node.value, step) {
                (Value::Map(_), Step::Field(key) | Step::Bracket(key)) => node.get(key),
                (Value::List(items), Step::Bracket(index)) => {
                    index.parse().ok().and_then(|index: usize| items.get(index))
                }
                (Value::List(_), Step::Field(_)) | (Value::Scalar(..), _) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.at
    }

    /// What is found here, for a complaint that something else was expected.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(Scalar::Null, _) => "nothing".to_owned(),
            Value::Scalar(Scalar::Bool(_), text) => format!("the boolean `{text}`"),
            Value::Scalar(Scalar::Int(_) | Scalar::Float(_), text) => format!("the number `{text}`"),
            Value::Scalar(Scalar::Text, text) => format!("the string `{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "an object".to_owned(),
        }
    }
}

/// A text as far as a complaint should quote it.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.split_at(end).0)),
        None => Cow::Borrowed(text),
    }
}
