//! What no source may hold: words, calls, and too many lines.

use crate::imports::heads;
use crate::text::Text;
use crate::tree::{CORE, Tree, room};
use std::collections::BTreeMap;
use std::path::Path;

/// The rooms that own the text of rules.
const RULE_TEXT: [&str; 3] = ["netfilter", "apply", "kernel"];
/// With what a rule's text begins.
const RULE_VERBS: [&str; 5] = ["-A ", "-I ", "-D ", "-N ", "-X "];
/// Modules of std that a room of the pure part has no use for.
const IMPURE_MODULES: [&str; 4] = ["env", "fs", "process", "thread"];
/// What a room of the pure part has no use for, as words.
const IMPURE_WORDS: [&str; 7] =
    ["async", "Instant", "Mutex", "OnceLock", "RwLock", "SystemTime", "TcpStream"];
/// The room whose decisions are apart from its clock and its channels, and its files that have these.
const DECIDES: &str = "src/controller";
const SHELL: [&str; 5] = ["mod.rs", "kernel_thread.rs", "query.rs", "shortfalls.rs", "verifier.rs"];
/// What a decision has no use for, as words.
const IMPURE_DECISIONS: [&str; 8] =
    ["Instant::now", "Mutex", "RwLock", "SystemTime::now", "async", "await", "elapsed", "tokio"];
/// What is unfinished, as words in code or comments.
const UNFINISHED: [&str; 5] = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!"];
/// What has no order.
const UNORDERED: [&str; 2] = ["HashMap", "HashSet"];

/// I/O, clocks, locks and async in the pure part.
pub(crate) fn impurities(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.below(CORE) {
        let code = text.shipped();
        let modules = heads(code, "std").filter(|(_, head)| IMPURE_MODULES.contains(head));
        let modules = modules.map(|(line, head)| (line, format!("std::{head}")));
        let words = words(code, &IMPURE_WORDS).map(|(line, word)| (line, word.to_owned()));
        found.extend(modules.chain(words).map(|(line, what)| {
            format!("{}:{line}: `{what}` in `{CORE}`, which has no I/O, clock, lock or async", path.display())
        }));
    }
    found
}

/// Clocks, locks and async where the controller decides.
pub(crate) fn impure_decisions(tree: &Tree) -> Vec<String> {
    let decides = |path: &Path| !SHELL.iter().any(|name| path == Path::new(DECIDES).join(name));
    let files = tree.below(DECIDES).filter(|(path, _)| decides(path));
    let found = files.flat_map(|(path, text)| {
        words(text.shipped(), &IMPURE_DECISIONS).map(move |(line, word)| {
            format!("{}:{line}: `{word}` where the controller decides; the time is passed in", path.display())
        })
    });
    found.collect()
}

/// Text of rules outside the rooms that own it.
pub(crate) fn rule_texts(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.library() {
        if room(path).is_some_and(|room| RULE_TEXT.contains(&room.as_str())) {
            continue;
        }
        let written =
            text.shipped_strings().filter(|(_, text)| RULE_VERBS.iter().any(|verb| text.starts_with(verb)));
        found.extend(written.map(|(line, text)| {
            format!("{}:{line}: {text:?} is a rule's text; only {RULE_TEXT:?} write any", path.display())
        }));
    }
    found
}

/// Words that say that something is unfinished, and collections without an order.
pub(crate) fn unwanted_words(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, (_, text)) in &tree.files {
        let unfinished = words(&text.code, &UNFINISHED).chain(words(&text.comments, &UNFINISHED));
        let unordered = words(&text.code, &UNORDERED);
        let all = unfinished.chain(unordered);
        found.extend(all.map(|(line, word)| format!("{}:{line}: {word}", path.display())));
    }
    found
}

/// Every `mod.rs` and crate root that does not begin with `//!`.
pub(crate) fn undocumented(tree: &Tree) -> Vec<String> {
    let is_door = |path: &Path| ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
    let silent = tree.files.iter().filter(|(path, (source, _))| is_door(path) && !source.starts_with("//! "));
    silent
        .map(|(path, _)| format!("{}: begin with //!: what comes in, what goes out", path.display()))
        .collect()
}

/// Files with more than `limit` lines above their unit tests, and exceptions that are needed no longer.
pub(crate) fn long_files(tree: &Tree, limit: usize, exceptions: &BTreeMap<&str, &str>) -> Vec<String> {
    let lines = |text: &Text| text.shipped().trim_end().lines().count();
    let long: BTreeMap<String, usize> = (tree.files.iter())
        .map(|(path, (_, text))| (path.display().to_string(), lines(text)))
        .filter(|(_, lines)| *lines > limit)
        .collect();
    let excused = |path: &str| exceptions.get(path).is_some_and(|reason| !reason.is_empty());
    let too_long = long.iter().filter(|(path, _)| !excused(path));
    let too_long =
        too_long.map(|(path, lines)| format!("{path}: {lines} lines above its unit tests, over {limit}"));
    let stale = exceptions.keys().filter(|path| !long.contains_key(**path));
    too_long.chain(stale.map(|path| format!("{path}: excused for its length and not long"))).collect()
}

