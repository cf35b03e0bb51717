//! Guesses from the words of a text that is not YAML which pods it may isolate, so that an unreadable policy opens
//! nothing.

use crate::source::convert::{DEFAULT_NAMESPACE, name};
use std::collections::BTreeSet;

/// The message about a text that does not show what it may isolate.
pub(in crate::source) const UNKNOWN_ISOLATION: &str = "cannot tell which pods this isolates: unless the file was read before, nothing of it is enforced until it can be read";

/// The pods that a text may isolate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Isolates {
    /// None: it contains kinds, and none of them is a policy.
    Nothing,
    /// Pods of these namespaces.
    Namespaces(BTreeSet<String>),
    /// Its words do not show which.
    Unknown,
}

/// Searches a text for kinds and namespaces.
pub(super) fn isolates(text: &str) -> Isolates {
    let kinds: Vec<&str> = values(text, "kind").collect();
    let policies = kinds.iter().filter(|kind| kind.to_lowercase().contains("pol")).count();
    let namespaces: Vec<&str> =
        values(text, "namespace").filter(|name| name::label_fault(name).is_none()).collect();
    if policies == 0 {
        return if kinds.is_empty() || kinds.iter().any(|kind| kind.ends_with("List")) {
            Isolates::Unknown
        } else {
            Isolates::Nothing
        };
    }
    let missing = policies > namespaces.len();
    let default = missing.then_some(DEFAULT_NAMESPACE);
    Isolates::Namespaces(namespaces.into_iter().chain(default).map(str::to_owned).collect())
}

/// The word after each `key:` or `"key":`.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let is_word = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '/');
    text.match_indices(key).filter_map(move |(at, _)| {
        let before = text.get(..at)?;
        if before.ends_with(is_word) {
            return None;
        }
        let after = text.get(at + key.len()..)?.trim_start_matches(['"', '\'']).trim_start();
        let value = after.strip_prefix(':')?.trim_start_matches([' ', '\t', '"', '\'']);
        let end = value.find(|character| !is_word(character)).unwrap_or(value.len());
        value.get(..end).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Isolates {
        Isolates::Namespaces(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn broken_policy_names_the_namespace_that_it_may_isolate() {
        for (text, expected) in [
            ("kind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\nspec: [", named(&["shop"])),
            ("{\"kind\": \"NetworkPolicy\", \"metadata\": {\"namespace\": \"shop\"", named(&["shop"])),
            ("kind: NetworkPolcy\nmetadata:\n  namespace: 'shop'\n\tx", named(&["shop"])),
            ("kind: NetworkPolicyX\nmetadata:\n  namespace: 'shop'\n\tx", named(&["shop"])),
            ("kind: NetworkPolicy\nmetadata: {name: a\nspec: {}", named(&["default"])),
            (
                "kind: NetworkPolicy\nnamespace: a\n---\nkind: NetworkPolicy\nnamespaceSelector: {}\n",
                named(&["a", "default"]),
            ),
            ("kind: Pod\nmetadata: {namespace: shop, name: [", Isolates::Nothing),
            ("kind: List\nitems: [", Isolates::Unknown),
            ("\u{0}\u{1}", Isolates::Unknown),
            ("", Isolates::Unknown),
        ] {
            assert_eq!(isolates(text), expected, "{text}");
        }
    }
}
