//! The values of a file as a tree, each with its position.

use super::scalar::Scalar;
use crate::source::convert::field_path::{PathStep, steps};
use std::borrow::Cow;

/// A position in a file, both numbers from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and the position where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlNode<'a> {
    pub(super) at: Position,
    pub(super) value: YamlValue<'a>,
}

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum YamlValue<'a> {
    Scalar(Scalar, Cow<'a, str>),
    List(Vec<YamlNode<'a>>),
    Map(Vec<YamlEntry<'a>>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlEntry<'a> {
    pub(super) at: Position,
    pub(super) key: Cow<'a, str>,
    /// The type that the key would have as a value: `on` is a boolean even as a key.
    pub(super) kind: Scalar,
    pub(super) value: YamlNode<'a>,
}

impl<'a> YamlNode<'a> {
    /// Whether this is null.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, YamlValue::Scalar(Scalar::Null, _))
    }

    /// The value under `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&YamlNode<'a>> {
        let YamlValue::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut YamlNode<'a>> {
        let YamlValue::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// The string, if this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            YamlValue::Scalar(Scalar::Text, text) => Some(text),
            YamlValue::Scalar(..) | YamlValue::List(_) | YamlValue::Map(_) => None,
        }
    }

    /// The position of `path`, or of the deepest node on the way to it that exists.
    pub(super) fn position_of(&self, path: &str) -> Position {
        let mut node = self;
        for step in steps(path) {
            let next = match (&node.value, step) {
                (YamlValue::Map(_), PathStep::Field(key) | PathStep::Bracket(key)) => node.get(key),
                (YamlValue::List(items), PathStep::Bracket(index)) => {
                    index.parse().ok().and_then(|index: usize| items.get(index))
                }
                (YamlValue::List(_), PathStep::Field(_)) | (YamlValue::Scalar(..), _) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.at
    }

    /// A description of this value, for a message that another one was expected.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            YamlValue::Scalar(Scalar::Null, _) => "nothing".to_owned(),
            YamlValue::Scalar(Scalar::Bool(_), text) => format!("the boolean `{text}`"),
            YamlValue::Scalar(Scalar::Int(_) | Scalar::Float(_), text) => format!("the number `{text}`"),
            YamlValue::Scalar(Scalar::Text, text) => format!("the string `{}`", shortened(text)),
            YamlValue::List(_) => "a list".to_owned(),
            YamlValue::Map(_) => "an object".to_owned(),
        }
    }
}

/// The part of a string that a message quotes.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.split_at(end).0)),
        None => Cow::Borrowed(text),
    }
}
