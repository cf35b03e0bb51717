//! What the documents say about the sources: tests and paths that must be there.

use crate::habits::words;
use crate::tree::{Tree, room};

/// How many invariants there are.
const INVARIANTS: usize = 10;

/// Above the table of key types.
const KEY_TYPES: &str = "## Key types";

/// With what the name of a metric begins.
const METRIC: &str = "bridgewarden_";

/// What a document writes between backticks, code blocks left out.
fn quoted(document: &str) -> impl Iterator<Item = &str> {
    let prose = document.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// Names of tests, written as `` `file.rs`: `name_of_the_test` `` or alone, that no source has. A name of a test is a
/// sentence: at least four words in lower case, joined by `_`.
pub(crate) fn absent_tests(name: &str, document: &str, tree: &Tree) -> Vec<String> {
    let tests = quoted(document).filter(|word| is_test_name(word));
    let absent = tests.filter(|test| {
        let function = format!("fn {test}(");
        !tree.files.values().any(|(_, text)| text.code.contains(&function))
    });
    absent.map(|test| format!("{name}: there is no test {test}")).collect()
}

fn is_test_name(word: &str) -> bool {
    let legal = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    legal && word.matches('_').count() >= 3 && !word.starts_with(METRIC)
}

/// Paths below `core`, `src`, `tests`, `docs` or `examples` that are not there.
pub(crate) fn absent_paths(name: &str, document: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let roots = ["core/", "src/", "tests/", "docs/", "examples/"];
    let is_path =
        |word: &str| roots.iter().any(|root| word.starts_with(root)) && !word.contains(['<', '*', ' ', '{']);
    let absent = quoted(document).filter(|word| is_path(word) && !exists(word));
    absent.map(|path| format!("{name}: there is no {path}")).collect()
}

/// Names in the table of key types that their module does not define, such as `` | `net` | `Family` | … | ``. A row without a module
/// belongs to the module above it.
pub(crate) fn absent_key_types(document: &str, tree: &Tree) -> Vec<String> {
    let section =
        document.split_once(KEY_TYPES).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or_default());
    let mut module = String::new();
    let mut absent = Vec::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [own, names, _] = cells.as_slice() else { continue };
        if let Some(own) = own.strip_prefix('`').and_then(|own| own.strip_suffix('`')) {
            module = own.to_owned();
        }
        for name in quoted(names) {
            let last = name.rsplit("::").next().unwrap_or(name);
            let definitions =
                ["struct", "enum", "trait", "type", "fn", "mod"].map(|kind| format!("pub {kind} {last}"));
            let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
            let is_defined =
                tree.library().filter(|(path, _)| room(path).as_ref() == Some(&module)).any(|(_, text)| {
                    // A macro is given the name on a line of its own.
                    words(&text.code, &definitions).next().is_some()
                        || text.code.lines().any(|line| line.trim() == last)
                });
            if !is_defined {
                absent.push(format!("ARCHITECTURE.md: `{module}` defines no {name}"));
            }
        }
    }
    absent
}

/// Invariants whose row names no test.
pub(crate) fn unheld_invariants(document: &str) -> Vec<String> {
    let row = |number: usize| document.lines().find(|line| line.starts_with(&format!("| I{number} |")));
    let held = |number: &usize| row(*number).is_some_and(|row| quoted(row).any(is_test_name));
    (1..=INVARIANTS).filter(|number| !held(number)).map(|number| format!("I{number} names no test")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_that_is_named_but_not_there_is_noticed() {
        let mut tree = Tree::default();
        tree.add("tests/a.rs", "fn nothing_opens_at_all() {}\n// fn nothing_closes_at_all()\n");
        let absent = |document: &str| absent_tests("A.md", document, &tree);
        assert_eq!(absent("Held by `nothing_opens_at_all`, not `snake_case`."), Vec::<String>::new());
        assert_eq!(absent("By `nothing_closes_at_all`."), ["A.md: there is no test nothing_closes_at_all"]);
        assert_eq!(absent("```\n`not_a_test_name`\n```"), Vec::<String>::new());
    }

    #[test]
    fn path_that_is_named_but_not_there_is_noticed() {
        let absent = |document: &str| absent_paths("A.md", document, |path| path == "src/net.rs");
        assert_eq!(absent("See `src/net.rs`, `tests/scenarios/<case>/reach.txt`."), Vec::<String>::new());
        assert_eq!(absent("See `src/not.rs`."), ["A.md: there is no src/not.rs"]);
    }

    #[test]
    fn key_type_that_its_module_does_not_define_is_noticed() {
        let mut tree = Tree::default();
        tree.add("core/src/net.rs", "pub enum Family {}\npub struct FlowLabel;\n");
        let document = "## Key types\n\n| Module | Type | Meaning |\n|---|---|---|\n| `net` | `Family` | one |\n| | `Flow` | two |\n";
        assert_eq!(absent_key_types(document, &tree), ["ARCHITECTURE.md: `net` defines no Flow"]);
    }

    #[test]
    fn invariant_without_a_test_is_noticed() {
        let row = |number: usize| format!("| I{number} | Something. | `this_is_held_by_a_test` |\n");
        let document: String = (1..=INVARIANTS).map(row).collect();
        assert_eq!(unheld_invariants(&document), Vec::<String>::new());
        assert_eq!(unheld_invariants(&document.replace("| I3 |", "| I33 |")), ["I3 names no test"]);
        assert_eq!(
            unheld_invariants(&document.replacen("`this_is_held_by_a_test`", "", 1)),
            ["I1 names no test"]
        );
    }
}
