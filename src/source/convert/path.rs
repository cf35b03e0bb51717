//! Where a value stands in an object.

use std::fmt;

/// A path from an object's root, kept on the stack and spelled out only for a complaint.
#[derive(Clone, Copy)]
pub(in crate::source) enum Path<'a> {
    /// The object itself.
    Root,
    /// A field that the API defines.
    Field(&'a Path<'a>, &'a str),
    /// A key that the user chose, such as a label's.
    Key(&'a Path<'a>, &'a str),
    /// A place in a list, from 0.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(in crate::source) fn field<'a>(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(in crate::source) fn key<'a>(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(in crate::source) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    /// `spec.ingress[0].from[1].podSelector.matchLabels[app]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Step<'a> {
    /// `.name`
    Field(&'a str),
    /// `[key]` or `[0]`; which of the two, only the value at that place can tell.
    Bracket(&'a str),
}

/// The steps of a path that `Display` spelled. A text that is no path yields steps that lead nowhere.
pub(in crate::source) fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']')?;
            rest = after;
            return Some(Step::Bracket(key));
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        let (name, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
        rest = after;
        Some(Step::Field(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_like_the_field_it_points_to() {
        let spec = Path::Root.field("spec");
        let ingress = spec.field("ingress");
        let rule = ingress.index(0);
        let labels = rule.field("matchLabels");
        assert_eq!(Path::Root.to_string(), "");
        assert_eq!(labels.key("app.kubernetes.io/name").to_string(), {
            "spec.ingress[0].matchLabels[app.kubernetes.io/name]"
        });
    }

    #[test]
    fn steps_take_a_path_apart_again() {
        let steps: Vec<_> = steps("spec.ingress[0].matchLabels[app.io/name]").collect();
        assert_eq!(steps, {
            [
                Step::Field("spec"),
                Step::Field("ingress"),
                Step::Bracket("0"),
                Step::Field("matchLabels"),
                Step::Bracket("app.io/name"),
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
