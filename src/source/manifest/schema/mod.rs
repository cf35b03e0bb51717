//! Checks before an object is read that the API has its fields and that their values have the right types.
//!
//! A typo must not change what a policy means, so a field of a policy that the API does not have is reported to the author as an
//! error, and never silently dropped. Other kinds may have fields of a newer API that resemble none that is known.

mod table;
mod unread;

pub(super) use table::LIST;
pub(super) use unread::drop_unread;

use super::scalar::Scalar;
use super::tree::{Position, YamlEntry, YamlNode, YamlValue};
use crate::source::convert::field_path::FieldPath;
use crate::source::convert::object_kind::ObjectKind;
use table::{NAMESPACE, NETWORK_POLICY, POD};

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Anything: it is not read.
    Any,
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A whole number.
    Int,
    /// A whole number or a string.
    IntOrString,
    /// An object with any keys and string values.
    Strings,
    /// A list.
    List(&'static Shape),
    /// An object of known fields, in the order of their names.
    Object(&'static [SchemaField]),
}

/// A field that the API has.
#[derive(Clone, Copy)]
pub(super) struct SchemaField {
    name: &'static str,
    shape: Shape,
}

/// A value that does not have its shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Whether it is a field that a newer API may have: unknown, and no misspelling of a known one.
    pub(super) may_be_newer: bool,
    pub(super) at: Position,
    pub(super) path: String,
    pub(super) message: String,
}

/// The shape of this kind of object.
pub(super) fn of(kind: ObjectKind) -> Shape {
    match kind {
        ObjectKind::Namespace => NAMESPACE,
        ObjectKind::Pod => POD,
        ObjectKind::NetworkPolicy => NETWORK_POLICY,
    }
}

/// Whether `word`, a kind in one of the API groups that are read, is a misspelling of `kind`. Other groups have their
/// own kinds.
pub(super) fn is_meant_by(kind: ObjectKind, word: &str, api_version: &str) -> bool {
    let name = kind.name();
    ObjectKind::ALL.into_iter().any(|kind| kind.was_served_as(api_version))
        && (name.eq_ignore_ascii_case(word) || name.len() > 3 && nearest(word, [name].into_iter()).is_some())
}

/// Lists all values that do not have `shape`.
pub(super) fn check(node: &YamlNode<'_>, shape: Shape) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    visit(node, shape, &FieldPath::Root, &mut misfits);
    misfits
}

/// Reads values as the API does: null in a list is an empty value, null as a label is an empty string, and a number without a
/// fraction is an integer.
pub(super) fn normalise(node: &mut YamlNode<'_>, shape: Shape) {
    match (shape, &mut node.value) {
        (Shape::List(shape), YamlValue::List(items)) => {
            for item in items {
                match (*shape, item.is_null()) {
                    (Shape::Object(_) | Shape::Strings, true) => item.value = YamlValue::Map(Vec::new()),
                    (Shape::String, true) => item.value = YamlValue::Scalar(Scalar::Text, "".into()),
                    (
                        Shape::Any
                        | Shape::String
                        | Shape::Bool
                        | Shape::Int
                        | Shape::IntOrString
                        | Shape::Strings
                        | Shape::List(_)
                        | Shape::Object(_),
                        _,
                    ) => normalise(item, *shape),
                }
            }
        }
        (Shape::Strings, YamlValue::Map(entries)) => {
            for entry in entries.iter_mut().filter(|entry| entry.value.is_null()) {
                entry.value.value = YamlValue::Scalar(Scalar::Text, "".into());
            }
        }
        (Shape::Object(fields), YamlValue::Map(entries)) => {
            for entry in entries {
                let field = fields.binary_search_by(|field| field.name.cmp(&entry.key));
                if let Some(field) = field.ok().and_then(|index| fields.get(index)) {
                    normalise(&mut entry.value, field.shape);
                }
            }
        }
        (Shape::Int | Shape::IntOrString, YamlValue::Scalar(scalar @ Scalar::Float(_), _)) => {
            if let Scalar::Float(float) = *scalar
                && float.fract() == 0.0
                && float.abs() <= LARGEST_EXACT
            {
                *scalar = Scalar::Int(float as i64);
            }
        }
        (
            Shape::Any
            | Shape::String
            | Shape::Bool
            | Shape::Int
            | Shape::IntOrString
            | Shape::Strings
            | Shape::List(_)
            | Shape::Object(_),
            YamlValue::Scalar(..) | YamlValue::List(_) | YamlValue::Map(_),
        ) => {}
    }
}

/// The largest float up to which all integers are exact.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

