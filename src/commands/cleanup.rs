//! `bridgewarden cleanup`: removes everything of this program from the kernel, and nothing else, and reports what it
//! could not remove or check.

use super::flags::require_root;
use crate::apply::iptables::removal;
use crate::apply::{ActualTable, KernelError, PacketFilter, Step};
use crate::kernel::{Host, Lock};
use crate::net::Family;
use crate::netfilter::iptables::Variant;
use crate::netfilter::{BackendName, ChainName, SetName};
use crate::ownership::{POLICY_PREFIX, SCRATCH, own_tables, owns_set};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// Removes all that Bridgewarden put into this node's kernel.
#[derive(Debug, Args)]
pub(super) struct Cleanup {}

/// What was removed, and what was not.
#[derive(Default)]
struct CleanupOutcome {
    chains: usize,
    sets: usize,
    tables: usize,
    left: Vec<String>,
}

impl Cleanup {
    /// Returns exit code 1 if something is left, or may be.
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        require_root("cleanup")?;
        let Some(_lock) = Lock::take().context("cannot take the lock of this network namespace")? else {
            bail!(
                "Bridgewarden is running in this network namespace and would restore what this command removes. Stop it first: delete \
                 its DaemonSet, or see who it is: {}",
                Lock::holder_command()
            );
        };
        let mut outcome = CleanupOutcome::default();
        // This backend needs neither iptables nor ipset.
        let mut host = Host::new(BackendName::Nftables)?;
        for variant in Variant::BOTH {
            for family in Family::BOTH {
                if let Err(error) = remove_rules(&mut host, variant, family, &mut outcome) {
                    let table = format!("the filter table of iptables-{} ({family})", variant.name());
                    outcome.left.push(format!("what may be in {table}: {error}"));
                }
            }
        }
        remove_tables(&mut host, &mut outcome);
        remove_sets(&mut host, &mut outcome);
        let CleanupOutcome { chains, sets, tables, .. } = outcome;
        writeln!(out, "removed {chains} chains, {sets} sets and {tables} tables of nftables")?;
        for left in &outcome.left {
            writeln!(out, "left: {left}")?;
        }
        Ok(if outcome.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Removes the hooks and chains of one variant and family.
fn remove_rules(
    host: &mut Host,
    variant: Variant,
    family: Family,
    outcome: &mut CleanupOutcome,
) -> Result<(), KernelError> {
    let Some(text) = host.look(variant, family)? else { return Ok(()) };
    let scratch: Vec<ChainName> =
        ChainName::new(SCRATCH).into_iter().filter(|name| text.chains.contains_key(name.as_str())).collect();
    let Some(step) = removal(variant, family, &ActualTable::of(&text), &scratch) else { return Ok(()) };
    host.commit(&step)?;
    let table = format!("iptables-{} ({family})", variant.name());
    let after = host.look(variant, family)?.unwrap_or_default();
    let left = ActualTable::of(&after);
    outcome.chains += text.chains.len().saturating_sub(after.chains.len());
    for chain in left.chains.keys() {
        outcome.left.push(format!(
            "chain {chain} of {table}, empty: a rule that is not Bridgewarden's leads to it. See {} -S | grep {chain}",
            variant.edit(family)
        ));
    }
    for (builtin, hooks) in &left.jumps {
        outcome.left.extend(
            hooks.iter().map(|(_, rule)| {
                format!("rule {rule} in {builtin} of {table}: another program added it again")
            }),
        );
    }
    host.remove_empty_table(variant, family)
}

/// Removes the nf_tables tables that only this program uses.
fn remove_tables(host: &mut Host, outcome: &mut CleanupOutcome) {
    let there = host.read_nft_tables().unwrap_or_else(|error| {
        outcome.left.push(format!("tables of nftables, which cannot be listed: {error}"));
        BTreeMap::new()
    });
    for table in own_tables() {
        if there.contains_key(&table) {
            match host.commit(&Step::RemoveNftTable(table.clone())) {
                Ok(()) => outcome.tables += 1,
                Err(error) => outcome.left.push(format!("table {table}: {error}")),
            }
        }
    }
}

fn remove_sets(host: &mut Host, outcome: &mut CleanupOutcome) {
    let read = host.read_sets(POLICY_PREFIX).and_then(|mut sets| {
        sets.retain(|name, _| owns_set(name.as_str()));
        sets.extend(host.read_sets(SCRATCH)?);
        Ok(sets.into_keys().collect::<Vec<SetName>>())
    });
    let names = read.unwrap_or_else(|error| {
        outcome.left.push(format!("sets, which cannot be read: {error}"));
        Vec::new()
    });
    for name in names {
        match host.commit(&Step::DestroySet(name.clone())) {
            Ok(()) => outcome.sets += 1,
            Err(error) => outcome.left.push(format!("set {name}: {error}")),
        }
    }
}
