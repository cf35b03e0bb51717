//! Who may import whom: the table in ARCHITECTURE.md, and what the sources do.

use crate::tree::{Tree, is_room_root, room};
use std::collections::{BTreeMap, BTreeSet};

/// Above the table in ARCHITECTURE.md.
const HEADING: &str = "## Who may import whom";
/// In the table: all of them.
const ALL: &str = "every room";

/// What one room may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Rooms of this crate.
    pub(crate) rooms: BTreeSet<String>,
    /// Other crates.
    pub(crate) crates: BTreeSet<String>,
}

/// What each room may use.
pub(crate) type Table = BTreeMap<String, Leave>;

/// Reads the table out of ARCHITECTURE.md.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(crate) fn table(document: &str) -> Result<Table, String> {
    let (_, section) = document.split_once(HEADING).ok_or(format!("there is no heading {HEADING:?}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut table = Table::new();
    let mut all = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, rooms, crates] = cells.as_slice() else {
            return Err(format!("not three columns: {line}"));
        };
        let name = name.trim_matches('`').to_owned();
        if *rooms == ALL {
            all.push(name.clone());
        }
        if table.insert(name.clone(), Leave { rooms: quoted(rooms), crates: quoted(crates) }).is_some() {
            return Err(format!("`{name}` is in it twice"));
        }
    }
    let names: BTreeSet<String> = table.keys().cloned().collect();
    for name in all {
        table.entry(name).or_default().rooms = names.clone();
    }
    let unknown = table.values().flat_map(|leave| &leave.rooms).find(|room| !names.contains(*room));
    match unknown {
        Some(room) => Err(format!("`{room}` may be imported but has no line of its own")),
        None if table.is_empty() => Err("it is empty".into()),
        None => Ok(table),
    }
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rooms that import themselves by way of others: the table must have an order from the lowest room to the highest.
pub(crate) fn circles(table: &Table) -> Vec<String> {
    let mut left = table.clone();
    loop {
        let known: BTreeSet<String> = left.keys().cloned().collect();
        let free = |name: &String, leave: &Leave| {
            !leave.rooms.iter().any(|room| room != name && known.contains(room))
        };
        let before = left.len();
        left.retain(|name, leave| !free(name, leave));
        if left.len() == before {
            return left.into_keys().map(|name| format!("{name}: imports itself by way of others")).collect();
        }
    }
}

/// The first parts of all paths that begin with `root::`, each with its line.
pub(crate) fn heads<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    occurrences(code, root).flat_map(|at| {
        let rest = code[at + root.len() + 2..].trim_start();
        let names = match rest.strip_prefix('{') {
            Some(group) => group_heads(group),
            None => vec![word(rest)],
        };
        let line = line_of(code, at);
        names.into_iter().map(move |name| (line, name))
    })
}

/// The lines on which a path begins with `root::`.
pub(crate) fn mentions<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = usize> {
    occurrences(code, root).map(|at| line_of(code, at))
}