fn visit(node: &YamlNode<'_>, shape: Shape, path: &FieldPath<'_>, misfits: &mut Vec<Misfit>) {
    match (shape, &node.value) {
        (Shape::Any, _)
        | (Shape::String | Shape::IntOrString, YamlValue::Scalar(Scalar::Text, _))
        | (Shape::Bool, YamlValue::Scalar(Scalar::Bool(_), _))
        | (Shape::Int | Shape::IntOrString, YamlValue::Scalar(Scalar::Int(_), _)) => {}
        (Shape::List(shape), YamlValue::List(items)) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, *shape, &path.index(index), misfits);
            }
        }
        (Shape::Strings, YamlValue::Map(entries)) => {
            for entry in entries {
                check_key(entry, path, misfits);
                visit(&entry.value, Shape::String, &path.key(&entry.key), misfits);
            }
        }
        (Shape::Object(fields), YamlValue::Map(entries)) => {
            for entry in entries {
                let path = path.field(&entry.key);
                match fields.binary_search_by(|field| field.name.cmp(&entry.key)) {
                    // To the API, null is the same as absent.
                    Ok(_) if entry.value.is_null() => {}
                    Ok(index) => {
                        if let Some(field) = fields.get(index) {
                            visit(&entry.value, field.shape, &path, misfits);
                        }
                    }
                    Err(_) => misfits.push(Misfit {
                        may_be_newer: meant(&entry.key, fields).is_none(),
                        at: entry.at,
                        path: path.to_string(),
                        message: unknown_field(&entry.key, fields),
                    }),
                }
            }
        }
        (
            Shape::String
            | Shape::Bool
            | Shape::Int
            | Shape::IntOrString
            | Shape::Strings
            | Shape::List(_)
            | Shape::Object(_),
            _,
        ) => misfits.push(Misfit {
            may_be_newer: false,
            at: node.at,
            path: path.to_string(),
            message: wrong_type(node, shape),
        }),
    }
}

fn check_key(entry: &YamlEntry<'_>, path: &FieldPath<'_>, misfits: &mut Vec<Misfit>) {
    let (key, what) = match entry.kind {
        Scalar::Text | Scalar::Int(_) | Scalar::Float(_) => return,
        Scalar::Bool(_) => (&entry.key, "a boolean"),
        Scalar::Null => (&entry.key, "nothing"),
    };
    misfits.push(Misfit {
        may_be_newer: false,
        at: entry.at,
        path: path.key(key).to_string(),
        message: format!("wrong type: expected a string as key, found {what}: quote it"),
    });
}

fn wrong_type(node: &YamlNode<'_>, shape: Shape) -> String {
    let expected = match shape {
        Shape::Any => "anything",
        Shape::String => "a string",
        Shape::Bool => "a boolean",
        Shape::Int => "a whole number",
        Shape::IntOrString => "a whole number or a string",
        Shape::Strings | Shape::Object(_) => "an object",
        Shape::List(_) => "a list",
    };
    let cure = match (shape, &node.value) {
        (Shape::String | Shape::IntOrString, YamlValue::Scalar(Scalar::Null, _)) => {
            ": write \"\" for an empty string"
        }
        (Shape::String | Shape::IntOrString, YamlValue::Scalar(..)) => ": quote it",
        (Shape::Bool | Shape::Int, YamlValue::Scalar(Scalar::Text, _)) => ": write it without quotes",
        (Shape::Object(_), YamlValue::Scalar(Scalar::Null, _)) => ": write {} for an empty object",
        (Shape::List(_), YamlValue::Map(_)) => ": begin each item with `- `",
        (Shape::Object(_) | Shape::Strings, YamlValue::List(_)) => ": remove the `- `",
        (
            Shape::Any
            | Shape::String
            | Shape::Bool
            | Shape::Int
            | Shape::IntOrString
            | Shape::Strings
            | Shape::List(_)
            | Shape::Object(_),
            _,
        ) => "",
    };
    format!("wrong type: expected {expected}, found {}{cure}", node.describe())
}

fn unknown_field(key: &str, fields: &[SchemaField]) -> String {
    let names = fields.iter().map(|field| field.name);
    match meant(key, fields) {
        Some(name) => format!("unknown field `{key}`: did you mean `{name}`?"),
        None => {
            let names: Vec<_> = names.filter(|_| fields.len() <= 6).collect();
            match names.as_slice() {
                [] => format!("unknown field `{key}`: the API has no such field here"),
                names => format!("unknown field `{key}`: the fields here are {}", names.join(", ")),
            }
        }
    }
}

/// The field that `key` most likely misspells.
fn meant(key: &str, fields: &[SchemaField]) -> Option<&'static str> {
    nearest(key, fields.iter().map(|field| field.name))
}

