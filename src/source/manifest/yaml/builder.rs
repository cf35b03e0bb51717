//! One document of YAML as a tree, built from the parser's events.

use super::{Fault, position, syntax};
use crate::source::manifest::scalar::{self, Scalar};
use crate::source::manifest::schema::drop_unread;
use crate::source::manifest::tree::{Position, YamlEntry, YamlNode, YamlValue};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

/// How deeply values may nest.
const MAX_DEPTH: usize = 128;

/// How deeply an object nests at most: it is a document, or an item of a list in it.
const OBJECT_DEPTH: usize = 2;

/// How many bytes, roughly, the aliases of one file may add to it.
const MAX_GROWTH: usize = 16 << 20;

/// A list or mapping that is still open.
struct OpenNode<'a> {
    at: Position,
    anchor: usize,
    content: Content<'a>,
    weight: usize,
    height: usize,
}

enum Content<'a> {
    List(Vec<YamlNode<'a>>),
    Map { entries: Vec<YamlEntry<'a>>, key: Option<MapKey<'a>>, merged: Vec<YamlNode<'a>> },
}

struct MapKey<'a> {
    at: Position,
    text: Cow<'a, str>,
    kind: Scalar,
    merges: bool,
}

/// A finished value before it is added to its parent.
struct FinishedNode<'a> {
    node: YamlNode<'a>,
    weight: usize,
    height: usize,
    style: ScalarStyle,
}

