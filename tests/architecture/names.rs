//! Names of types: each name stands for one type in the whole library.

use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The keywords that define a type.
const KINDS: [&str; 4] = ["struct", "enum", "trait", "type"];
/// The languages of other programs: `iptables::Rule`, `nftables::Rule`.
const LANGUAGES: &str = "core/src/netfilter";
/// The objects of the Kubernetes API: `api::Pod`.
const API: &str = "core/src/api";
/// The model, and its words for traffic: `model::Rule`, `net::Verdict`.
const MODEL: [&str; 2] = ["core/src/model", "core/src/net.rs"];

/// Type names that are defined more than once, each with its files, and names of `pending` that are not.
///
/// Two vocabularies are exempt, because their types are written with their module. Types of the languages below
/// `core/src/netfilter` are named as iptables, ipset and nftables name them: they may repeat each other's names and those of
/// the model. Types of `core/src/api` are named as the Kubernetes API names them: the model may repeat their names. No other
/// type may.
pub(crate) fn repeated(tree: &Tree, pending: &[&str]) -> Vec<String> {
    let mut definitions: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    let test_only = test_only(tree);
    for (path, text) in tree.library().filter(|(path, _)| !test_only.contains(*path)) {
        for name in defined(text.shipped()) {
            definitions.entry(name).or_default().push(path);
        }
    }
    definitions.retain(|_, places| !may_share(places));
    let stale = pending.iter().filter(|name| !definitions.contains_key(**name));
    let stale = stale.map(|name| format!("{name}: pending, but no longer defined twice"));
    let repeated = definitions.iter().filter(|(name, _)| !pending.contains(name));
    let repeated = repeated.map(|(name, places)| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        format!("{name}: {}", places.join(", "))
    });
    repeated.chain(stale).collect()
}

/// Whether the types of one name may share it, given the files that define them.
fn may_share(places: &[&Path]) -> bool {
    let count = |directory: &str| places.iter().filter(|path| path.starts_with(directory)).count();
    let (languages, api) = (count(LANGUAGES), count(API));
    let model: usize = MODEL.iter().map(|directory| count(directory)).sum();
    let others = places.len() - languages - api - model;
    match others {
        0 => api <= 1 && model <= 1 && (api == 0 || languages == 0),
        1 => places.len() == 1,
        _ => false,
    }
}

/// The types that code defines, except associated types.
fn defined(code: &str) -> impl Iterator<Item = &str> {
    let mut blocks: Vec<bool> = Vec::new();
    let mut head: Vec<&str> = Vec::new();
    tokens(code).filter(move |token| {
        let (token, last) = (*token, head.last().copied().unwrap_or_default());
        let is_associated = last == "type" && blocks.last().is_some_and(|associates| *associates);
        let is_name = token.starts_with(|first: char| first.is_alphabetic() || first == '_');
        let is_defined = is_name && KINDS.contains(&last) && !is_associated;
        match token {
            "{" => {
                blocks.push(is_implementation(&head));
                head.clear();
            }
            "}" => {
                blocks.pop();
                head.clear();
            }
            ";" => head.clear(),
            _ => head.push(token),
        }
        is_defined
    })
}

/// Whether the block after these words is that of a trait or of an implementation.
fn is_implementation(head: &[&str]) -> bool {
    let item =
        head.iter().rposition(|token| *token == "]").map_or(head, |attributes| &head[attributes + 1..]);
    let first = item.iter().find(|token| !["pub", "unsafe", "(", "crate", "super", ")"].contains(*token));
    first.is_some_and(|first| ["impl", "trait"].contains(first))
}

