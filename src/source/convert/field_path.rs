//! The path of a field in an object.

use std::fmt;

/// A path from an object's root, kept on the stack and formatted only for a message.
#[derive(Clone, Copy)]
pub(in crate::source) enum FieldPath<'a> {
    /// The object itself.
    Root,
    /// A field that the API defines.
    Field(&'a FieldPath<'a>, &'a str),
    /// A key that the user chose, such as a label's.
    Key(&'a FieldPath<'a>, &'a str),
    /// An index in a list, from 0.
    Index(&'a FieldPath<'a>, usize),
}

impl FieldPath<'_> {
    pub(in crate::source) fn field<'a>(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath::Field(self, name)
    }

    pub(in crate::source) fn key<'a>(&'a self, key: &'a str) -> FieldPath<'a> {
        FieldPath::Key(self, key)
    }

    pub(in crate::source) fn index(&self, index: usize) -> FieldPath<'_> {
        FieldPath::Index(self, index)
    }
}

impl fmt::Display for FieldPath<'_> {
    /// `spec.ingress[0].from[1].podSelector.matchLabels[app]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldPath::Root => Ok(()),
            FieldPath::Field(FieldPath::Root, name) => f.write_str(name),
            FieldPath::Field(parent, name) => write!(f, "{parent}.{name}"),
            FieldPath::Key(parent, key) => write!(f, "{parent}[{key}]"),
            FieldPath::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum PathStep<'a> {
    /// `.name`
    Field(&'a str),
    /// `[key]` or `[0]`; which of the two depends on the value there.
    Bracket(&'a str),
}

/// The steps of a path that `Display` formatted. A text that is not a path yields steps that lead nowhere.
pub(in crate::source) fn steps(path: &str) -> impl Iterator<Item = PathStep<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            rest = after;
            return Some(PathStep::Bracket(key));
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        let (name, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
        rest = after;
        Some(PathStep::Field(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_like_the_field_it_points_to() {
        let spec = FieldPath::Root.field("spec");
        let ingress = spec.field("ingress");
        let rule = ingress.index(0);
        let labels = rule.field("matchLabels");
        assert_eq!(FieldPath::Root.to_string(), "");
        assert_eq!(labels.key("app.kubernetes.io/name").to_string(), {
            "spec.ingress[0].matchLabels[app.kubernetes.io/name]"
        });
    }

    #[test]
    fn steps_are_the_parts_of_a_path() {
        let steps: Vec<_> = steps("spec.ingress[0].matchLabels[app.io/name]").collect();
        assert_eq!(steps, {
            [
                PathStep::Field("spec"),
                PathStep::Field("ingress"),
                PathStep::Bracket("0"),
                PathStep::Field("matchLabels"),
                PathStep::Bracket("app.io/name"),
            ]
        });
    }

    #[test]
    fn steps_of_nonsense_end() {
        for text in ["", ".", "..", "[", "]", "a..b", "[[", "a[b", "]]]a"] {
            assert!(steps(text).count() < 4, "{text}");
        }
    }
}
