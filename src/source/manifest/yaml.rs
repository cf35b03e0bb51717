//! YAML, and so JSON, as trees.
//!
//! Stricter than YAML in one point: a key may stand only once in a mapping. Depth and the growth by aliases are
//! bounded, so that no file can exhaust the stack or the memory.

use super::scalar::{self, Scalar};
use super::tree::{Entry, Node, Place, Value};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

/// How deeply values may nest.
const MAX_DEPTH: usize = 128;

/// By how many bytes, roughly, the aliases of one file may make it grow.
const MAX_GROWTH: usize = 16 << 20;

/// Something that keeps a file from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Place,
    pub(super) message: String,
}

/// Writes each pair of surrogates (`\ud83d\ude00`), which JSON knows and YAML does not, as the one character it means.
pub(super) fn join_surrogates(text: &str) -> Cow<'_, str> {
    let mut joined = String::new();
    let (mut rest, mut written) = (text, 0);
    while let Some(at) = rest.find("\\u") {
        let start = text.len() - rest.len() + at;
        rest = text.get(start + 2..).unwrap_or_default();
        let escaped = text
            .get(..start)
            .is_some_and(|before| before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1);
        let half = |digits: Option<&str>| digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let second = rest.get(4..6).filter(|next| *next == "\\u").and_then(|_| half(rest.get(6..10)));
        let Some((first, second)) = half(rest.get(..4)).zip(second).filter(|_| !escaped) else { continue };
        if let Some(Ok(character)) = char::decode_utf16([first, second]).next().filter(|_| first >= 0xd800) {
            joined += text.get(written..start).unwrap_or_default();
            joined.push_str(&format!("\\U{:08x}", u32::from(character)));
            rest = rest.get(10..).unwrap_or_default();
            written = text.len() - rest.len();
        }
    }
    if joined.is_empty() {
        return Cow::Borrowed(text);
    }
    joined += text.get(written..).unwrap_or_default();
    Cow::Owned(joined)
}

/// A text as kubectl takes it apart: JSON documents may follow each other without `---`, and a byte order mark may begin each
/// document. Lines stay where they are, but for JSON documents that share one.
pub(super) fn separate(text: &str) -> Cow<'_, str> {
    let mut separate = Cow::Borrowed(text);
    if text.contains(BYTE_ORDER_MARK) {
        let mended =
            text.split_inclusive('\n').map(|line| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
        separate = Cow::Owned(mended.collect());
    }
    if !separate.trim_start().starts_with('{') {
        return separate;
    }
    let mut documents = serde_json::Deserializer::from_str(&separate).into_iter::<serde::de::IgnoredAny>();
    let (mut joined, mut written) = (String::new(), 0);
    while let Some(Ok(_)) = documents.next() {
        let end = documents.byte_offset();
        let Some(rest) = separate.get(end..) else { break };
        let Some(next) = rest.find(|character: char| !character.is_whitespace()) else { break };
        if !rest.split_at(next).1.starts_with('{') {
            break;
        }
        joined += separate.get(written..end).unwrap_or_default();
        // The next document begins on the separator's own line, so that it takes no line from those that follow.
        joined += rest.get(..next).unwrap_or_default();
        if !joined.ends_with('\n') {
            joined.push('\n');
        }
        joined += "--- ";
        written = end + next;
    }
    if written == 0 {
        return separate;
    }
    joined += separate.get(written..).unwrap_or_default();
    Cow::Owned(joined)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The documents of a file, one after the other.
pub(super) struct Documents<'a> {
    parser: Parser<'a, StrInput<'a>>,
    growth: usize,
    ended: bool,
}