fn occurrences<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = usize> {
    code.match_indices(root).map(|(at, _)| at).filter(move |&at| {
        let inside = |last: char| last.is_alphanumeric() || "_:.$".contains(last);
        code[at + root.len()..].starts_with("::") && !code[..at].ends_with(inside)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn word(text: &str) -> &str {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or_default()
}

fn group_heads(group: &str) -> Vec<&str> {
    let mut heads = vec![word(group.trim_start())];
    let mut depth = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads.into_iter().filter(|head| !head.is_empty()).collect()
}

/// Imports that the table does not allow, and rooms that it does not know or that are not there.
pub(crate) fn trespasses(tree: &Tree, table: &Table, crates: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in tree.library() {
        let Some(own) = room(path) else { continue };
        seen.insert(own.clone());
        let place = |line: usize| format!("{}:{line}", path.display());
        let Some(leave) = table.get(&own) else {
            found.push(format!("{}: room `{own}` has no line in the table", path.display()));
            continue;
        };
        for (line, other) in heads(&text.code, "crate") {
            if other != own && !leave.rooms.contains(other) {
                found.push(format!("{}: `{own}` may not import `{other}`", place(line)));
            }
        }
        for name in crates.iter().filter(|name| !leave.crates.contains(*name)) {
            let lines = mentions(text.shipped(), name);
            found
                .extend(lines.map(|line| format!("{}: `{own}` may not use the crate `{name}`", place(line))));
        }
        let upward = if is_room_root(path) { "super" } else { "super::super" };
        for line in mentions(text.shipped(), upward) {
            found.push(format!("{}: leave a room by `crate::`, not by `{upward}::`", place(line)));
        }
    }
    found.extend(
        table.keys().filter(|name| !seen.contains(*name)).map(|name| format!("there is no room `{name}`")),
    );
    found
}

/// The dependencies in Cargo.toml, as paths spell them.
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
    let (_, section) = manifest.split_once("\n[dependencies]\n").unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n## Who may import whom\n\n| room | may import | from outside |\n|---|---|---|\n\
        | `net` | – | `ipnet` |\n| `model` | `net` | – |\n| `top` | every room | `clap` |\n\n## Next\n| `no` | – | – |\n";

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn trespass(path: &str, code: &str) -> Vec<String> {
        let mut tree = Tree::default();
        for room in ["src/net.rs", "src/model/mod.rs", "src/top/mod.rs"] {
            tree.add(room, "");
        }
        tree.add(path, code);
        trespasses(&tree, &table(DOCUMENT).unwrap(), &names(&["clap", "ipnet", "tokio"]))
    }

    #[test]
    fn table_is_read_as_it_is_written() {
        let table = table(DOCUMENT).unwrap();
        assert_eq!(table["net"], Leave { rooms: names(&[]), crates: names(&["ipnet"]) });
        assert_eq!(table["model"], Leave { rooms: names(&["net"]), crates: names(&[]) });
        assert_eq!(table["top"].rooms, names(&["model", "net", "top"]));
    }

    #[test]
    fn table_that_is_missing_broken_or_names_unknown_rooms_is_rejected() {
        assert!(table("# A").is_err());
        assert!(table("## Who may import whom\n").is_err());
        assert!(table(&DOCUMENT.replace("| `net` | – | `ipnet` |", "| `net` | – |")).is_err());
        assert!(table(&DOCUMENT.replace("| `model` | `net` |", "| `model` | `gone` |")).is_err());
        assert!(table(&DOCUMENT.replace("`top`", "`net`")).is_err());
    }

    #[test]
    fn circle_in_the_table_is_noticed() {
        assert_eq!(circles(&table(DOCUMENT).unwrap()), Vec::<String>::new());
        let circle = DOCUMENT.replace("| `net` | – |", "| `net` | `model` |");
        assert_eq!(circles(&table(&circle).unwrap()).len(), 3);
    }

    #[test]
    fn every_shape_of_a_path_is_understood() {
        let code = "use crate::a::B;\nuse crate::{c, d::{e, f}, g as h};\nfn i() -> crate::j::K { $crate::l }\npub(crate) m";
        let found: Vec<_> = heads(code, "crate").collect();
        assert_eq!(found, [(1, "a"), (2, "c"), (2, "d"), (2, "g"), (3, "j")]);
    }

    #[test]
    fn import_against_the_table_is_noticed_wherever_it_stands() {
        assert_eq!(
            trespass("src/model/a.rs", "use crate::net::B;\nuse crate::model::C;"),
            Vec::<String>::new()
        );
        assert_eq!(
            trespass("src/net.rs", "use crate::model::A;"),
            ["src/net.rs:1: `net` may not import `model`"]
        );
        let in_tests = "#[cfg(test)]\nmod tests {\n use crate::{net, top::B};\n}";
        assert_eq!(trespass("src/model/a.rs", in_tests), ["src/model/a.rs:3: `model` may not import `top`"]);
        let in_body = "fn a() { crate::top::b() }";
        assert_eq!(trespass("src/model/a.rs", in_body), ["src/model/a.rs:1: `model` may not import `top`"]);
    }

    #[test]
    fn foreign_crate_against_the_table_is_noticed_but_in_unit_tests() {
        assert_eq!(trespass("src/net.rs", "pub use ipnet::IpNet;"), Vec::<String>::new());
        assert_eq!(
            trespass("src/net.rs", "use tokio::sync;"),
            ["src/net.rs:1: `net` may not use the crate `tokio`"]
        );
        assert_eq!(
            trespass("src/net.rs", "#[cfg(test)]\nmod tests { use tokio::sync; }"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn way_round_the_table_by_super_is_noticed() {
        assert_eq!(trespass("src/model/mod.rs", "use super::top::A;").len(), 1);
        assert_eq!(trespass("src/net.rs", "use super::top::A;").len(), 1);
        assert_eq!(trespass("src/model/a.rs", "use super::super::top::A;").len(), 1);
        assert_eq!(trespass("src/model/a.rs", "use super::B;"), Vec::<String>::new());
        assert_eq!(trespass("src/model/b/mod.rs", "use super::B;"), Vec::<String>::new());
    }

    #[test]
    fn room_without_a_line_and_line_without_a_room_are_noticed() {
        assert_eq!(trespass("src/attic.rs", ""), ["src/attic.rs: room `attic` has no line in the table"]);
        let missing = DOCUMENT.replace("|---|\n", "|---|\n| `cellar` | – | – |\n");
        let found = trespasses(&Tree::default(), &table(&missing).unwrap(), &names(&[]));
        assert!(found.contains(&"there is no room `cellar`".to_owned()), "{found:?}");
    }

    #[test]
    fn dependencies_are_read_from_their_section_alone() {
        let manifest = "[package]\nname = \"a\"\n\n[dependencies]\nserde-json = \"1\"\nnix = { version = \"0\" }\n\n[lints]\nb = 1\n";
        assert_eq!(dependencies(manifest), names(&["nix", "serde_json"]));
    }
}
