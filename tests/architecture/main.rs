//! The shape of the sources, as ARCHITECTURE.md describes it: who imports whom, and what no file may hold.
//!
//! Comes in: the repository's text. Goes out: a line for everything that is not as it should be. It builds nothing, and
//! each check has tests of its own which show that it notices.

mod document;
mod habits;
mod imports;
mod names;
mod text;
mod tree;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tree::Tree;

/// The most lines of a file, unit tests not counted.
const LINES: usize = 400;
/// Files that may be longer, with the reason.
const LONG: [(&str, &str); 0] = [];
/// Names that two types have until one of them is renamed.
const PENDING: [&str; 0] = [];
/// What a scenario's directory holds.
const SCENARIO: [&str; 6] =
    ["cluster.yaml", "reach.txt", "rules.node-a", "rules.node-b", "table.node-a", "table.node-b"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
}

fn holds(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn table() -> imports::Table {
    imports::table(&read("ARCHITECTURE.md"))
        .unwrap_or_else(|problem| panic!("the table of ARCHITECTURE.md: {problem}"))
}

/// The files that Cargo begins to build from, in every package of the workspace.
fn roots() -> BTreeSet<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = command.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let paths = targets.filter_map(|target| target["src_path"].as_str());
    paths.filter_map(|path| Some(Path::new(path).strip_prefix(root()).ok()?.to_path_buf())).collect()
}

#[test]
fn rooms_import_what_the_table_allows_and_nothing_else() {
    let crates = ["Cargo.toml", "core/Cargo.toml"].map(|manifest| imports::dependencies(&read(manifest)));
    holds(imports::trespasses(&Tree::read(root()), &table(), &crates.into_iter().flatten().collect()));
}

#[test]
fn table_has_an_order_from_the_lowest_room_to_the_highest() {
    holds(imports::circles(&table()));
}

#[test]
fn pure_part_has_no_input_output_clock_lock_or_async() {
    holds(habits::impurities(&Tree::read(root())));
}

#[test]
fn what_the_controller_decides_reads_no_clock_and_waits_for_nothing() {
    holds(habits::impure_decisions(&Tree::read(root())));
}

#[test]
fn only_rooms_that_own_rule_text_write_any() {
    holds(habits::rule_texts(&Tree::read(root())));
}

#[test]
fn nothing_is_unfinished_or_without_order() {
    holds(habits::unwanted_words(&Tree::read(root())));
}

#[test]
fn every_door_says_what_its_room_is_for() {
    holds(habits::undocumented(&Tree::read(root())));
}

#[test]
fn no_file_is_too_long_to_read() {
    holds(habits::long_files(&Tree::read(root()), LINES, &BTreeMap::from(LONG)));
}

#[test]
fn every_type_has_a_name_of_its_own() {
    holds(names::repeated(&Tree::read(root()), &PENDING));
}

#[test]
fn every_source_is_reached_by_the_compiler() {
    holds(Tree::read(root()).unreached(&roots()));
}

#[test]
fn every_scenario_has_its_files_and_no_others() {
    let wanted: BTreeSet<String> = SCENARIO.map(str::to_owned).into();
    let mut problems = Vec::new();
    for entry in fs::read_dir(root().join("tests/scenarios")).expect("there are scenarios") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            let files = fs::read_dir(&path).expect("a directory can be listed");
            let files: BTreeSet<String> = files
                .map(|file| {
                    file.expect("a directory can be listed").file_name().to_string_lossy().into_owned()
                })
                .collect();
            let odd = files.symmetric_difference(&wanted);
            problems
                .extend(odd.map(|name| format!("{}: missing or not a scenario's: {name}", path.display())));
        }
    }
    holds(problems);
}

#[test]
fn every_room_has_its_line_on_the_crate_page() {
    let page = read("src/lib.rs");
    let silent = table().into_keys().filter(|room| !page.contains(&format!("//! - [`{room}`]")));
    holds(silent.map(|room| format!("src/lib.rs: no line for `{room}`")).collect());
}

#[test]
fn tests_that_the_documents_name_are_there() {
    let tree = Tree::read(root());
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let document = read(name);
        holds(document::absent_tests(name, &document, &tree));
        holds(document::absent_paths(name, &document, |path| root().join(path).exists()));
    }
}

#[test]
fn key_types_of_the_table_are_defined_in_their_modules() {
    holds(document::absent_key_types(&read("ARCHITECTURE.md"), &Tree::read(root())));
}

#[test]
fn every_invariant_names_a_test() {
    let document = read("ARCHITECTURE.md");
    holds(document::unheld_invariants(&document));
}
