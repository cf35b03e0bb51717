//! One change of a filter table, as `iptables-restore` accepts it.

use crate::apply::{ActualTable, RestoreText, Step};
use crate::net::Family;
use crate::netfilter::iptables::{Rule, Variant};
use crate::netfilter::{ChainName, Hook};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The most bytes of a line that declares or removes a chain.
const DECLARATION: usize = 40;

/// The changes of one filter table, in one transaction of the kernel.
#[derive(Debug, Default)]
pub(super) struct FilterTableEdit {
    /// Chains with the lines that append their new rules; `None` removes one.
    chains: BTreeMap<ChainName, Option<String>>,
    /// Rules to remove from built-in chains: the chain, and the rule as text.
    pub(super) unhooked: Vec<(String, String)>,
    /// Hooks to insert at the beginning of their built-in chains.
    pub(super) hooked: Vec<Hook>,
}

/// The step that removes our rules and these chains from a filter table; `None` if none of them exist. A chain that
/// rules of other programs jump to is emptied and kept.
pub fn removal(variant: Variant, family: Family, table: &ActualTable, also: &[ChainName]) -> Option<Step> {
    let mut edit = FilterTableEdit::default();
    for (builtin, jumps) in &table.jumps {
        edit.unhooked.extend(jumps.iter().map(|(_, rule)| (builtin.clone(), rule.clone())));
    }
    for (name, rules) in &table.chains {
        edit.retire_chain(name, rules.as_deref(), table);
    }
    edit.chains.extend(also.iter().map(|name| (name.clone(), None)));
    (!edit.is_empty()).then(|| Step::Restore(variant, family, edit.text()))
}

impl FilterTableEdit {
    /// Gives a chain these rules.
    pub(super) fn write_chain(&mut self, name: ChainName, rules: &[Rule]) {
        let mut lines = String::new();
        for rule in rules {
            let _ = writeln!(lines, "-A {name} {rule}");
        }
        self.chains.insert(name, Some(lines));
    }

    /// Removes a chain.
    pub(super) fn remove_chain(&mut self, name: ChainName) {
        self.chains.insert(name, None);
    }

    /// Removes a chain that is no longer needed, or empties it if rules of other programs jump to it.
    pub(super) fn retire_chain(&mut self, name: &ChainName, rules: Option<&[Rule]>, table: &ActualTable) {
        match table.held.contains(name) {
            false => self.remove_chain(name.clone()),
            true if rules.is_some_and(<[Rule]>::is_empty) => {}
            true => self.write_chain(name.clone(), &[]),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.unhooked.is_empty() && self.hooked.is_empty()
    }

    pub(super) fn text(self) -> RestoreText {
        let lines = self.chains.values().flatten();
        let length: usize = lines.map(String::len).sum();
        let mut text = String::with_capacity(length + self.chains.len() * DECLARATION + DECLARATION);
        text.push_str("*filter\n");
        for name in self.chains.keys() {
            let _ = writeln!(text, ":{name} - [0:0]");
        }
        self.chains.values().flatten().for_each(|lines| text.push_str(lines));
        for (builtin, rule) in &self.unhooked {
            let _ = writeln!(text, "-D {builtin} {rule}");
        }
        for hook in &self.hooked {
            let _ = writeln!(text, "-I {} 1 -j {}", hook.builtin, hook.chain);
        }
        for name in self.chains.iter().filter(|(_, lines)| lines.is_none()).map(|(name, _)| name) {
            let _ = writeln!(text, "-X {name}");
        }
        text.push_str("COMMIT\n");
        RestoreText { text, writes: self.chains.into_keys().collect() }
    }
}