/// Where whole words stand, line by line.
pub(crate) fn words<'a>(text: &'a str, wanted: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    (1..).zip(text.lines()).flat_map(move |(number, line)| {
        let here = wanted.iter().filter(move |word| {
            line.match_indices(**word).any(|(at, _)| {
                let (before, after) = (&line[..at], &line[at + word.len()..]);
                let continues = word.ends_with(part) && after.starts_with(part);
                !before.ends_with(part) && !continues
            })
        });
        here.map(move |word| (number, *word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        let mut tree = Tree::default();
        tree.add(path, text);
        tree
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn every_impurity_of_a_pure_room_is_noticed() {
        for code in [
            "async fn f() {}",
            "use std::fs;",
            "use std::{collections::BTreeMap, process};",
            "let now = Instant::now();",
            "let now = std::time::SystemTime::now();",
            "use std::sync::Mutex;",
            "std::thread::sleep(a);",
            "std::env::var(a)",
        ] {
            assert_eq!(impurities(&tree("core/src/compile/a.rs", code)).len(), 1, "{code}");
            assert_eq!(impurities(&tree("src/controller/a.rs", code)), NOTHING, "{code}");
        }
    }

    #[test]
    fn comments_strings_and_unit_tests_are_no_impurity() {
        let code = "// async\nlet a = \"std::fs\"; use std::fmt;\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(impurities(&tree("core/src/compile/a.rs", code)), NOTHING);
    }

    #[test]
    fn clock_in_a_decision_is_noticed_and_the_shell_has_one() {
        for code in ["let now = Instant::now();", "async fn f() {}", "use tokio::sync::watch;"] {
            assert_eq!(impure_decisions(&tree("src/controller/a.rs", code)).len(), 1, "{code}");
            assert_eq!(impure_decisions(&tree("src/controller/mod.rs", code)), NOTHING, "{code}");
        }
        let passed_in = "fn f(now: Instant) {}\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }";
        assert_eq!(impure_decisions(&tree("src/controller/a.rs", passed_in)), NOTHING);
    }

    #[test]
    fn text_of_a_rule_is_noticed_outside_its_rooms() {
        let code = "let rule = format!(\"-A {chain} {rule}\");";
        assert_eq!(rule_texts(&tree("core/src/render/a.rs", code)).len(), 1);
        assert_eq!(rule_texts(&tree("core/src/netfilter/a.rs", code)), NOTHING);
        assert_eq!(rule_texts(&tree("src/render/a.rs", "// -A FORWARD\n")), NOTHING);
    }

    #[test]
    fn unfinished_work_and_unordered_collections_are_noticed() {
        let found = |text: &str| unwanted_words(&tree("tests/a.rs", text)).len();
        assert_eq!(found("// TODO: later"), 1);
        assert_eq!(found("fn f() { unimplemented!() }"), 1);
        assert_eq!(found("use std::collections::{BTreeMap, HashMap};"), 1);
        assert_eq!(found("let a = \"TODO\"; // nothing todo here, AUTODOC\n"), 0);
    }

    #[test]
    fn door_without_a_sign_is_noticed() {
        assert_eq!(undocumented(&tree("src/a/mod.rs", "mod b;")).len(), 1);
        assert_eq!(undocumented(&tree("src/a/mod.rs", "//! A room.\nmod b;")), NOTHING);
        assert_eq!(undocumented(&tree("src/a/b.rs", "fn f() {}")), NOTHING);
    }

    #[test]
    fn long_file_is_noticed_unless_excused_with_a_reason() {
        let tree = tree("src/a.rs", "fn f() {}\n\n\nfn g() {}\n#[cfg(test)]\nmod tests {\n}\n");
        let excuse = |path, reason| BTreeMap::from([(path, reason)]);
        assert_eq!(long_files(&tree, 4, &BTreeMap::new()), NOTHING);
        assert_eq!(long_files(&tree, 3, &BTreeMap::new()).len(), 1);
        assert_eq!(long_files(&tree, 3, &excuse("src/a.rs", "")).len(), 1);
        assert_eq!(long_files(&tree, 3, &excuse("src/a.rs", "one table")), NOTHING);
        assert_eq!(long_files(&tree, 4, &excuse("src/a.rs", "one table")).len(), 1);
    }
}