/// Words and single other characters.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if part(first) { rest.find(|c| !part(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// The files of test modules: `#[cfg(test)] mod name;`.
fn test_only(tree: &Tree) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for (path, text) in tree.library() {
        let own = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
        let directory =
            if own { path.parent().unwrap_or(Path::new("")).into() } else { path.with_extension("") };
        for declared in text.code.split("#[cfg(test)]").skip(1) {
            let Some((declared, _)) = declared.split_once(';') else { continue };
            let words: Vec<&str> = declared.split_whitespace().collect();
            if let [.., "mod", name] = words.as_slice() {
                files.insert(directory.join(format!("{name}.rs")));
                files.insert(directory.join(name).join("mod.rs"));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [&str; 0] = [];

    fn names(code: &str) -> Vec<&str> {
        defined(code).collect()
    }

    fn found(files: &[(&str, &str)], pending: &[&str]) -> Vec<String> {
        let mut tree = Tree::default();
        files.iter().for_each(|(path, text)| tree.add(path, text));
        repeated(&tree, pending)
    }

    #[test]
    fn types_are_found_wherever_they_are_defined() {
        let code =
            "#[derive(Debug)]\npub(crate) struct A<'a>(B);\nenum B {}\npub trait C: D {}\ntype E = A;\n";
        assert_eq!(names(code), ["A", "B", "C", "E"]);
        assert_eq!(names("part! { pub struct F { a: u8 } }\nfn f() { struct G; }"), ["F", "G"]);
        assert_eq!(names("macro_rules! m { () => { struct $name { } } }"), NOTHING);
    }

    #[test]
    fn associated_type_is_no_definition() {
        let code = "impl A for B { type Err = (); fn f() { type Inner = u8; } type Other = u8; }";
        assert_eq!(names(code), ["Inner"]);
        assert_eq!(names("#[a]\npub(crate) trait T { type Item; }\ntype Alias = u8;"), ["T", "Alias"]);
    }

    #[test]
    fn name_of_two_types_is_noticed_unless_one_is_in_a_test_module() {
        let a = ("core/src/a.rs", "pub struct A;");
        assert_eq!(found(&[a, ("src/b.rs", "enum A {}")], &[]), ["A: core/src/a.rs, src/b.rs"]);
        assert_eq!(found(&[("src/b.rs", "struct A;\nmod c { struct A; }")], &[]), ["A: src/b.rs, src/b.rs"]);
        assert_eq!(found(&[a, ("src/b.rs", "#[cfg(test)]\nmod tests { struct A; }")], &[]), NOTHING);
        let modules = ("src/b.rs", "#[cfg(test)]\nmod c;\n#[cfg(test)]\npub(crate) mod d;");
        let test_only = [a, modules, ("src/b/c.rs", "struct A;"), ("src/b/d.rs", "struct A;")];
        assert_eq!(found(&test_only, &[]), NOTHING);
    }

    #[test]
    fn pending_name_is_passed_over_until_one_type_has_it() {
        let files = [("src/a.rs", "struct A;"), ("src/b.rs", "struct A;")];
        assert_eq!(found(&files, &["A"]), NOTHING);
        assert_eq!(found(&files[..1], &["A"]), ["A: pending, but no longer defined twice"]);
    }

    #[test]
    fn language_and_api_may_share_names_with_the_model_and_nothing_else() {
        let at =
            |paths: &[&str]| found(&paths.iter().map(|path| (*path, "struct A;")).collect::<Vec<_>>(), &[]);
        let (iptables, nftables) = ("core/src/netfilter/iptables/a.rs", "core/src/netfilter/nftables/a.rs");
        let (model, net, api) = ("core/src/model/a.rs", "core/src/net.rs", "core/src/api/a.rs");
        for free in [&[iptables, nftables, model][..], &[iptables, net], &[api, model], &["src/a.rs"]] {
            assert_eq!(at(free), NOTHING, "{free:?}");
        }
        for taken in [
            &[iptables, "src/a.rs"][..],
            &[api, "src/a.rs"],
            &[model, net],
            &[api, "core/src/api/b.rs"],
            &[api, iptables],
        ] {
            assert_eq!(at(taken).len(), 1, "{taken:?}");
        }
    }
}
