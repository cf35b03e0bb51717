//! Every crate that ends up in the program may be passed on under Apache-2.0.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Licences that ask for no more than a notice. Read a licence before adding it.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Exceptions that only add permissions to the licence that they belong to.
const ALLOWED_EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// An SPDX licence expression (SPDX specification, annex D), and `/` in its old sense of `OR`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Licence {
    One { id: String, exception: Option<String> },
    Any(Vec<Licence>),
    All(Vec<Licence>),
}

impl Licence {
    fn parse(text: &str) -> Result<Licence, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
        let licence = any(&mut words)?;
        match words.pop() {
            Some(word) => Err(format!("{word:?} follows a whole expression")),
            None => Ok(licence),
        }
    }

    /// Whether it can be kept by keeping allowed licences only.
    fn is_allowed(&self) -> bool {
        match self {
            Licence::One { id, exception } => {
                let harmless = |exception: &String| ALLOWED_EXCEPTIONS.contains(&exception.as_str());
                ALLOWED.contains(&id.as_str()) && exception.as_ref().is_none_or(harmless)
            }
            Licence::Any(parts) => parts.iter().any(Licence::is_allowed),
            Licence::All(parts) => parts.iter().all(Licence::is_allowed),
        }
    }
}

/// The words are taken from the end of the list; `AND` binds tighter than `OR`.
fn any(words: &mut Vec<&str>) -> Result<Licence, String> {
    list(words, "OR", all, Licence::Any)
}

fn all(words: &mut Vec<&str>) -> Result<Licence, String> {
    list(words, "AND", one, Licence::All)
}

fn list(
    words: &mut Vec<&str>,
    joint: &str,
    part: fn(&mut Vec<&str>) -> Result<Licence, String>,
    join: fn(Vec<Licence>) -> Licence,
) -> Result<Licence, String> {
    let mut parts = vec![part(words)?];
    while words.last() == Some(&joint) {
        words.pop();
        parts.push(part(words)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { join(parts) })
}

fn one(words: &mut Vec<&str>) -> Result<Licence, String> {
    match words.pop() {
        Some("(") => {
            let inside = any(words)?;
            if words.pop() == Some(")") { Ok(inside) } else { Err("a ( is not closed".into()) }
        }
        Some(id) if ![")", "AND", "OR", "WITH"].contains(&id) => {
            let exception = if words.last() == Some(&"WITH") {
                words.pop();
                Some(words.pop().ok_or("WITH is followed by nothing")?.to_owned())
            } else {
                None
            };
            Ok(Licence::One { id: id.to_owned(), exception })
        }
        Some(word) => Err(format!("{word:?} stands where a licence should")),
        None => Err("it ends where a licence should stand".into()),
    }
}

/// What Cargo knows of this package and all it is built from, on this machine's platform.
fn metadata() -> Value {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let ask = |more: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        command
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
            .args(more);
        command.output().expect("cargo starts")
    };
    let offline = ask(&["--offline"]);
    let output = if offline.status.success() { offline } else { ask(&[]) };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn list_of<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages that the root package is built from: its dependencies and those they need to be built, and so on.
fn shipped(metadata: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> =
        list_of(&metadata["resolve"], "nodes").map(|node| (word(node, "id"), node)).collect();
    let mut open = vec![word(&metadata["resolve"], "root")];
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        let Some(node) = nodes.get(id).filter(|_| found.insert(id)) else { continue };
        let needed = list_of(node, "deps")
            .filter(|dependency| list_of(dependency, "dep_kinds").any(|kind| kind["kind"] != "dev"));
        open.extend(needed.map(|dependency| word(dependency, "pkg")));
    }
    found
}

/// The shipped packages whose licences may not be kept, or cannot be read.
fn unacceptable(metadata: &Value) -> Vec<String> {
    let shipped = shipped(metadata);
    let packages = list_of(metadata, "packages").filter(|package| shipped.contains(word(package, "id")));
    let judged = packages.filter_map(|package| {
        let name = format!("{} {}", word(package, "name"), word(package, "version"));
        match package["license"].as_str().map(|text| (text, Licence::parse(text))) {
            Some((_, Ok(licence))) if licence.is_allowed() => None,
            Some((text, Ok(_))) => Some(format!("{name}: {text} leaves no licence that is on the list")),
            Some((text, Err(problem))) => Some(format!("{name}: cannot read {text:?}: {problem}")),
            None => Some(format!("{name}: its Cargo.toml names no licence")),
        }
    });
    judged.collect()
}

#[test]
fn every_dependency_may_be_passed_on() {
    let metadata = metadata();
    assert!(shipped(&metadata).len() > 20, "cargo reported hardly any dependency");
    let unacceptable = unacceptable(&metadata);
    assert!(unacceptable.is_empty(), "\n{}\n", unacceptable.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn is_allowed(text: &str) -> bool {
        Licence::parse(text).unwrap().is_allowed()
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        assert!(is_allowed("MIT"));
        assert!(is_allowed("GPL-2.0-only OR MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("Apache-2.0 WITH LLVM-exception OR GPL-3.0-or-later"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    }

    #[test]
    fn what_is_joined_must_all_be_allowed() {
        for text in
            ["GPL-2.0-only", "MIT AND GPL-2.0-only", "(MIT OR ISC) AND LGPL-2.1", "LGPL-3.0 OR AGPL-3.0"]
        {
            assert!(!is_allowed(text), "{text}");
        }
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(is_allowed("MIT OR GPL-2.0-only AND ISC"));
        assert!(!is_allowed("(MIT OR GPL-2.0-only) AND GPL-2.0-only"));
    }

    #[test]
    fn unknown_exception_and_unknown_licence_are_not_allowed() {
        assert!(!is_allowed("Apache-2.0 WITH Strange-exception"));
        assert!(!is_allowed("GPL-2.0-only WITH Linux-syscall-note"));
        assert!(!is_allowed("mit"));
    }

    #[test]
    fn what_is_no_expression_is_rejected() {
        for text in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND", "MIT WITH"] {
            assert!(Licence::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_licence_is_noticed_however_deep_but_not_in_what_only_tests_need() {
        let dependency = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let package =
            |id: &str, licence: Value| json!({"id": id, "name": id, "version": "1", "license": licence});
        let metadata = json!({
            "packages": [
                package("root", json!("Apache-2.0")),
                package("tool", json!("MIT")),
                package("deep", json!("GPL-2.0-only")),
                package("silent", Value::Null),
                package("tests", json!("GPL-3.0-only")),
            ],
            "resolve": {"root": "root", "nodes": [
                {"id": "root", "deps": [dependency("tool", json!("build")), dependency("tests", json!("dev"))]},
                {"id": "tool", "deps": [dependency("deep", Value::Null), dependency("silent", Value::Null)]},
                {"id": "deep", "deps": []},
                {"id": "silent", "deps": []},
                {"id": "tests", "deps": []},
            ]},
        });
        assert_eq!(
            unacceptable(&metadata),
            [
                "deep 1: GPL-2.0-only leaves no licence that is on the list",
                "silent 1: its Cargo.toml names no licence",
            ]
        );
    }
}
