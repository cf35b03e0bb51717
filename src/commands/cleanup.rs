//! `bridgewarden cleanup`: takes out of the kernel all that is ours, and only that.

use super::flags::require_root;
use crate::apply::host::{Host, Variant};
use crate::apply::{Actual, Applier, Kernel, KernelError, Step};
use crate::net::Family;
use crate::netfilter::{Ruleset, Table};
use anyhow::{Context, Result};
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

/// Removes all that Bridgewarden put into this node's kernel.
#[derive(Debug, Args)]
pub(super) struct Cleanup {}

#[derive(Default)]
struct Removed {
    chains: usize,
    sets: usize,
}

impl Cleanup {
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        require_root("cleanup")?;
        let mut removed = Removed::default();
        let mut sets = Vec::new();
        for variant in [Variant::Nft, Variant::Legacy] {
            match remove_rules(variant, &mut removed) {
                Ok(more) => sets = more,
                Err(error @ KernelError::Start { .. }) => {
                    writeln!(out, "iptables-{}: skipped: {error}", variant.name())?;
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot clean up iptables-{}", variant.name()));
                }
            }
        }
        let mut host = Host::new(Variant::Nft)?;
        for step in sets {
            host.commit(&step).context("cannot clean up the sets")?;
            removed.sets += 1;
        }
        writeln!(out, "removed {} chains and {} sets", removed.chains, removed.sets)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes hooks and chains of one variant; returns the steps that destroy the sets, for when no rule is left.
fn remove_rules(variant: Variant, removed: &mut Removed) -> Result<Vec<Step>, KernelError> {
    let mut host = Host::new(variant)?;
    let actual = Actual::read(&mut host)?;
    let nothing = Ruleset {
        tables: Family::BOTH.map(|family| (family, Table::default())).into(),
        ..Ruleset::default()
    };
    let (_, steps) = Applier::adopt(nothing, &actual);
    let (sets, rules): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| matches!(step, Step::DestroySet(_)));
    for step in &rules {
        host.commit(step)?;
    }
    removed.chains += actual.tables.values().map(|table| table.chains.len()).sum::<usize>();
    Ok(sets)
}
