//! The existing rules of both iptables variants and families, and which programs wrote them.

use super::facts::usable;
use crate::apply::{TableText, chains_of_kube_router, own_chains};
use crate::kernel::exec::Runner;
use crate::kernel::iptables;
use crate::net::Family;
use crate::netfilter::iptables::Variant;
use crate::netfilter::iptables::{target, words};
use std::collections::{BTreeMap, BTreeSet};

/// The chains by which packets enter tables.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// Every rule of every table that iptables shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The tables.
    pub tables: BTreeMap<(Variant, Family, String), TableText>,
    /// What could not be read, in words.
    pub unreadable: Vec<String>,
}

/// One existing rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct SavedRule<'a> {
    pub(super) variant: Variant,
    pub(super) family: Family,
    pub(super) table: &'a str,
    pub(super) chain: &'a str,
    pub(super) rule: &'a str,
}

impl Saved {
    /// Reads all tables. Legacy tables are read only if they are in use, because reading makes the kernel load them.
    pub(in crate::kernel) fn gather(runner: &mut Runner) -> Saved {
        let mut saved = Saved::default();
        for variant in Variant::BOTH.into_iter().filter(|variant| usable(*variant)) {
            for family in Family::BOTH {
                if variant == Variant::Legacy && iptables::legacy_tables(family).is_empty() {
                    continue;
                }
                match iptables::save_all(runner, variant, family) {
                    Ok(tables) => saved
                        .tables
                        .extend(tables.into_iter().map(|(name, text)| ((variant, family, name), text))),
                    Err(error) => saved.unreadable.push(error.to_string()),
                }
            }
        }
        saved
    }

    /// Every chain that isn't ours, with its table's variant.
    pub(super) fn foreign_chains(&self) -> impl Iterator<Item = (Variant, &str)> {
        self.tables.iter().flat_map(|((variant, ..), text)| {
            let own = own_chains(text);
            let foreign = text.chains.keys().map(String::as_str).filter(move |chain| !own.contains(chain));
            foreign.map(|chain| (*variant, chain))
        })
    }

    /// Every rule that packets may reach in a chain that is neither ours nor that of another controller that is to be
    /// removed.
    pub(super) fn rules_that_stay(&self) -> impl Iterator<Item = SavedRule<'_>> {
        self.rules_but(|text| own_chains(text).into_iter().chain(chains_of_kube_router(text)).collect())
    }

    /// Every rule that packets may reach in a chain that isn't ours.
    pub(super) fn foreign_rules(&self) -> impl Iterator<Item = SavedRule<'_>> {
        self.rules_but(own_chains)
    }

    fn rules_but(&self, without: fn(&TableText) -> BTreeSet<&str>) -> impl Iterator<Item = SavedRule<'_>> {
        self.tables.iter().flat_map(move |((variant, family, table), text)| {
            let own = without(text);
            let in_use = reached(text).into_iter().filter(move |chain| !own.contains(chain));
            in_use.flat_map(move |chain| {
                let rules = text.chains.get(chain).into_iter().flatten();
                let (variant, family) = (*variant, *family);
                rules.map(move |rule| SavedRule { variant, family, table, chain, rule })
            })
        })
    }
}

/// The chains that packets may reach.
fn reached(text: &TableText) -> BTreeSet<&str> {
    let mut open: Vec<&str> = BUILT_IN.into_iter().filter(|chain| text.chains.contains_key(*chain)).collect();
    let mut reached: BTreeSet<&str> = open.iter().copied().collect();
    while let Some(chain) = open.pop() {
        for rule in text.chains.get(chain).into_iter().flatten() {
            let Some((to, _)) = target(rule).and_then(|to| text.chains.get_key_value(to)) else { continue };
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

impl SavedRule<'_> {
    /// The chain or target to which it jumps.
    pub(super) fn target(&self) -> Option<&str> {
        target(self.rule)
    }

    /// The command that removes it.
    pub(super) fn removal(&self) -> String {
        let program = self.variant.edit(self.family);
        format!("{program} -t {} -D {} {}", self.table, self.chain, self.rule)
    }

    /// The bits of packet and connection marks that it explicitly tests or changes. A mask of all bits counts as none.
    pub(super) fn mark_bits(&self) -> u32 {
        let words = words(self.rule);
        let named = words.windows(2).map(|pair| match pair[0] {
            "--mark" | "--set-mark" | "--set-xmark" | "--or-mark" | "--xor-mark" => {
                let (value, mask) = pair[1].split_once('/').unwrap_or((pair[1], "0"));
                number(value) | named_by_mask(mask)
            }
            "--nfmask" | "--ctmask" | "--mask" => named_by_mask(pair[1]),
            _ => 0,
        });
        named.fold(0, |bits, more| bits | more)
    }
}

fn named_by_mask(mask: &str) -> u32 {
    match number(mask) {
        u32::MAX => 0,
        mask => mask,
    }
}

fn number(text: &str) -> u32 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(rule: &str) -> SavedRule<'_> {
        SavedRule { variant: Variant::Legacy, family: Family::V6, table: "mangle", chain: "FORWARD", rule }
    }

    #[test]
    fn bits_of_marks_are_those_a_rule_names() {
        for (text, bits) in [
            ("-j MARK --set-xmark 0x4000/0x4000", 0x4000),
            ("-j MARK --set-xmark 0x8000/0x0", 0x8000),
            ("-m mark ! --mark 0x4000/0x4000 -j RETURN", 0x4000),
            ("-m mark --mark 0x40000/0xff0000 -j ACCEPT", 0xff_0000),
            ("-m connmark --mark 0x1 -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xffffffff", 0xf1),
            ("-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", 0),
            ("-m comment --comment \"say \\\"--mark 0x10000/0x10000\\\" --mark 0x1\" -j ACCEPT", 0),
            ("-s 10.0.0.0/8 -j RETURN", 0),
            ("-j MARK --set-xmark", 0),
        ] {
            assert_eq!(rule(text).mark_bits(), bits, "{text}");
        }
    }

    #[test]
    fn removal_is_a_command_to_type() {
        let hook = rule("-m comment --comment \"a -j b\" -j KUBE-ROUTER-FORWARD");
        assert_eq!(hook.target(), Some("KUBE-ROUTER-FORWARD"));
        assert_eq!(
            hook.removal(),
            "ip6tables-legacy -t mangle -D FORWARD -m comment --comment \"a -j b\" -j KUBE-ROUTER-FORWARD"
        );
    }

    proptest! {
        #[test]
        fn no_rule_makes_the_reader_panic(text in "(\"|\\\\| |--mark |0x|é|/|-j |[0-9]){0,60}") {
            let _ = (rule(&text).mark_bits(), rule(&text).target());
        }
    }
}
