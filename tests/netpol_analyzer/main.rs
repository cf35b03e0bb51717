//! The answers of `reach` and `diff` beside those of another project: the connections that np-guard/netpol-analyzer expects of its
//! examples.
//!
//! Its files are not part of this repository, and no package registry has them. The tests are marked as ignored for that reason
//! alone. To run them, name a checkout:
//!
//! ```text
//! git clone https://github.com/np-guard/netpol-analyzer
//! NETPOL_ANALYZER=netpol-analyzer cargo test --test netpol_analyzer -- --ignored
//! ```
//!
//! What differs, and why, is in `docs/reach.md`.

mod change_list;
mod connection_list;
mod example;
mod notation;

use example::{Compared, Example, files_below, is_plain};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout.
fn checkout() -> PathBuf {
    let found = std::env::var_os("NETPOL_ANALYZER").map(PathBuf::from);
    found.expect("NETPOL_ANALYZER names a checkout of np-guard/netpol-analyzer")
}

/// Names and why each cannot be read.
type Unreadable<'u> = &'u [(&'u str, &'u str)];

/// What was compared, in all.
#[derive(Default)]
struct Total {
    compared: usize,
    /// Those that have pairs of which both projects say something.
    with_pairs: usize,
    pairs: usize,
    problems: Vec<String>,
}

impl Total {
    fn add(&mut self, name: &str, found: Result<Compared, String>, unreadable: Unreadable<'_>) {
        let expected = unreadable.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
        match (found, expected) {
            (Ok(found), None) => {
                self.compared += 1;
                self.with_pairs += usize::from(found.pairs > 0);
                self.pairs += found.pairs;
                self.problems.extend(found.differing.iter().map(|line| format!("{name}: {line}")));
            }
            (Ok(_), Some(why)) => self.problems.push(format!("{name} can be read, although {why}")),
            (Err(error), Some(why)) if error.contains(why) => {}
            (Err(error), _) => self.problems.push(format!("{name} cannot be read: {error}")),
        }
    }

    /// Compares the totals with those of `docs/reach.md`.
    fn finish(self, [compared, with_pairs, pairs]: [usize; 3]) {
        assert!(self.problems.is_empty(), "\n{}\n", self.problems.join("\n"));
        let found = [self.compared, self.with_pairs, self.pairs];
        assert_eq!(found, [compared, with_pairs, pairs], "in another version of the examples these differ");
    }
}

/// The examples that an API server rejects; `docs/reach.md` names them.
const REJECTED: [(&str, &str); 5] = [
    ("example_pods_w_same_owner_and_labels_gap_with_good_match_expression", "cannot be a name"),
    ("example_pods_w_same_owner_and_labels_gap_with_good_match_expression2", "cannot be a name"),
    ("example_pods_w_same_owner_and_labels_gap_with_policy_selector_not_in_gap", "cannot be a name"),
    ("netpol_named_port_test", "containerPort: 0 is not a port"),
    ("netpol_named_port_test_2", "containerPort: 0 is not a port"),
];

#[test]
#[ignore = "needs a checkout of np-guard/netpol-analyzer, which NETPOL_ANALYZER names"]
fn connections_are_those_that_netpol_analyzer_expects() {
    let checkout = checkout();
    let outputs = checkout.join("test_outputs/connlist");
    let mut directories: Vec<PathBuf> = fs::read_dir(checkout.join("tests"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    directories.sort();
    let mut total = Total::default();
    for directory in directories.iter().filter(|directory| directory.is_dir()) {
        let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
        let expected = fs::read_to_string(outputs.join(format!("{name}_connlist_output.txt")));
        if let Some(text) = expected.ok().filter(|_| is_plain(directory)) {
            let found = Example::read(directory).map(|example| connection_list::compare(&example, &text));
            total.add(&name, found, &REJECTED);
        }
    }
    total.finish([45, 38, 62_002]);
}

/// The differences of examples of which one is no YAML.
const NO_YAML: [(&str, &str); 1] =
    [("acs-security-demos-added-workloads_and_acs-security-demos", "tabs disallowed")];

#[test]
#[ignore = "needs a checkout of np-guard/netpol-analyzer, which NETPOL_ANALYZER names"]
fn differences_are_those_that_netpol_analyzer_expects() {
    let checkout = checkout();
    let mut files: Vec<PathBuf> = files_below(&checkout.join("test_outputs/diff"));
    files.sort();
    let mut total = Total::default();
    for file in files {
        let file_name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let both = file_name.strip_prefix("diff_between_").and_then(|name| name.strip_suffix(".txt"));
        let Some((both, [old, new])) =
            both.and_then(|both| Some((both, directories(&checkout.join("tests"), both)?)))
        else {
            continue;
        };
        if is_plain(&old) && is_plain(&new) {
            let text = fs::read_to_string(&file).expect("an expected difference");
            let found = Example::read(&old)
                .and_then(|old| Ok((old, Example::read(&new)?)))
                .map(|(old, new)| change_list::compare(&old, &new, &text));
            total.add(both, found, &NO_YAML);
        }
    }
    total.finish([28, 24, 57_248]);
}

/// The directories of `NEW_and_OLD`, the old one first. `_and_` may be part of a name.
fn directories(tests: &Path, both: &str) -> Option<[PathBuf; 2]> {
    let mut splits = both.match_indices("_and_").map(|(at, word)| (&both[..at], &both[at + word.len()..]));
    let (new, old) = splits.find(|(new, old)| tests.join(new).is_dir() && tests.join(old).is_dir())?;
    Some([tests.join(old), tests.join(new)])
}

/// Something of each pair of ends.
type By<V> = BTreeMap<(notation::Theirs, notation::Theirs), V>;
