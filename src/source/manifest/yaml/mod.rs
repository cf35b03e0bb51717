//! Parses YAML, and therefore JSON, to trees.
//!
//! Stricter than YAML in one point: a mapping may contain a key only once. Depth and the growth by aliases are bounded,
//! so that no file can exhaust the stack or the memory.

mod builder;

use super::tree::{Position, YamlNode};
use builder::Builder;
use saphyr_parser::{Event, Marker, Parser, ScanError, StrInput};

/// An error that prevents a file from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) message: String,
}

/// The documents of a file, one after the other.
pub(super) struct Documents<'a> {
    parser: Parser<'a, StrInput<'a>>,
    growth: usize,
    ended: bool,
}

impl<'a> Documents<'a> {
    /// Reads `text` one document at a time.
    pub(super) fn new(text: &'a str) -> Documents<'a> {
        Documents { parser: Parser::new_from_str(text), growth: 0, ended: false }
    }

    /// Whether nothing more can be read, because the end of a document was not found.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn read(&mut self) -> Option<Result<YamlNode<'a>, Vec<Fault>>> {
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
    type Item = Result<YamlNode<'a>, Vec<Fault>>;

    /// The next document, or all that is wrong with it. Nothing follows a document whose end was not found.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let document = self.read();
        self.ended |= document.is_none();
        document
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

fn syntax(error: &ScanError) -> Fault {
    Fault { at: position(error.marker()), message: format!("not valid YAML: {}", error.info()) }
}

#[cfg(test)]
mod tests {
    use super::super::json::join_surrogates;
    use super::super::scalar::Scalar;
    use super::super::tree::YamlValue;
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> YamlNode<'_> {
        let documents: Vec<_> = Documents::new(text).collect();
        assert_eq!(documents.len(), 1);
        documents.into_iter().next().unwrap().unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let faults = Documents::new(text).filter_map(Result::err).flatten();
        faults.map(|fault| format!("{}:{}: {}", fault.at.line, fault.at.column, fault.message)).collect()
    }

    fn at(line: usize, column: usize) -> Position {
        Position { line, column }
    }

    /// The tree as JSON, to compare meanings.
    fn json(node: &YamlNode<'_>) -> serde_json::Value {
        match &node.value {
            YamlValue::Scalar(Scalar::Null, _) => serde_json::Value::Null,
            YamlValue::Scalar(Scalar::Bool(value), _) => (*value).into(),
            YamlValue::Scalar(Scalar::Int(value), _) => (*value).into(),
            YamlValue::Scalar(Scalar::Float(value), _) => (*value).into(),
            YamlValue::Scalar(Scalar::Text, text) => text.as_ref().into(),
            YamlValue::List(items) => items.iter().map(json).collect(),
            YamlValue::Map(entries) => {
                entries.iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect()
            }
        }
    }

    #[test]
    fn every_value_has_its_position() {
        let tree = one("# a pod\nspec:\n  ingress:\n  - from:\n    - podSelector: {a: \"b\"}\n      x: on\n");
        assert_eq!(tree.at, at(2, 1));
        assert_eq!(tree.position_of("spec"), at(3, 3));
        assert_eq!(tree.position_of("spec.ingress").line, 4);
        assert_eq!(tree.position_of("spec.ingress[0]"), at(4, 5));
        assert_eq!(tree.position_of("spec.ingress[0].from[0]"), at(5, 7));
        assert_eq!(tree.position_of("spec.ingress[0].from[0].podSelector"), at(5, 20));
        assert_eq!(tree.position_of("spec.ingress[0].from[0].podSelector[a]"), at(5, 24));
        assert_eq!(tree.position_of("spec.ingress[0].from[0].x"), at(6, 10));
        assert_eq!(tree.position_of("spec.ingress[0].from[0].missing[3]"), at(5, 7));
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
    fn duplicate_key_is_a_fault_at_its_second_position() {
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
    fn growth_by_nested_aliases_is_bounded() {
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        let faults = faults(&text);
        assert!(
            faults.iter().all(|fault| fault.contains("aliases expand the file beyond the limit")),
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