pub(super) struct Builder<'a> {
    open: Vec<OpenNode<'a>>,
    anchors: BTreeMap<usize, FinishedNode<'a>>,
    pub(super) faults: Vec<Fault>,
    pub(super) growth: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(growth: usize) -> Builder<'a> {
        Builder { open: Vec::new(), anchors: BTreeMap::new(), faults: Vec::new(), growth }
    }

    pub(super) fn document(&mut self, parser: &mut Parser<'a, StrInput<'a>>) -> Result<YamlNode<'a>, Fault> {
        let mut end = Position { line: 1, column: 1 };
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| syntax(&error))?;
            end = position(&span.start);
            let finished = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let kind = self.kind(&text, style, tag.as_deref(), end);
                    let weight = size_of::<YamlEntry<'_>>() + text.len();
                    let node = YamlNode { at: end, value: YamlValue::Scalar(kind, text) };
                    Some((anchor, FinishedNode { node, weight, height: 1, style }))
                }
                Event::Alias(anchor) => Some((0, self.alias(anchor, end)?)),
                Event::SequenceStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "seq", end);
                    self.enter(end, anchor, Content::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "map", end);
                    let content = Content::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                    self.enter(end, anchor, content)?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.leave(),
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => break,
            };
            if let Some((anchor, finished)) = finished {
                if anchor > 0 {
                    self.grow(finished.weight, end)?;
                    self.anchors.insert(anchor, finished.copy());
                }
                match self.open.last_mut() {
                    Some(frame) => frame.take(finished, &mut self.faults),
                    None => return Ok(finished.node),
                }
            }
        }
        Err(Fault { at: end, message: "not valid YAML: the document ends too early".to_owned() })
    }

    fn kind(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Scalar {
        let Some(tag) = tag else {
            return match style {
                ScalarStyle::Plain => scalar::plain(text),
                ScalarStyle::SingleQuoted
                | ScalarStyle::DoubleQuoted
                | ScalarStyle::Literal
                | ScalarStyle::Folded => Scalar::Text,
            };
        };
        let kind = match tag.suffix.as_str() {
            "!" if tag.handle.is_empty() => Some(Scalar::Text),
            "str" | "binary" | "timestamp" if tag.is_yaml_core_schema() => Some(Scalar::Text),
            "int" | "float" if tag.is_yaml_core_schema() => scalar::number(text),
            "bool" | "null" if tag.is_yaml_core_schema() => Some(scalar::plain(text)),
            _ => None,
        };
        kind.unwrap_or_else(|| {
            let message = format!("`{text}` cannot be read as the tag `{tag}` says: remove the tag");
            self.faults.push(Fault { at, message });
            Scalar::Text
        })
    }

    fn check_tag(&mut self, tag: Option<&Tag>, expected: &str, at: Position) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != expected) {
            self.faults.push(Fault { at, message: format!("unknown tag `{tag}`: remove it") });
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<FinishedNode<'a>, Fault> {
        let Some(original) = self.anchors.get(&anchor) else {
            let message = "the alias stands inside the value it refers to, or refers to another document";
            return Err(Fault { at, message: message.to_owned() });
        };
        let (weight, height) = (original.weight, original.height);
        self.grow(weight, at)?;
        self.bound_depth(height, at)?;
        self.anchors
            .get(&anchor)
            .map(FinishedNode::copy)
            .ok_or(Fault { at, message: "unknown alias".to_owned() })
    }

    fn grow(&mut self, weight: usize, at: Position) -> Result<(), Fault> {
        self.growth += weight;
        if self.growth > MAX_GROWTH {
            let message = "aliases expand the file beyond the limit: write the values out";
            return Err(Fault { at, message: message.to_owned() });
        }
        Ok(())
    }

    fn bound_depth(&self, height: usize, at: Position) -> Result<(), Fault> {
        if self.open.len() + height > MAX_DEPTH {
            let message = format!("values nest more than {MAX_DEPTH} levels deep: no Kubernetes object does");
            return Err(Fault { at, message });
        }
        Ok(())
    }

    fn enter(&mut self, at: Position, anchor: usize, content: Content<'a>) -> Result<(), Fault> {
        self.bound_depth(1, at)?;
        self.open.push(OpenNode { at, anchor, content, weight: size_of::<YamlEntry<'_>>(), height: 0 });
        Ok(())
    }

    fn leave(&mut self) -> Option<(usize, FinishedNode<'a>)> {
        let frame = self.open.pop()?;
        let value = match frame.content {
            Content::List(items) => YamlValue::List(items),
            Content::Map { entries, merged, .. } => {
                let entries = merge(entries, merged);
                self.report_duplicates(&entries);
                YamlValue::Map(entries)
            }
        };
        let mut node = YamlNode { at: frame.at, value };
        // A document, or an item of its list. What has an anchor may stand elsewhere for something else.
        if self.open.len() <= OBJECT_DEPTH && frame.anchor == 0 {
            drop_unread(&mut node);
        }
        let finished = FinishedNode {
            node,
            weight: frame.weight,
            height: frame.height + 1,
            style: ScalarStyle::DoubleQuoted,
        };
        Some((frame.anchor, finished))
    }

    fn report_duplicates(&mut self, entries: &[YamlEntry<'a>]) {
        if entries.len() < 2 {
            return;
        }
        let mut keys: Vec<(&str, Position)> = entries.iter().map(|entry| (&*entry.key, entry.at)).collect();
        keys.sort();
        for pair in keys.windows(2) {
            if let [(first, before), (second, at)] = pair
                && first == second
            {
                let message = format!("duplicate key `{second}`: it already stands at line {}", before.line);
                self.faults.push(Fault { at: *at, message });
            }
        }
    }
}

impl<'a> FinishedNode<'a> {
    fn copy(&self) -> FinishedNode<'a> {
        FinishedNode { node: self.node.clone(), weight: self.weight, height: self.height, style: self.style }
    }
}

impl<'a> OpenNode<'a> {
    fn take(&mut self, finished: FinishedNode<'a>, faults: &mut Vec<Fault>) {
        self.weight += finished.weight;
        self.height = self.height.max(finished.height);
        let node = finished.node;
        match &mut self.content {
            Content::List(items) => items.push(node),
            Content::Map { key: key @ None, .. } => {
                let YamlNode { at, value } = node;
                let (kind, text) = match value {
                    YamlValue::Scalar(kind, text) => (kind, text),
                    YamlValue::List(_) | YamlValue::Map(_) => {
                        let message = "a list or an object cannot be a key".to_owned();
                        faults.push(Fault { at, message });
                        (Scalar::Text, Cow::Borrowed(""))
                    }
                };
                let merges = text == "<<" && finished.style == ScalarStyle::Plain;
                *key = Some(MapKey { at, text, kind, merges });
            }
            Content::Map { entries, key, merged } => match key.take() {
                Some(MapKey { merges: true, at, .. }) => match node.value {
                    YamlValue::Map(_) => merged.push(node),
                    YamlValue::List(nodes)
                        if nodes.iter().all(|node| matches!(node.value, YamlValue::Map(_))) =>
                    {
                        merged.extend(nodes);
                    }
                    YamlValue::Scalar(..) | YamlValue::List(_) => {
                        let message = "`<<` merges only an object or a list of objects".to_owned();
                        faults.push(Fault { at, message });
                    }
                },
                Some(MapKey { at, text, kind, .. }) => {
                    entries.push(YamlEntry { at, key: text, kind, value: node })
                }
                None => {}
            },
        }
    }
}

/// Adds the entries of merged mappings (`<<: *defaults`). The mapping's own keys take precedence over merged ones, and
/// earlier merges over later ones.
fn merge<'a>(mut entries: Vec<YamlEntry<'a>>, merged: Vec<YamlNode<'a>>) -> Vec<YamlEntry<'a>> {
    for node in merged {
        let YamlValue::Map(inherited) = node.value else { continue };
        let own: BTreeSet<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        entries.extend(inherited.into_iter().filter(|entry| !own.contains(&entry.key)));
    }
    entries
}
