//! The backend `nftables`: one table of nf_tables, changed in one transaction.

use super::{Backend, ConcurrentEdits, Held, Update, View};
use crate::apply::nftables::{Correction, TableApplier, replacement};
use crate::apply::{Actual, BridgeReplacement, Step, TableRead, leftovers, take_tables};
use crate::compile::Delta;
use crate::model::{Direction, PolicyKey};
use crate::net::Family;
use crate::netfilter::nftables::{
    Batch, Change, Field, KeyPart, Meta, NFPROTO_IPV4, NFPROTO_IPV6, Statement, Table, TableFamily,
};
use crate::netfilter::{BackendName, Ruleset};
use crate::ownership::{INET_TABLE, INET_TABLE_NEXT, RESERVED_TABLE};
use crate::render::nftables::TableRenderer;
use crate::render::{Binding, Options, bridge_batches, bridge_table, reserved_table};
use std::collections::BTreeMap;

/// The table of family inet, and the one of family bridge.
#[derive(Clone, Debug)]
pub(super) struct NftablesBackend {
    renderer: TableRenderer,
    /// What the kernel holds; `None` until it was read, and again after a step failed.
    applier: Option<TableApplier>,
}

impl NftablesBackend {
    pub(super) fn new(options: Options) -> NftablesBackend {
        NftablesBackend { renderer: TableRenderer::new(options), applier: None }
    }

    fn binds(&self) -> bool {
        self.options().binding == Binding::Ports
    }

    /// The desired table of family bridge; `None` if there should be none.
    fn bridge(&self, view: View<'_>) -> Option<Table> {
        self.binds().then(|| bridge_table(self.options(), view.cluster, view.plan))
    }

    fn reserved(&self) -> Option<Table> {
        self.binds().then(|| reserved_table(self.options()))
    }
}

impl Backend for NftablesBackend {
    fn ruleset(&mut self, view: View<'_>) -> Ruleset {
        let inet = Some(self.renderer.table(view.cluster, view.plan));
        Ruleset { bridge: self.bridge(view), reserved: self.reserved(), inet, ..Ruleset::default() }
    }

    fn adopt(&mut self, view: View<'_>, delta: &Delta, actual: &Actual) -> Vec<Step> {
        let nothing = Table::new(TableFamily::Inet, INET_TABLE);
        let held = if actual.inet == TableRead::Absent { Some(&nothing) } else { actual.inet.kept() };
        self.renderer.forget(view.plan, delta);
        if let Some(held) = held {
            self.renderer.continue_from(held);
        }
        let (applier, correction) = TableApplier::adopt(self.renderer.table(view.cluster, view.plan), held);
        self.applier = Some(applier);
        let bridge = BridgeReplacement::adopting(self.bridge(view), actual);
        let reserved = self.reserved();
        let reserved = actual.reserved.replaced(TableFamily::Inet, RESERVED_TABLE, reserved.as_ref());
        let mut steps = Vec::from_iter(take_tables(actual));
        steps.extend(bridge.before.map(|batch| Step::Transact(vec![batch])));
        steps.extend(adopt_inet(correction, actual, bridge.beside.into_iter().chain(reserved).collect()));
        steps.extend(bridge.after.map(|batch| Step::Transact(vec![batch])));
        steps.extend(leftovers(BackendName::Nftables, actual));
        steps
    }

    fn update(&mut self, view: View<'_>, delta: &Delta) -> Update {
        let edit = self.renderer.edit(view.cluster, view.plan, delta);
        let bridge = match self.binds() {
            true => bridge_batches(view.cluster, view.plan, delta),
            false => [None, None],
        };
        let Some(applier) = &mut self.applier else { return Update::default() };
        let [before, after] = bridge.map(Vec::from_iter);
        Update { steps: transactions(before, applier.edit(edit), after), concurrent: None }
    }