/// The name that `word` most likely misspells.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(4))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest::yaml::Documents;

    fn misfits(text: &str, shape: Shape) -> Vec<String> {
        let node = Documents::new(text).next().unwrap().unwrap();
        let misfits = check(&node, shape).into_iter();
        misfits
            .map(|Misfit { at, path, message, .. }| format!("{}:{}: {path}: {message}", at.line, at.column))
            .collect()
    }

    fn in_order(shape: Shape) {
        match shape {
            Shape::Object(fields) => {
                assert!(
                    fields.is_sorted_by(|one, two| one.name < two.name),
                    "{:?}",
                    fields.first().map(|f| f.name)
                );
                fields.iter().for_each(|field| in_order(field.shape));
            }
            Shape::List(shape) => in_order(*shape),
            Shape::Any | Shape::String | Shape::Bool | Shape::Int | Shape::IntOrString | Shape::Strings => {}
        }
    }

    #[test]
    fn fields_stand_in_the_order_in_which_they_are_searched() {
        [NAMESPACE, POD, NETWORK_POLICY, LIST].into_iter().for_each(in_order);
    }

    #[test]
    fn unknown_field_is_named_with_the_one_that_was_meant() {
        let text = "spec:\n  ingress:\n  - from:\n    - podSelector: {}\n    - namespaceselector: {}\n";
        assert_eq!(misfits(text, NETWORK_POLICY), {
            ["5:7: spec.ingress[0].from[1].namespaceselector: unknown field `namespaceselector`: \
              did you mean `namespaceSelector`?"]
        });
        for (written, meant) in [("form", "from"), ("port", "ports"), ("Ports", "ports")] {
            let text = format!("spec: {{ingress: [{{{written}: []}}]}}");
            let expected = format!(
                "1:19: spec.ingress[0].{written}: unknown field `{written}`: did you mean `{meant}`?"
            );
            assert_eq!(misfits(&text, NETWORK_POLICY), [expected]);
        }
    }

    #[test]
    fn unknown_field_that_resembles_none_is_answered_with_those_there_are() {
        assert_eq!(misfits("spec: {ingress: [{to: []}]}", NETWORK_POLICY), {
            ["1:19: spec.ingress[0].to: unknown field `to`: the fields here are from, ports"]
        });
        assert_eq!(misfits("spec: {colour: red}", POD), {
            ["1:8: spec.colour: unknown field `colour`: the API has no such field here"]
        });
    }

    #[test]
    fn wrong_type_says_what_was_expected_and_found() {
        for (text, expected) in [
            (
                "metadata: {labels: {a: on}}",
                "1:24: metadata.labels[a]: wrong type: expected a string, found the boolean `on`: quote it",
            ),
            (
                "metadata: {labels: {a: 1.5}}",
                "1:24: metadata.labels[a]: wrong type: expected a string, found the number `1.5`: quote it",
            ),
            (
                "metadata: {labels: {a: }}",
                "1:22: metadata.labels[a]: wrong type: expected a string, found nothing: write \"\" for an empty string",
            ),
            (
                "metadata: {labels: {on: a}}",
                "1:21: metadata.labels[on]: wrong type: expected a string as key, found a boolean: quote it",
            ),
            (
                "metadata: {labels: [a]}",
                "1:20: metadata.labels: wrong type: expected an object, found a list: remove the `- `",
            ),
            ("metadata: x", "1:11: metadata: wrong type: expected an object, found the string `x`"),
            (
                "spec: {ingress: {from: []}}",
                "1:17: spec.ingress: wrong type: expected a list, found an object: begin each item with `- `",
            ),
            (
                "spec: {ingress: [ ~ ]}",
                "1:19: spec.ingress[0]: wrong type: expected an object, found nothing: write {} for an empty object",
            ),
            (
                "spec: {policyTypes: Ingress}",
                "1:21: spec.policyTypes: wrong type: expected a list, found the string `Ingress`",
            ),
            (
                "spec: {ingress: [{ports: [{port: 1.5}]}]}",
                "1:34: spec.ingress[0].ports[0].port: wrong type: expected a whole number or a string, found the number `1.5`: quote it",
            ),
            (
                "spec: {ingress: [{ports: [{port: 1, endPort: '2'}]}]}",
                "1:46: spec.ingress[0].ports[0].endPort: wrong type: expected a whole number, found the string `2`: write it without quotes",
            ),
        ] {
            assert_eq!(misfits(text, NETWORK_POLICY), [expected], "{text}");
        }
        assert_eq!(misfits("spec: {hostNetwork: 'true'}", POD), {
            [
                "1:21: spec.hostNetwork: wrong type: expected a boolean, found the string `true`: write it without quotes",
            ]
        });
    }

    #[test]
    fn null_field_counts_as_absent() {
        assert_eq!(
            misfits(
                "metadata: {creationTimestamp: null, labels: }\nspec: {ingress: ~, podSelector: }\n",
                NETWORK_POLICY
            ),
            [""; 0]
        );
    }

    #[test]
    fn everything_that_does_not_fit_is_listed() {
        assert_eq!(misfits("a: 1\nspec: {b: 2, egress: 3}\n", NETWORK_POLICY).len(), 3);
    }

    #[test]
    fn what_nobody_reads_may_be_anything() {
        let text = "spec: {volumes: [1, {a: b}], containers: [{env: [{x: y}], resources: 7}]}";
        assert_eq!(misfits(text, POD), [""; 0]);
    }
}