impl<'a> Documents<'a> {
    /// Reads `text` as it is asked for documents.
    pub(super) fn new(text: &'a str) -> Documents<'a> {
        Documents { parser: Parser::new_from_str(text), growth: 0, ended: false }
    }

    /// Whether nothing more can be read, for the end of a document could not be found.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn read(&mut self) -> Option<Result<Node<'a>, Vec<Fault>>> {
        loop {
            match self.parser.next_event()? {
                Err(error) => {
                    self.ended = true;
                    return Some(Err(vec![syntax(&error)]));
                }
                Ok((Event::DocumentStart(_), _)) => {
                    let mut builder = Builder::new(self.growth);
                    let document = builder.document(&mut self.parser);
                    self.growth = builder.growth;
                    let faults = builder.faults;
                    return Some(match document {
                        Ok(node) if faults.is_empty() => Ok(node),
                        Ok(_) => Err(faults),
                        Err(fault) => {
                            self.ended = true;
                            Err(faults.into_iter().chain([fault]).collect())
                        }
                    });
                }
                Ok(_) => {}
            }
        }
    }
}

impl<'a> Iterator for Documents<'a> {
    type Item = Result<Node<'a>, Vec<Fault>>;

    /// The next document, or all that is wrong with it. Nothing follows a document whose end cannot be found.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let document = self.read();
        self.ended |= document.is_none();
        document
    }
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn syntax(error: &ScanError) -> Fault {
    Fault { at: place(error.marker()), message: format!("not valid YAML: {}", error.info()) }
}

/// A list or mapping that is still open.
struct Frame<'a> {
    at: Place,
    anchor: usize,
    content: Content<'a>,
    weight: usize,
    height: usize,
}

enum Content<'a> {
    List(Vec<Node<'a>>),
    Map { entries: Vec<Entry<'a>>, key: Option<Key<'a>>, merged: Vec<Node<'a>> },
}

struct Key<'a> {
    at: Place,
    text: Cow<'a, str>,
    kind: Scalar,
    merges: bool,
}

/// A finished value on its way to the place where it belongs.
struct Finished<'a> {
    node: Node<'a>,
    weight: usize,
    height: usize,
    style: ScalarStyle,
}

struct Builder<'a> {
    open: Vec<Frame<'a>>,
    anchors: BTreeMap<usize, Finished<'a>>,
    faults: Vec<Fault>,
    growth: usize,
}

