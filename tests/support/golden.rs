//! Golden rules: the rules that a scenario adds on a node to those of an empty cluster.

use crate::packets::enforcer;
use crate::scenario::Scenario;
use crate::topology::NODES;
use bridgewarden::explain::oracle::World;
use bridgewarden::netfilter::{BackendName, Ruleset};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// If set, golden files are written instead of compared.
const BLESS: &str = "BLESS";

/// Compares what is rendered for each node with `rules.NODE`, and with `table.NODE` for the backend nftables.
///
/// # Errors
/// The lines that differ, and how to accept them.
pub fn compare(scenario: &Scenario) -> Result<(), String> {
    for node in NODES {
        let path = |what: &str| scenario.directory.join(format!("{what}.{}", node.name));
        compare_file(&path("rules"), &own_lines(&scenario.world, node.name))?;
        compare_file(&path("table"), &own_table(&scenario.world, node.name))?;
    }
    Ok(())
}

fn compare_file(path: &Path, rendered: &str) -> Result<(), String> {
    if std::env::var_os(BLESS).is_some() {
        return fs::write(path, rendered)
            .map_err(|error| format!("cannot write {}: {error}", path.display()));
    }
    let golden = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}; make bless writes it", path.display()))?;
    if golden == rendered {
        return Ok(());
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (golden.lines().collect(), rendered.lines().collect());
    let gone: Vec<_> = old.difference(&new).map(|line| format!("- {line}")).collect();
    let come: Vec<_> = new.difference(&old).map(|line| format!("+ {line}")).collect();
    Err(format!(
        "{}: the rules changed; read the difference, and if it is meant: make bless\n{}\n{}",
        path.display(),
        gone.join("\n"),
        come.join("\n")
    ))
}

/// The chains, sets and counters of the table of family inet that are not those of an empty cluster.
fn own_table(world: &World, node: &str) -> String {
    let table = |world| {
        let ruleset = enforcer(BackendName::Nftables, world, node).ruleset();
        ruleset.inet.expect("the backend renders a table of family inet")
    };
    let (empty, mut own) = (table(&World::default()), table(world));
    own.chains.retain(|name, chain| empty.chains.get(name) != Some(chain));
    own.sets.retain(|name, set| empty.sets.get(name) != Some(set));
    own.counters.retain(|name| !empty.counters.contains(name));
    format!("# What node {node} holds because of this scenario.\n{own}")
}

fn own_lines(world: &World, node: &str) -> String {
    let lines = |ruleset: &Ruleset| -> Vec<(&'static str, String)> {
        let sets = ruleset.sets_text();
        let mut lines: Vec<_> = sets.lines().map(|line| ("ipset", line.to_owned())).collect();
        for (family, table) in &ruleset.tables {
            let word = match family {
                bridgewarden::net::Family::V4 => "ip4",
                bridgewarden::net::Family::V6 => "ip6",
            };
            lines.extend(table.text().lines().map(|line| (word, line.to_owned())));
        }
        lines
    };
    let empty: BTreeSet<_> =
        lines(&enforcer(BackendName::IptablesNft, &World::default(), node).ruleset()).into_iter().collect();
    let own = lines(&enforcer(BackendName::IptablesNft, world, node).ruleset())
        .into_iter()
        .filter(|line| !empty.contains(line));
    let mut text = format!("# What node {node} holds because of this scenario.\n");
    for (tool, line) in own {
        text.push_str(tool);
        text.push(' ');
        text.push_str(&line);
        text.push('\n');
    }
    text
}