    /// Writes nothing during a transaction: the kernel carries out one at a time.
    fn update_concurrently(
        &mut self,
        view: View<'_>,
        delta: &Delta,
        _concurrent: &ConcurrentEdits,
    ) -> Option<Vec<Step>> {
        self.applier.is_some().then(|| self.update(view, delta).steps)
    }

    fn forget(&mut self) {
        self.applier = None;
    }

    fn is_adopted(&self) -> bool {
        self.applier.is_some()
    }

    fn held(&self) -> Option<[(Family, Held); 2]> {
        let applier = self.applier.as_ref()?;
        Some(Family::BOTH.map(|family| (family, held(applier, family))))
    }

    fn policy_counters(&self) -> BTreeMap<Box<str>, (PolicyKey, Direction)> {
        self.renderer.policy_counters()
    }

    fn options(&self) -> &Options {
        self.renderer.options()
    }

    fn boxed_clone(&self) -> Box<dyn Backend> {
        Box::new(self.clone())
    }
}

/// One transaction: the changes of the table of family inet between those of the table of family bridge that come
/// before and after them. What [`Batch::take_chains`] or [`Batch::take_ahead`] removes from it gets transactions ahead of it.
fn transactions(before: Vec<Batch>, mut inet: Option<Batch>, after: Vec<Batch>) -> Vec<Step> {
    let ahead = |batch: &mut Batch| match batch.take_chains() {
        Some(chains) => vec![chains],
        None => batch.take_ahead(),
    };
    let ahead = inet.as_mut().map(ahead).unwrap_or_default();
    let together: Vec<Batch> = before.into_iter().chain(inet).chain(after).collect();
    ahead
        .into_iter()
        .map(|batch| vec![batch])
        .chain([together])
        .filter(|batches| batches.iter().any(|batch| !batch.changes.is_empty()))
        .map(Step::Transact)
        .collect()
}

/// Makes the table of family inet what it is to be, and carries out `bridge` in the transaction that brings its rules into force. What
/// an agent left that was ended while it replaced the table goes in a transaction of its own, as in [`replacement`].
fn adopt_inet(correction: Correction, actual: &Actual, mut bridge: Vec<Batch>) -> Vec<Step> {
    let remove_next = || Step::Transact(vec![Batch::deleting(TableFamily::Inet, INET_TABLE_NEXT)]);
    let next = (actual.inet_next != TableRead::Absent).then(remove_next);
    match correction {
        Correction::Replace(table) if actual.inet_next.is_in_force() => {
            bridge.push(Batch::replacing(&table));
            [Step::Transact(bridge)].into_iter().chain(next).collect()
        }
        Correction::Replace(table) => {
            let transactions = replacement(&table, INET_TABLE_NEXT, bridge);
            next.into_iter().chain(transactions.into_iter().map(Step::Transact)).collect()
        }
        Correction::Edit(mut inet) => {
            if let (TableRead::Absent, Some(batch)) = (&actual.inet, &mut inet) {
                batch.changes.insert(0, Change::AddTable);
            }
            transactions(Vec::new(), inet, bridge).into_iter().chain(next).collect()
        }
    }
}

/// Counts the objects for one family. Chains, sets of ports and rules that match no family count for both.
fn held(applier: &TableApplier, family: Family) -> Held {
    let (other_part, other_number) = match family {
        Family::V4 => (KeyPart::Ipv6, NFPROTO_IPV6),
        Family::V6 => (KeyPart::Ipv4, NFPROTO_IPV4),
    };
    let asks_for_other = |statement: &Statement| matches!(statement, Statement::Compare { field: Field::Meta(Meta::NfProto), value, .. } if **value == [other_number]);
    let rules = applier.chains().flatten().filter(|rule| !rule.statements().iter().any(asks_for_other));
    let sets = || applier.sets().filter(|(kind, _)| !kind.key.contains(&other_part));
    Held {
        chains: applier.chains().count(),
        rules: rules.count(),
        sets: sets().count(),
        elements: sets().map(|(_, count)| count).sum(),
    }
}

#[cfg(test)]
mod tests;