impl<'a> Builder<'a> {
    fn new(growth: usize) -> Builder<'a> {
        Builder { open: Vec::new(), anchors: BTreeMap::new(), faults: Vec::new(), growth }
    }

    fn document(&mut self, parser: &mut Parser<'a, StrInput<'a>>) -> Result<Node<'a>, Fault> {
        let mut end = Place { line: 1, column: 1 };
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| syntax(&error))?;
            end = place(&span.start);
            let finished = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let kind = self.kind(&text, style, tag.as_deref(), end);
                    let weight = size_of::<Entry<'_>>() + text.len();
                    let node = Node { at: end, value: Value::Scalar(kind, text) };
                    Some((anchor, Finished { node, weight, height: 1, style }))
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

    fn kind(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Place) -> Scalar {
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

    fn check_tag(&mut self, tag: Option<&Tag>, expected: &str, at: Place) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != expected) {
            self.faults.push(Fault { at, message: format!("unknown tag `{tag}`: remove it") });
        }
    }

    fn alias(&mut self, anchor: usize, at: Place) -> Result<Finished<'a>, Fault> {
        let Some(original) = self.anchors.get(&anchor) else {
            let message = "the alias stands inside the value it refers to, or refers to another document";
            return Err(Fault { at, message: message.to_owned() });
        };
        let (weight, height) = (original.weight, original.height);
        self.grow(weight, at)?;
        self.bound_depth(height, at)?;
        self.anchors.get(&anchor).map(Finished::copy).ok_or(Fault { at, message: "unknown alias".to_owned() })
    }

    fn grow(&mut self, weight: usize, at: Place) -> Result<(), Fault> {
        self.growth += weight;
        if self.growth > MAX_GROWTH {
            let message = "aliases make the file grow beyond all reason: write the values out";
            return Err(Fault { at, message: message.to_owned() });
        }
        Ok(())
    }

    fn bound_depth(&self, height: usize, at: Place) -> Result<(), Fault> {
        if self.open.len() + height > MAX_DEPTH {
            let message = format!("values nest more than {MAX_DEPTH} levels deep: no Kubernetes object does");
            return Err(Fault { at, message });
        }
        Ok(())
    }

    fn enter(&mut self, at: Place, anchor: usize, content: Content<'a>) -> Result<(), Fault> {
        self.bound_depth(1, at)?;
        self.open.push(Frame { at, anchor, content, weight: size_of::<Entry<'_>>(), height: 0 });
        Ok(())
    }

    fn leave(&mut self) -> Option<(usize, Finished<'a>)> {
        let frame = self.open.pop()?;
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, merged, .. } => {
                let entries = merge(entries, merged);
                self.report_duplicates(&entries);
                Value::Map(entries)
            }
        };
        let node = Node { at: frame.at, value };
        let finished = Finished {
            node,
            weight: frame.weight,
            height: frame.height + 1,
            style: ScalarStyle::DoubleQuoted,
        };
        Some((frame.anchor, finished))
    }

    fn report_duplicates(&mut self, entries: &[Entry<'a>]) {
        let mut keys: Vec<(&str, Place)> = entries.iter().map(|entry| (&*entry.key, entry.at)).collect();
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

impl<'a> Finished<'a> {
    fn copy(&self) -> Finished<'a> {
        Finished { node: self.node.clone(), weight: self.weight, height: self.height, style: self.style }
    }
}

impl<'a> Frame<'a> {
    fn take(&mut self, finished: Finished<'a>, faults: &mut Vec<Fault>) {
        self.weight += finished.weight;
        self.height = self.height.max(finished.height);
        let node = finished.node;
        match &mut self.content {
            Content::List(items) => items.push(node),
            Content::Map { key: key @ None, .. } => {
                let Node { at, value } = node;
                let (kind, text) = match value {
                    Value::Scalar(kind, text) => (kind, text),
                    Value::List(_) | Value::Map(_) => {
                        let message = "a list or an object cannot be a key".to_owned();
                        faults.push(Fault { at, message });
                        (Scalar::Text, Cow::Borrowed(""))
                    }
                };
                let merges = text == "<<" && finished.style == ScalarStyle::Plain;
                *key = Some(Key { at, text, kind, merges });
            }
            Content::Map { entries, key, merged } => match key.take() {
                Some(Key { merges: true, at, .. }) => match node.value {
                    Value::Map(_) => merged.push(node),
                    Value::List(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Map(_))) => {
                        merged.extend(nodes);
                    }
                    Value::Scalar(..) | Value::List(_) => {
                        let message = "`<<` merges only an object or a list of objects".to_owned();
                        faults.push(Fault { at, message });
                    }
                },
                Some(Key { at, text, kind, .. }) => entries.push(Entry { at, key: text, kind, value: node }),
                None => {}
            },
        }
    }
}

