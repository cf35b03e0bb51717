//! What `iptables-restore` accepts and what it rejects.

use super::{BUILTIN, Fake, refused};
use crate::apply::KernelError;
use crate::net::Family;
use crate::netfilter::iptables::{Match, Target, parse_rule, target};
use std::collections::{BTreeMap, BTreeSet};

impl Fake {
    /// A filter table after `iptables-restore --noflush` of a text.
    pub(super) fn restore(
        &self,
        mut table: BTreeMap<String, Vec<String>>,
        family: Family,
        text: &str,
    ) -> Result<BTreeMap<String, Vec<String>>, KernelError> {
        for line in text.lines() {
            self.restore_line(&mut table, line).map_err(|reason| refused(line, reason))?;
        }
        for (chain, rules) in &table {
            for rule in rules {
                self.check(&table, family, rule)
                    .map_err(|reason| refused(&format!("-A {chain} {rule}"), reason))?;
            }
        }
        match has_loop(&table) {
            true => Err(refused("COMMIT", "chains lead in a circle")),
            false => Ok(table),
        }
    }

    fn restore_line(
        &self,
        table: &mut BTreeMap<String, Vec<String>>,
        line: &str,
    ) -> Result<(), &'static str> {
        let mut words = line.splitn(3, ' ');
        let (verb, name, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
        match (verb, name, rest) {
            ("*filter" | "COMMIT", None, None) => {}
            ("-A", Some(name), Some(rule)) => table.get_mut(name).ok_or("no chain")?.push(rule.into()),
            ("-I", Some(name), Some(rule)) => {
                let rule = rule.strip_prefix("1 ").ok_or("only position 1 is known")?;
                table.get_mut(name).ok_or("no chain")?.insert(0, rule.into());
            }
            ("-D", Some(name), Some(rule)) => {
                let rules = table.get_mut(name).ok_or("no chain")?;
                let at = rules.iter().position(|there| there == rule).ok_or("no such rule")?;
                rules.remove(at);
            }
            ("-X", Some(name), None) => {
                if BUILTIN.contains(&name) || !table.get(name).ok_or("no chain")?.is_empty() {
                    return Err("chain is not empty");
                }
                if table.values().flatten().any(|rule| target(rule) == Some(name)) {
                    return Err("chain is referred to");
                }
                table.remove(name);
            }
            (declared, Some("-"), Some("[0:0]")) if declared.starts_with(':') => {
                table.insert(declared[1..].into(), Vec::new());
            }
            _ => return Err("unknown line"),
        }
        Ok(())
    }

    /// Rejects a rule that names a chain or set that does not exist, or a set of the other family.
    fn check(
        &self,
        table: &BTreeMap<String, Vec<String>>,
        family: Family,
        rule: &str,
    ) -> Result<(), &'static str> {
        let Ok(rule) = parse_rule(rule) else { return Ok(()) };
        if let Target::Jump(chain) | Target::Goto(chain) = &rule.target
            && !table.contains_key(chain.as_str())
        {
            return Err("target chain does not exist");
        }
        for condition in &rule.matches {
            if let Match::Set(name, _) | Match::NotInSet(name, _) = condition {
                let set = self.sets.get(name).ok_or("set does not exist")?;
                if set.kind.family != family {
                    return Err("set is of the other family");
                }
            }
        }
        Ok(())
    }
}

/// Whether a chain that packets can reach leads back to itself. The kernel does not check other chains for loops.
fn has_loop(table: &BTreeMap<String, Vec<String>>) -> bool {
    let leads = |chain: &str| -> BTreeSet<&str> {
        let rules = table.get(chain).into_iter().flatten();
        rules.filter_map(|rule| target(rule)).filter(|to| table.contains_key(*to)).collect()
    };
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut open: Vec<&str> = BUILTIN.to_vec();
    while let Some(chain) = open.pop() {
        if !left.contains_key(chain) {
            open.extend(leads(chain));
            left.insert(chain, leads(chain));
        }
    }
    // A chain that leads nowhere is in no loop.
    loop {
        let ends: BTreeSet<&str> =
            left.iter().filter(|(_, to)| to.is_empty()).map(|(name, _)| *name).collect();
        if ends.is_empty() {
            return !left.is_empty();
        }
        left.retain(|name, _| !ends.contains(name));
        left.values_mut().for_each(|to| to.retain(|name| !ends.contains(name)));
    }
}
