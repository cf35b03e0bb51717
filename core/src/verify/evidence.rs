//! What was read from a kernel.

use crate::apply::{Actual, TableRead};
use crate::render::Options;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What was read from a kernel, and with which options its rules are to be written.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The options.
    pub options: Options,
    /// The rules, sets and tables.
    pub actual: Actual,
    /// Whether the bridge shows bridged packets of each family to the packet filter, in the order of
    /// [`Family::BOTH`](crate::net::Family::BOTH) (net.bridge.bridge-nf-call-iptables, -ip6tables).
    pub sees_bridged: [bool; 2],
}

impl Evidence {
    /// The SHA-256 digest, in hexadecimal, of what was read: of the same rules, sets and tables it is the same.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        let Ok(()) = self.write(&mut text) else { return String::new() };
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for ((variant, family), table) in &self.actual.tables {
            writeln!(text, "{variant:?} {family}")?;
            for (chain, rules) in &table.chains {
                match rules {
                    Some(rules) => rules.iter().try_for_each(|rule| writeln!(text, "{chain}: {rule}"))?,
                    None => writeln!(text, "{chain}: ?")?,
                }
            }
            for (chain, jumps) in &table.jumps {
                jumps.iter().try_for_each(|(place, rule)| writeln!(text, "{chain} {place}: {rule}"))?;
            }
            for (chain, rules) in &table.ahead {
                rules.iter().try_for_each(|rule| writeln!(text, "ahead {chain}: {rule}"))?;
            }
        }
        self.actual.sets.iter().for_each(|(name, set)| text.push_str(&set.text(name)));
        for (family, read) in [("bridge", &self.actual.bridge), ("inet", &self.actual.inet)] {
            match read {
                TableRead::Absent => writeln!(text, "{family} absent")?,
                TableRead::Foreign => writeln!(text, "{family} not understood")?,
                TableRead::Ours { table, .. } => writeln!(text, "{table}")?,
            }
        }
        self.actual.dormant.iter().try_for_each(|table| writeln!(text, "dormant {table}"))?;
        writeln!(text, "{:?}", self.sees_bridged)
    }
}