/// Adds the merged mappings' entries (`<<: *defaults`); an own key goes before a merged one, an earlier merge before
/// a later one.
fn merge<'a>(mut entries: Vec<Entry<'a>>, merged: Vec<Node<'a>>) -> Vec<Entry<'a>> {
    for node in merged {
        let Value::Map(inherited) = node.value else { continue };
        let own: BTreeSet<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        entries.extend(inherited.into_iter().filter(|entry| !own.contains(&entry.key)));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Node<'_> {
        let documents: Vec<_> = Documents::new(text).collect();
        assert_eq!(documents.len(), 1);
        documents.into_iter().next().unwrap().unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let faults = Documents::new(text).filter_map(Result::err).flatten();
        faults.map(|fault| format!("{}:{}: {}", fault.at.line, fault.at.column, fault.message)).collect()
    }

    fn at(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    /// The tree as JSON, to compare meanings.
    fn json(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Scalar(Scalar::Null, _) => serde_json::Value::Null,
            Value::Scalar(Scalar::Bool(value), _) => (*value).into(),
            Value::Scalar(Scalar::Int(value), _) => (*value).into(),
            Value::Scalar(Scalar::Float(value), _) => (*value).into(),
            Value::Scalar(Scalar::Text, text) => text.as_ref().into(),
            Value::List(items) => items.iter().map(json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect()
            }
        }
    }

    #[test]
    fn everything_knows_where_it_stands() {
        let tree = one("# a pod\nspec:\n  ingress:\n  - from:\n    - podSelector: {a: \"b\"}\n      x: on\n");
        assert_eq!(tree.at, at(2, 1));
        assert_eq!(tree.place("spec"), at(3, 3));
        assert_eq!(tree.place("spec.ingress").line, 4);
        assert_eq!(tree.place("spec.ingress[0]"), at(4, 5));
        assert_eq!(tree.place("spec.ingress[0].from[0]"), at(5, 7));
        assert_eq!(tree.place("spec.ingress[0].from[0].podSelector"), at(5, 20));
        assert_eq!(tree.place("spec.ingress[0].from[0].podSelector[a]"), at(5, 24));
        assert_eq!(tree.place("spec.ingress[0].from[0].x"), at(6, 10));
        assert_eq!(tree.place("spec.ingress[0].from[0].missing[3]"), at(5, 7));
    }

    #[test]
    fn json_is_read_like_yaml() {
        let text = r#"{"a": [1, -2.5, true, null, "yes", "\u00e9\n\/", {}], "b": {"c":{"d":[]}}}"#;
        assert_eq!(json(&one(text)), serde_json::from_str::<serde_json::Value>(text).unwrap());
        let pretty = "{\n\t\"a\": {\n\t\t\"b\": [\n\t\t\t1\n\t\t]\n\t}\n}\n";
        assert_eq!(json(&one(pretty)), serde_json::json!({"a": {"b": [1]}}));
    }

    #[test]
    fn pairs_of_surrogates_are_one_character() {
        let text = r#"{"a": "\ud83d\ude00, \uD83D\uDE00", "b": "\\ud83d\\ude00", "c": "\u00e9\u00e9"}"#;
        let joined = join_surrogates(text);
        assert_eq!(json(&one(&joined)), serde_json::from_str::<serde_json::Value>(text).unwrap());
        for text in [
            "",
            "a",
            r"\u",
            r"\ud83d",
            r"\ud83d\u",
            r"\ud83d\u0041",
            r"\ude00\ud83d",
            r"\+d83\+de0",
            r"\u12é\u3456",
        ] {
            assert_eq!(join_surrogates(text), text);
        }
    }

    #[test]
    fn quotes_and_blocks_keep_words_as_text() {
        let tree = one("a: 'on'\nb: \"80\"\nc: |\n  true\nd: >-\n  null\ne: !!str 80\nf: ! on\n");
        let expected =
            serde_json::json!({"a": "on", "b": "80", "c": "true\n", "d": "null", "e": "80", "f": "on"});
        assert_eq!(json(&tree), expected);
    }

    #[test]
    fn file_holds_many_documents() {
        let documents: Vec<_> = Documents::new("---\na: 1\n---\n---\nb: 2\n...\n---\n# nothing\n").collect();
        let documents: Vec<_> = documents.into_iter().map(|document| json(&document.unwrap())).collect();
        assert_eq!(serde_json::json!(documents), serde_json::json!([{"a": 1}, null, {"b": 2}, null]));
        assert_eq!(Documents::new("").count(), 0);
        assert_eq!(Documents::new("# only a comment\n").count(), 0);
    }

    #[test]
    fn duplicate_key_is_a_fault_at_its_second_place() {
        assert_eq!(faults("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n"), {
            [
                "5:3: duplicate key `c`: it already stands at line 3",
                "6:1: duplicate key `a`: it already stands at line 1",
            ]
        });
        assert_eq!(
            faults("{\"a\": 1, \"b\": 2, \"a\": 3}"),
            ["1:18: duplicate key `a`: it already stands at line 1"]
        );
    }

    #[test]
    fn documents_after_a_faulty_one_are_still_read() {
        let documents: Vec<_> =
            Documents::new("a: 1\na: 2\n---\nb: 1\n").map(|document| document.is_ok()).collect();
        assert_eq!(documents, [false, true]);
    }

    #[test]
    fn broken_syntax_is_reported_where_it_breaks() {
        assert_eq!(faults("a: [1, 2\nb: 3\n").len(), 1);
        assert_eq!(
            faults("a: 1\n  b: 2\n"),
            ["2:4: not valid YAML: mapping values are not allowed in this context"]
        );
        assert_eq!(faults("a:\n\t- 1\n").len(), 1);
        assert_eq!(faults("{\"a\": 1").len(), 1);
    }

    #[test]
    fn alias_stands_for_its_anchor() {
        let tree = one("a: &x {b: [1, &y two]}\nc: *x\nd: *y\n");
        assert_eq!(
            json(&tree),
            serde_json::json!({"a": {"b": [1, "two"]}, "c": {"b": [1, "two"]}, "d": "two"})
        );
    }

    #[test]
    fn alias_does_not_reach_into_another_document() {
        assert_eq!(faults("a: &x 1\n---\nb: *x\n").len(), 1);
        assert_eq!(faults("a: &x [*x]\n").len(), 1);
        assert_eq!(faults("a: *x\n").len(), 1);
    }

    #[test]
    fn merge_key_adds_what_is_not_there() {
        let tree =
            one("base: &base {a: 1, b: 1}\nmore: &more {b: 2, c: 2}\nx:\n  <<: [*base, *more]\n  a: 0\n");
        assert_eq!(json(&tree)["x"], serde_json::json!({"a": 0, "b": 1, "c": 2}));
        assert_eq!(json(&one("\"<<\": 1")), serde_json::json!({"<<": 1}));
        assert_eq!(faults("<<: 1\n"), ["1:1: `<<` merges only an object or a list of objects"]);
    }

    #[test]
    fn billion_laughs_are_not_laughed() {
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        let faults = faults(&text);
        assert!(
            faults.iter().all(|fault| fault.contains("aliases make the file grow beyond all reason")),
            "{faults:?}"
        );
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn depth_is_bounded_in_every_style() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(100_000)]
        {
            assert_eq!(faults(&text).len(), 1);
        }
        let mut nested = "a0: &a0 [x]\n".to_owned();
        for level in 1..200 {
            nested += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert_eq!(
            faults(&nested),
            ["127:14: values nest more than 128 levels deep: no Kubernetes object does"]
        );
    }

    #[test]
    fn key_must_be_a_scalar() {
        assert_eq!(faults("[a]: 1\n"), ["1:1: a list or an object cannot be a key"]);
        assert_eq!(faults("? {a: b}\n: 1\n"), ["1:3: a list or an object cannot be a key"]);
    }

    #[test]
    fn unknown_tag_is_a_fault() {
        assert_eq!(faults("a: !Ref b\n"), ["1:4: `b` cannot be read as the tag `!Ref` says: remove the tag"]);
        assert_eq!(faults("a: !x {b: 1}\n"), ["1:4: unknown tag `!x`: remove it"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            Documents::new(&join_surrogates(&text)).for_each(drop);
        }

        #[test]
        fn nothing_like_yaml_makes_the_reader_panic(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "b: ", "- ", "\n", "  ", "? ", ": ", "&x ", "*x", "{", "}", "[", "]", ",", "\"", "'", "|", ">",
                "---", "...", "<<: ", "!!str ", "!", "#", "\t", "\\", "%TAG", "80", "é", "\\ud83d", "\\ude00", "\u{feff}", "\r", "-", "%YAML 1.1",
            ]), 0..60),
        ) {
            Documents::new(&join_surrogates(&parts.concat())).for_each(drop);
        }
    }
}
