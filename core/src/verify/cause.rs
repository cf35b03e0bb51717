//! What in a kernel differs from what this program would write there, in words: advice on where to look, which decides nothing.

use super::{Evidence, place};
use crate::apply::TableRead;
use crate::net::Family;
use crate::netfilter::nftables::{KeyPart, Table, key_text};
use crate::netfilter::{Ruleset, ipset};
use std::collections::BTreeSet;
use std::fmt::{Debug, Display};

/// What differs between a kernel and what this program would write there. Empty if nothing does.
pub fn differences(desired: &Ruleset, evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    let actual = &evidence.actual;
    found.extend(actual.dormant.iter().map(|table| format!("table {table} is dormant")));
    for family in Family::BOTH.into_iter().filter(|family| !evidence.sees_bridged[place(*family)]) {
        found.push(format!("bridged packets of {family} are not shown to the packet filter"));
    }
    if let Some(variant) = evidence.options.backend.variant() {
        for (family, table) in &desired.tables {
            let held = actual.tables.get(&(variant, *family));
            for hook in &table.hooks {
                let jumps = held.and_then(|held| held.jumps.get(hook.builtin));
                match jumps.map(Vec::as_slice) {
                    None | Some([]) => {
                        found.push(format!("{} ({family}) has no jump to {}", hook.builtin, hook.chain))
                    }
                    Some([(0, _)]) => {}
                    Some(_) => found.push(format!(
                        "{} ({family}) has rules before its jump to {}: {}",
                        hook.builtin,
                        hook.chain,
                        held.and_then(|held| held.ahead.get(hook.builtin))
                            .map(|rules| rules.join("; "))
                            .unwrap_or_default()
                    )),
                }
            }
            let nothing = crate::apply::ActualTable::default();
            let held = held.unwrap_or(&nothing);
            for (chain, rules) in &table.chains {
                let place = format!("chain {chain} ({family})");
                match held.chains.get(chain) {
                    None => found.push(format!("{place} is missing")),
                    Some(None) => {
                        found.push(format!("{place} holds a rule that this program does not write"))
                    }
                    Some(Some(there)) => rules_between(&place, there, rules, &mut found),
                }
            }
            let more = held.chains.keys().filter(|chain| !table.chains.contains_key(*chain));
            found.extend(more.map(|chain| format!("chain {chain} ({family}) is one too many")));
        }
    }
    for (name, wanted) in &desired.sets {
        match actual.sets.get(name) {
            None => found.push(format!("set {name} is missing")),
            Some(set) if set.kind != wanted.set.kind => found.push(format!(
                "set {name} is of type {}, not {}",
                set.kind.of.name(),
                wanted.set.kind.of.name()
            )),
            Some(set) => sets_between(name, &set.elements, &wanted.set.elements, &mut found),
        }
    }
    let tables = [("bridge", &desired.bridge, &actual.bridge), ("inet", &desired.inet, &actual.inet)];
    for (family, wanted, read) in tables {
        match (wanted, read) {
            (None, _) => {}
            (Some(table), TableRead::Absent) => {
                found.push(format!("table {family} {} is missing", table.name))
            }
            (Some(table), TableRead::Foreign) => {
                found.push(format!(
                    "table {family} {} holds something that this program does not write",
                    table.name
                ));
            }
            (Some(table), TableRead::Ours { table: there, .. }) => {
                tables_between(family, there, table, &mut found)
            }
        }
    }
    found
}

/// Which rules are missing, too many, or in another order.
fn rules_between<R: Display + Debug + Ord>(place: &str, there: &[R], wanted: &[R], found: &mut Vec<String>) {
    if there == wanted {
        return;
    }
    let before = found.len();
    let lacks = |these: &[R], those: &[R]| -> Vec<usize> {
        (0..these.len()).filter(|number| !those.contains(&these[*number])).collect()
    };
    if there.is_empty() {
        found.push(format!("{place} is empty"));
        return;
    }
    for number in lacks(wanted, there) {
        found.push(format!("{place} lacks its rule {}: {}", number + 1, wanted[number]));
    }
    for number in lacks(there, wanted) {
        found.push(format!(
            "{place} has as rule {} what does not belong there: {}",
            number + 1,
            there[number]
        ));
    }
    if found.len() == before {
        let what = if there.len() == wanted.len() {
            "has its rules in another order"
        } else {
            "has a rule another number of times"
        };
        found.push(format!("{place} {what}"));
    }
}

fn sets_between(
    name: &impl Display,
    there: &BTreeSet<ipset::Element>,
    wanted: &BTreeSet<ipset::Element>,
    found: &mut Vec<String>,
) {
    found.extend(wanted.difference(there).map(|element| format!("set {name} lacks {element}")));
    found.extend(there.difference(wanted).map(|element| format!("set {name} has {element} too many")));
}

fn tables_between(family: &str, there: &Table, wanted: &Table, found: &mut Vec<String>) {
    for (name, chain) in &wanted.chains {
        let place = format!("chain {name} of table {family} {}", wanted.name);
        match there.chains.get(name) {
            None => found.push(format!("{place} is missing")),
            Some(held) if held.base != chain.base => {
                found.push(format!("{place} has another hook or priority"))
            }
            Some(held) => rules_between(&place, &held.rules, &chain.rules, found),
        }
    }
    let more = there.chains.keys().filter(|chain| !wanted.chains.contains_key(*chain));
    found
        .extend(more.map(|chain| format!("chain {chain} of table {family} {} is one too many", wanted.name)));
    for (name, set) in &wanted.sets {
        let place = format!("set {name} of table {family} {}", wanted.name);
        let Some(held) = there.sets.get(name) else {
            found.push(format!("{place} is missing"));
            continue;
        };
        let text = |key: &[u8]| element_text(&set.kind.key, key);
        for (key, verdict) in set.elements.iter() {
            match held.elements.get(key) {
                None => found.push(format!("{place} lacks {}", text(key))),
                Some(other) if other != verdict => found.push(format!(
                    "{place} leads {} to {}, not {}",
                    text(key),
                    other.map(ToString::to_string).unwrap_or_default(),
                    verdict.map(ToString::to_string).unwrap_or_default()
                )),
                Some(_) => {}
            }
        }
        let more = held.elements.keys().filter(|key| !set.elements.contains(key));
        found.extend(more.map(|key| format!("{place} has {} too many", text(key))));
    }
}

/// An element, or a range of two keys.
fn element_text(parts: &[KeyPart], bytes: &[u8]) -> String {
    let length: usize = match parts {
        [only] => only.length() as usize,
        parts => parts.iter().map(|part| part.length().next_multiple_of(4) as usize).sum(),
    };
    match bytes.len() == 2 * length {
        true => format!("{}-{}", key_text(parts, &bytes[..length]), key_text(parts, &bytes[length..])),
        false => key_text(parts, bytes),
    }
}
